"""Every plugin that is installed passes the conformance kit: nobody has a privilege."""

from __future__ import annotations

from gradsim.contracts import registry
from gradsim.testing import conformance
from gradsim_cells import GRU, LSTM, Elman
from gradsim_mitigations import JacobianPenalty, Truncate, WeightDecay
from gradsim_optimizers import SGD, Adam, RMSprop
from gradsim_schedules import Cosine, Warmup

READ_A_FILE = ("csv", "npz")
"""Tasks that need one: tests/plugins/test_data_tasks.py makes these checks."""

FOR_GATES = ("chrono_init", "forget_bias_init")
"""Mitigations that a cell without gates refuses."""


def shipped(family, without=()):
    found = registry.catalogue()
    ours = {n: d.split()[0] == "gradsim" for n, d in found.distributions.items()}
    return [
        cls()
        for name, cls in found.plugins[family].items()
        if ours[f"{family}/{name}"] and name not in (*READ_A_FILE, *without)
    ]


test_cells = conformance(*shipped("cells"))
test_mitigations = conformance(*shipped("mitigations", FOR_GATES))
test_tasks = conformance(*shipped("tasks"))
test_recorders = conformance(*shipped("recorders"))
test_optimizers = conformance(*shipped("optimizers"))
test_schedules = conformance(*shipped("schedules"))
test_initializers = conformance(*shipped("initializers"))
test_layouts = conformance(*shipped("layouts"))

# The other forms that some of them take, and sizes that differ from each other.
test_other_cells = conformance(
    Elman(input_size=3, hidden_size=5, activation="relu"),
    Elman(input_size=3, hidden_size=5, activation="logistic"),
    GRU(input_size=3, hidden_size=5, reset_after=False),
    LSTM(input_size=3, hidden_size=5, forget_bias=3.0),
)
test_other_mitigations = conformance(
    JacobianPenalty(form="squared_ratio"),
    Truncate(k1=1, k2=2),
    WeightDecay(l2=0.1, l1=0.2),
)
test_other_optimizers = conformance(
    SGD(momentum=0.9),
    SGD(momentum=0.9, nesterov=True),
    RMSprop(momentum=0.5, centred=True),
    Adam(schedule=Warmup(length=3, after=Cosine())),
)
test_other_schedules = conformance(Warmup(length=3, after=Cosine(final=0.1)))
test_mitigations_of_an_lstm = conformance(*shipped("mitigations"), cell=LSTM(input_size=2, hidden_size=3))


def test_all_that_can_be_idle_say_how():
    """All but rules, and other cells, weights and directions, which have no strength that could be zero."""
    never = {m.name for m in shipped("mitigations") if m.idle is None and not hasattr(m, "gradsim_rule")}
    assert never == {
        "chrono_init",
        "critical_init",
        "forget_bias_init",
        "gate",
        "gradient_centralisation",
        "identity_init",
        "layer_norm",
        "orthogonal_init",
        "orthogonal_weights",
        "residual",
        "soft_cap",
        "spectral_norm",
        "stiefel",
    }

"""Every plugin that is installed passes the conformance kit: nobody has a privilege."""

from __future__ import annotations

from gradsim import registry
from gradsim.testing import conformance
from gradsim_cells import GRU, LSTM, Elman
from gradsim_mitigations import JacobianPenalty, OrthogonalInit, Truncate, WeightDecay


def shipped(family):
    found = registry.catalogue()
    ours = {n: d.split()[0] == "gradsim" for n, d in found.distributions.items()}
    return [cls() for name, cls in found.plugins[family].items() if ours[f"{family}/{name}"]]


test_cells = conformance(*shipped("cells"))
test_mitigations = conformance(*shipped("mitigations"))
test_tasks = conformance(*shipped("tasks"))
test_recorders = conformance(*shipped("recorders"))

# The other forms that some of them take, and sizes that differ from each other.
test_other_cells = conformance(
    Elman(input_size=3, hidden_size=5, activation="relu"),
    Elman(input_size=3, hidden_size=5, activation="logistic"),
    GRU(input_size=3, hidden_size=5, reset_after=False),
    LSTM(input_size=3, hidden_size=5, forget_bias=3.0),
)
test_other_mitigations = conformance(
    JacobianPenalty(form="squared_ratio"),
    OrthogonalInit(gain=0.5, names=("W",)),
    Truncate(k1=1, k2=2),
    WeightDecay(l2=0.1, l1=0.2),
)
test_mitigations_of_an_lstm = conformance(*shipped("mitigations"), cell=LSTM(input_size=2, hidden_size=3))

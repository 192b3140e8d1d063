"""What an experiment asks for reaches the run."""

from __future__ import annotations

import pytest
from experiments import tables, training

import gradsim
from gradsim.errors import InputError
from gradsim.experiment.build import build
from gradsim.experiment.kinds import TRAINING, default_record
from gradsim_cells import Elman
from gradsim_mitigations import RTRL, ClipNorm, Gate, Truncate
from gradsim_tasks import Adding


def test_the_values_of_an_experiment_reach_the_simulation():
    given = tables(
        seed=7,
        batch=3,
        dtype="float32",
        record=["loss", "product_norm"],
        pairs={"max_lag": 4},
        mitigations=[{"name": "leak", "rate": 0.5}, {"name": "clip_norm"}],
    )
    (run,) = build(given, name="e")
    simulation = run.prepare()
    assert simulation.plan.problem.batch == 3
    assert simulation.plan.problem.dtype == "float32"
    assert simulation.plan.problem.lags == 4
    assert simulation.provenance["seed"]["entropy"] == "7"
    assert simulation.provenance["record"] == ["loss", "product_norm"]
    assert simulation.provenance["mitigations"] == [
        {"name": "leak", "rate": 0.5},
        {"name": "clip_norm", "max_norm": 1.0, "where": "gradient"},
    ]


def test_what_is_recorded_by_default_follows_the_mitigations():
    assert "effective_adjoint" not in default_record([Gate()])
    assert "effective_gradient_norm" in default_record([ClipNorm()])
    assert "effective_product_norm" in default_record([Truncate()])
    both = default_record([Truncate(), ClipNorm(where="adjoint")])
    assert "effective_adjoint_factor" in both
    assert "effective_product_norm" not in both


@pytest.mark.parametrize("mitigation", [RTRL(), ClipNorm(where="contribution"), ClipNorm(), Gate()], ids=repr)
def test_what_is_recorded_by_default_exists_and_shows_the_change(mitigation):
    record = default_record([mitigation])
    ds = gradsim.simulate(
        Elman(2, 3), task=Adding(length=20), batch=2, mitigations=[mitigation], record=record
    )
    changes_the_gradient = not isinstance(mitigation, Gate)  # a gate is another cell, with its own raw run
    assert ("effective_gradient_norm" in ds) == changes_the_gradient


def test_the_values_of_an_experiment_reach_the_training():
    given = training(
        task={"name": "japanese_vowels"},
        updates=None,
        epochs=2,
        batch=25,
        seed=5,
        dtype="float32",
        optimizer={
            "name": "sgd",
            "momentum": 0.5,
            "schedule": {"name": "warmup", "length": 3, "after": "cosine"},
        },
        mitigations=[{"name": "clip_norm"}],
        record={"every": 4, "recorders": ["loss", "product_norm"], "batch": 2, "pairs": {"lags": [1, 3]}},
        validate={"every": 3},
        stop={"patience": 2},
        watch=False,
    )
    (run,) = build(given, TRAINING, name="e")
    setup = run.prepare().setup
    settings = setup.provenance["training"]
    assert setup.updates == 18  # 2 epochs of 225 sequences
    assert setup.model.dtype == "float32"
    assert setup.provenance["seed"]["entropy"] == "5"
    assert settings["optimizer"] == {
        "name": "sgd",
        "learning_rate": 0.01,
        "momentum": 0.5,
        "nesterov": False,
        "schedule": {"name": "warmup", "length": 3, "after": {"name": "cosine", "final": 0.0}},
    }
    assert setup.watch is None
    assert settings["record"]["recorders"] == ["loss", "product_norm"]
    assert settings["record"]["pairs"]["lags"] == (1, 3)
    assert (settings["record"]["every"], settings["validate"]["every"], settings["stop"]["patience"]) == (
        4,
        3,
        2,
    )


@pytest.mark.parametrize(
    ("task", "batch"), [({"name": "adding"}, 32), ({"name": "sunspots", "length": 30}, 7)]
)
def test_a_batch_is_32_sequences_or_all_that_there_are(task, batch):
    (run,) = build(training(task=task), TRAINING, name="e")
    assert run.prepare().setup.problem.batch == batch


def test_an_error_of_a_run_names_the_run():
    runs = build(tables(pairs={"sources": [99]}), name="mine")
    with pytest.raises(InputError, match="mine: pairs: sources should lie in"):
        runs[0].prepare()
    given = training(compare=[{"label": "other", "stateful": True}])
    _, other = build(given, TRAINING, name="mine")
    with pytest.raises(InputError, match="mine-other: stateful: the sequences of adding do not follow"):
        other.prepare()

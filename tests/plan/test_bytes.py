"""The memory that a plan says, against what a run takes."""

from __future__ import annotations

import tracemalloc

import pytest
from probes.mitigations import SmallJacobians
from sru import SRU

import gradsim
import gradsim.run.trial
from gradsim import Pairs
from gradsim.plan.bytes import kept
from gradsim.run.trial import shortened
from gradsim_cells import GRU, LSTM, Elman, MinGRU
from gradsim_mitigations import (
    RTRL,
    Flossing,
    JacobianPenalty,
    JacobianRegulariser,
    NormStabiliser,
    SnAp,
    Truncate,
)
from gradsim_recorders import InfluenceNormRecorder
from gradsim_tasks import Adding

BOTH = ["adjoint_norm", "gradient", "effective_adjoint_norm", "effective_gradient"]


def prepared(cell, steps, batch, record, **more):
    return gradsim.prepare(cell, task=Adding(length=steps), batch=batch, record=record, **more)


MEMORY = {
    "halving": (Elman(2, 48), 500, 4, ["product_norm"], {}),
    "diagonal": (MinGRU(2, 64), 900, 2, ["product_norm"], {}),
    "band": (GRU(2, 24), 2_000, 4, ["product_norm"], {"pairs": Pairs(max_lag=40)}),
    "products": (Elman(2, 24), 100, 2, ["jacobian_product"], {"dtype": "float32"}),
    "kept": (LSTM(2, 64), 5_000, 4, ["gradient", "adjoint_norm"], {}),
    "contributions": (GRU(2, 64), 2_000, 2, ["contribution_norm"], {}),
    "penalty": (GRU(2, 16), 1_000, 4, BOTH, {"mitigations": [JacobianPenalty()]}),
    "penalty on Jacobians": (LSTM(2, 24), 200, 4, BOTH, {"mitigations": [SmallJacobians()]}),
    "rule": (Elman(2, 48), 100, 8, BOTH[-1:], {"mitigations": [RTRL()]}),
    "rule within units": (LSTM(2, 48), 100, 8, BOTH[-1:], {"mitigations": [SnAp()]}),
    "norms": (LSTM(2, 24), 1_000, 4, BOTH, {"mitigations": [NormStabiliser()]}),
    "regularised": (LSTM(2, 24), 400, 4, BOTH, {"mitigations": [JacobianRegulariser()]}),
    "flossed": (LSTM(2, 24), 400, 4, BOTH, {"mitigations": [Flossing()]}),
    "a few flossed": (LSTM(2, 24), 400, 4, BOTH, {"mitigations": [Flossing(exponents=3)]}),
    "lyapunov": (LSTM(2, 16), 300, 8, ["lyapunov"], {}),
    "loss rows": (MinGRU(2, 64), 5_000, 2, ["loss_adjoint_norm"], {"pairs": Pairs(times=(-1,))}),
    "lags": (LSTM(2, 32), 300, 4, ["gradient_by_lag"], {}),
    "lags of both": (Elman(2, 48), 200, 4, ["gradient_bias_by_lag"], {"mitigations": [Truncate(5, 20)]}),
    "forward": (MinGRU(2, 128), 2_000, 64, ["loss"], {}),
    "influence": (Elman(2, 64), 100, 4, ["influence_norm"], {}),
    "probes": (GRU(2, 128), 60, 8, [InfluenceNormRecorder(probes=64)], {}),
    "parallelizability": (LSTM(2, 64), 200, 4, ["parallelizability"], {}),
    "learnability": (GRU(2, 64), 300, 4, ["learnability_envelope_diagonal"], {}),
    "output": (SRU(2), 5_000, 64, ["gradient"], {}),
}


@pytest.mark.parametrize("name", MEMORY)
def test_a_run_takes_the_memory_that_the_plan_says(name):
    """Arrays only; benchmarks/plan.py compares whole processes."""
    cell, steps, batch, record, more = MEMORY[name]
    simulation = prepared(cell, steps, batch, record, **more)
    shortened(simulation, 8, 1).run()  # what is loaded or compiled now is none of the run
    tracemalloc.start()
    simulation.run()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    said = simulation.plan.expected_bytes(None)
    assert 0.9 * said < 1.5 * peak + 2**24
    assert peak < 1.1 * said


STATE, ITEM = 6, 4
STEP = 3 * STATE * ITEM
"""Of LSTM(2, 3), three sequences, in float32: the states of one time; a step Jacobian is STATE of them."""
NONE = dict.fromkeys(
    ("states", "losses by state", "adjoints", "step Jacobians", "gradients by lag", "open chunks"), 0
)


@pytest.mark.parametrize(
    ("record", "mitigations", "expected"),
    [
        (["gradient"], [], {}),
        (
            ["loss_adjoint_norm"],
            [],
            {"losses by state": 21 * STEP, "step Jacobians": 20 * STATE * STEP},
        ),
        (["effective_gradient"], [JacobianPenalty()], {"states": 21 * STEP, "adjoints": 21 * STEP}),
        (["gradient"], [JacobianPenalty()], {}),
        (
            ["effective_gradient"],
            [SmallJacobians()],
            {"states": 21 * STEP, "step Jacobians": 20 * STATE * STEP},
        ),
        (["product_norm"], [], {"step Jacobians": 20 * STATE * STEP}),
        (
            ["product_norm", "effective_product_norm"],
            [Truncate(2, 3)],
            {"step Jacobians": 2 * 20 * STATE * STEP},
        ),
        (
            ["product_norm", "effective_product_norm"],
            [JacobianPenalty()],
            {"step Jacobians": 20 * STATE * STEP},
        ),
    ],
    ids=range(8),
)
def test_what_stays_takes_the_bytes_of_its_shape(record, mitigations, expected):
    """So small a run is one job, which needs all step Jacobians; changed ones lie beside the raw."""
    plan = prepared(LSTM(2, 3), 20, 3, record, mitigations=mitigations, dtype="float32").plan
    found = kept(plan)
    variables = {v.name: v.bytes(plan.problem) for _, v in plan.variables()}
    # Inputs, and a target and a weight of float64 for each.
    assert found == {"inputs": 20 * 3 * (2 * ITEM + 16)} | NONE | expected | variables


def test_what_goes_to_disk_waits_in_two_chunks_at_most():
    plan = prepared(LSTM(2, 3), 20, 3, ["adjoint", "state", "gradient"], in_memory=False).plan
    assert kept(plan)["open chunks"] == 2 * 2 * 21 * 3 * STATE * 8
    assert not {"adjoint", "state"} & set(kept(plan))

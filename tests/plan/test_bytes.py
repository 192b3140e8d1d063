"""The memory that a plan says, against what a run takes."""

from __future__ import annotations

import tracemalloc

import pytest
from probes.mitigations import JacobianRegulariser

import gradsim
import gradsim.run.trial
from gradsim import Pairs
from gradsim.run.trial import shortened
from gradsim_cells import GRU, LSTM, Elman, MinGRU
from gradsim_mitigations import JacobianPenalty
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
    "penalty on Jacobians": (LSTM(2, 24), 200, 4, BOTH, {"mitigations": [JacobianRegulariser()]}),
    "lyapunov": (LSTM(2, 24), 300, 8, ["lyapunov"], {}),
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

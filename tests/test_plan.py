"""What a plan says beforehand, against counts of what a run does and the memory that it takes."""

from __future__ import annotations

import errno
import tracemalloc
from dataclasses import dataclass

import numpy as np
import pytest
import xarray as xr

import gradsim
import gradsim.run.trial
from gradsim import Pairs
from gradsim.cli.plan import duration
from gradsim.data.zarr_sink import ZarrSink
from gradsim.engine import segments as cuts
from gradsim.errors import IncompleteRunError, NonFiniteError, StoreError
from gradsim.plan import plan
from gradsim.run.estimate import estimate
from gradsim.run.trial import shortened
from gradsim_cells import GRU, LSTM, Elman, MinGRU
from gradsim_mitigations import JacobianPenalty, Truncate
from gradsim_tasks import Adding

BOTH = ["adjoint_norm", "gradient", "effective_adjoint_norm", "effective_gradient"]


def prepared(cell, steps, batch, record, **more):
    return gradsim.prepare(cell, task=Adding(length=steps), batch=batch, record=record, **more)


@dataclass(frozen=True, eq=False)
class Ticking(Elman):
    """Its steps take a millisecond for each sequence, by a clock of the test; nothing else takes time."""

    name = "ticking"

    def unroll(self, params, state, inputs, step_data, parallel):
        clock[0] += 1e-3 * inputs[..., 0].size
        return super().unroll(params, state, inputs, step_data, parallel)


clock = [0.0]


@pytest.fixture
def ticks(monkeypatch):
    monkeypatch.setattr(gradsim.run.trial.time, "perf_counter", lambda: clock[0])

    def of_run(simulation, memory=None):
        start = clock[0]
        simulation.run(threads=1, memory=memory)
        return clock[0] - start

    return of_run


@pytest.mark.parametrize("steps", [20, 700, 3_000])
def test_the_time_of_steps_is_found_from_fewer_of_them(ticks, steps):
    simulation = prepared(Ticking(2, 4), steps, 2, ["state"])
    found = estimate(simulation, threads=1)
    assert found.seconds["forward"] == pytest.approx(ticks(simulation))
    assert found.time - found.seconds["start"] == pytest.approx(found.seconds["forward"])


@pytest.mark.parametrize("room", [0, 3, 20])
@pytest.mark.parametrize(
    ("mitigations", "record"),
    [
        ([], ["gradient"]),
        ([Truncate(5, 9)], ["effective_gradient"]),
        ([Truncate(5, 9)], ["gradient", "effective_gradient"]),
        ([Truncate(5, 9)], ["gradient", "effective_gradient", "effective_lyapunov"]),
        ([Truncate(5, 9)], ["gradient", "product_norm", "effective_gradient"]),
    ],
)
def test_steps_that_are_taken_again_are_counted(ticks, monkeypatch, room, mitigations, record):
    monkeypatch.setattr(cuts, "_STATE_BYTES", 8 * 8 * 8)  # segments of 8 steps
    monkeypatch.setattr(plan, "_TAPE_BYTES", room * 8 * 8 * 8)
    simulation = prepared(Ticking(2, 4), 512, 2, record, mitigations=mitigations)
    assert (simulation.plan.schedule(None).recomputed() > 0) == (room < 64)
    found = estimate(simulation, threads=1)
    assert found.seconds["forward"] == pytest.approx(ticks(simulation))


@pytest.mark.parametrize("record", [["product_norm"], ["product_norm", "gradient", "effective_product_norm"]])
def test_steps_that_are_taken_again_for_want_of_room_for_jacobians_are_counted(ticks, monkeypatch, record):
    monkeypatch.setattr(cuts, "_STATE_BYTES", 8 * 8 * 8)
    simulation = prepared(Ticking(2, 16), 256, 12, record, mitigations=[Truncate(5, 9)])
    least = simulation.plan.memory_bytes
    assert len(simulation.plan.rounds(least)) > 1
    found = estimate(simulation, threads=1, memory=least)
    assert found.seconds["forward"] == pytest.approx(ticks(simulation, least))


def test_an_estimate_changes_nothing(tmp_path):
    def run(first):
        simulation = prepared(LSTM(2, 3), 60, 2, BOTH, mitigations=[Truncate(5, 9)], in_memory=False)
        if first:
            estimate(simulation)
        return simulation.run(store=tmp_path / str(first)).load()

    xr.testing.assert_identical(run(True), run(False))


def test_a_trial_as_long_as_the_run_is_the_run():
    simulation = prepared(LSTM(2, 3), 60, 3, BOTH, mitigations=[Truncate(5, 9)])
    xr.testing.assert_identical(shortened(simulation, 60, 3).run(), simulation.run())


def test_a_trial_is_the_end_of_the_run():
    simulation = prepared(Elman(2, 3), 60, 4, ["loss", "gradient"])
    short = shortened(simulation, 25, 2)
    np.testing.assert_array_equal(short.setup.inputs, simulation.setup.inputs[35:, :2])
    assert short.run().attrs["loss"] > 0  # the loss is at the last step


@pytest.mark.parametrize(
    ("given", "fitting"),
    [
        ({}, {}),
        ({"max_lag": 5}, {"max_lag": 5}),
        ({"lags": (1, 5, 70)}, {"lags": (1, 5)}),
        ({"lags": (70,)}, {"lags": (25,)}),
        ({"times": (-1, 50), "sources": (0, 20)}, {"times": (12, 25), "sources": (0, 5)}),
    ],
)
def test_the_pairs_of_a_trial(given, fitting):
    simulation = prepared(Elman(2, 3), 100, 1, ["product_norm"], pairs=Pairs(**given))
    assert shortened(simulation, 25, 1).plan.problem.pairs == Pairs(**fitting)
    shortened(simulation, 25, 1).run()


def test_a_trial_fails_as_the_run_would():
    simulation = gradsim.prepare(
        Elman(1, 2, activation="relu"),
        np.ones((5_000, 1, 1)),
        params={"W": 9 * np.eye(2), "U": np.ones((2, 1)), "b": np.ones(2)},
        record=["state"],
    )
    with pytest.raises(NonFiniteError, match="state is"):
        estimate(simulation)


MEMORY = {
    "halving": (Elman(2, 48), 500, 4, ["product_norm"], {}),
    "diagonal": (MinGRU(2, 64), 900, 2, ["product_norm"], {}),
    "band": (GRU(2, 24), 2_000, 4, ["product_norm"], {"pairs": Pairs(max_lag=40)}),
    "products": (Elman(2, 24), 100, 2, ["jacobian_product"], {"dtype": "float32"}),
    "kept": (LSTM(2, 64), 5_000, 4, ["gradient", "adjoint_norm"], {}),
    "contributions": (GRU(2, 64), 2_000, 2, ["contribution_norm"], {}),
    "penalty": (GRU(2, 16), 1_000, 4, BOTH, {"mitigations": [JacobianPenalty()]}),
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


def test_a_full_disk_is_explained(tmp_path, monkeypatch):
    def full(self, name, bounds, array):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ZarrSink, "close", full)
    with pytest.raises(StoreError, match=f"the disk is full: {tmp_path}/run holds .* free some space"):
        gradsim.simulate(Elman(2, 3), np.ones((9, 1, 2)), store=tmp_path / "run")
    with pytest.raises(IncompleteRunError, match="'failed'"):
        gradsim.open_run(tmp_path / "run")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.2, "1 s"), (59.4, "59 s"), (61, "1 min"), (3_500, "58 min"), (8_000, "2 h"), (200_000, "2 days")],
)
def test_times_for_people(seconds, said):
    assert duration(seconds) == said

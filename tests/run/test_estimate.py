"""The time that an estimate says, against counts of what a run does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import xarray as xr

import gradsim
import gradsim.run.trial
from gradsim.engine import segments as cuts
from gradsim.errors import NonFiniteError
from gradsim.plan import plan
from gradsim.run.estimate import estimate
from gradsim_cells import LSTM, Elman
from gradsim_mitigations import Truncate
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


def test_a_trial_fails_as_the_run_would():
    simulation = gradsim.prepare(
        Elman(1, 2, activation="relu"),
        np.ones((5_000, 1, 1)),
        params={"U": 9 * np.eye(2), "W": np.ones((2, 1)), "b": np.ones(2)},
        record=["state"],
    )
    with pytest.raises(NonFiniteError, match="state is"):
        estimate(simulation)

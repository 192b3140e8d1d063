"""The forward pass: steps that break the contract, and the tape that gives states back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

import gradsim
from gradsim import Cell
from gradsim.contracts.trajectory import Trajectory, one_by_one
from gradsim.engine.forward import Tape
from gradsim.engine.revolve import Schedule
from gradsim.errors import NonFiniteError, PluginError
from gradsim_cells import Elman, Linear

X = np.random.default_rng(0).standard_normal((6, 3, 2))


@dataclass(frozen=True, eq=False)
class Bad(Cell):
    """A cell that breaks one rule of `step`."""

    name = "bad"
    rule: str
    input_size: int = 2

    @property
    def blocks(self):
        return {"h": 3}

    def init_params(self, rng):
        return {"w": np.ones(3)}

    def step(self, params, state, inputs, xp):
        if self.rule == "changes":
            state *= 2
        if self.rule == "shape":
            return state[..., :2]
        if self.rule == "dtype":
            return (state + params["w"]).astype("float16")
        return state + xp.log(inputs[..., :1]) if self.rule == "nan" else state * params["w"]


@pytest.mark.parametrize(
    ("rule", "error", "message"),
    [
        ("changes", PluginError, r"step\(\) changes its argument state"),
        ("shape", PluginError, r"returned shape \(3, 2\) for a state of shape \(3, 3\)"),
        ("dtype", PluginError, "returned dtype float16 for float64"),
        ("nan", NonFiniteError, r"the state is nan for the first time at time \d, batch \d"),
    ],
)
def test_a_step_that_breaks_the_contract_is_named(rule, error, message):
    with pytest.raises(error, match=message):
        gradsim.simulate(Bad(rule), X, initial_state=np.ones(3))


class Counting(Elman):
    """Says how many steps were taken and how many states are alive at most."""

    def unroll(self, params, state, inputs, step_data, parallel):
        taken.append(len(inputs))
        return super().unroll(params, state, inputs, step_data, parallel)


taken: list[int] = []


@pytest.mark.parametrize(
    ("count", "cost", "room"), [(40, 4, 0), (40, 4, 3), (40, 4, 15), (40, 4, 90), (7, 1, 2), (1, 3, 0)]
)
def test_the_tape_gives_every_segment_in_turn_and_keeps_to_its_room(count, cost, room):
    rng = np.random.default_rng(0)
    cell = Counting(2, 3)
    inputs = rng.standard_normal((cost * count, 2, 2))
    segments = [range(1 + cost * i, 1 + cost * (i + 1)) for i in range(count)]
    schedule = Schedule(count, cost, room)
    start = Trajectory(cell, cell.init_params(rng), np.zeros((1, 2, 3)), inputs, {})
    tape = Tape(start, segments, schedule, one_by_one)
    taken.clear()
    ahead = {here.steps: here.states.copy() for here in tape.forward()}
    assert list(ahead) == segments
    for _ in range(2):  # the second time nothing is kept from the way there
        seen = []
        for here in tape.backward():
            steps = here.steps
            np.testing.assert_array_equal(here.states, ahead[steps])
            seen.append(steps)
            others = [i for i in tape._kept if segments[i] != steps]
            # Neither the first state nor the one before the segment at work counts.
            assert cost * len(others) + len(tape._snapshots) - 1 <= room + 1
        assert seen == segments[::-1]
    first = cost * (count + schedule.recomputed())
    assert sum(taken) <= 2 * first


def test_float32_says_when_the_state_overflows():
    params = {"W": [[10.0]], "U": [[1.0]]}
    with pytest.raises(NonFiniteError, match="time 40, batch 0"):
        gradsim.simulate(Linear(1, 1), np.ones((60, 1, 1)), params=params, dtype="float32")

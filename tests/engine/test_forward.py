"""The forward pass: steps that break the contract, and the tape that gives states back."""

from __future__ import annotations

import numpy as np
import pytest

import gradsim
from gradsim.contracts.trajectory import Trajectory, one_by_one
from gradsim.engine.forward import Tape
from gradsim.engine.revolve import Schedule
from gradsim.errors import NonFiniteError, PluginError
from gradsim_cells import Elman, Linear

X = np.random.default_rng(0).standard_normal((6, 3, 2))


class Logarithm(Elman):
    """Leaves the range."""

    def step(self, params, state, inputs, xp):
        return super().step(params, state, inputs, xp) + xp.log(inputs[..., :1])


def test_a_state_that_is_not_finite_is_named():
    with pytest.raises(NonFiniteError, match=r"the state is nan for the first time at time \d, batch \d"):
        gradsim.simulate(Logarithm(2, 3), X)


class Unrolls(Elman):
    """Takes steps in a way of its own, and gives something else."""

    name = "unrolls"

    gives = None

    def unroll(self, params, state, inputs, step_data, parallel):
        taken = super().unroll(params, state, inputs, step_data, parallel)
        return self.gives(taken)


@pytest.mark.parametrize(
    ("gives", "message"),
    [
        (lambda taken: taken.states, r"unroll\(\) should return a Trajectory, not ndarray"),
        (
            lambda taken: taken[range(1, 3)],
            r"unroll\(\) returned states of shape \(3, 3, 3\), float64, where",
        ),
        (lambda taken: taken.with_states(taken.states.astype("float32")), ".* float32, where"),
        (
            lambda taken: taken.parms,
            r"unroll\(\) raised AttributeError: .*'parms'.* \(.*test_forward.py:\d+\)",
        ),
    ],
)
def test_an_unroll_that_gives_something_else_is_named(gives, message):
    cell = type("Unrolling", (Unrolls,), {"gives": staticmethod(gives)})(2, 3)
    with pytest.raises(PluginError, match=rf"Unrolling\(.*: {message}"):
        gradsim.simulate(cell, X)


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
    params = {"U": [[10.0]], "W": [[1.0]]}
    with pytest.raises(NonFiniteError, match="time 40, batch 0"):
        gradsim.simulate(Linear(1, 1), np.ones((60, 1, 1)), params=params, dtype="float32")

"""A cell that breaks a rule of `step` or `output` is refused before the run, in words for its author."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from helpers import OneBlock

import gradsim
from gradsim import Cell, Wrapper
from gradsim.contracts.trajectory import Trajectory
from gradsim.engine.probe import probe
from gradsim.errors import PluginError
from gradsim.testing import check_cell
from gradsim_cells import GRU, LRU, LSTM, Elman

X = np.random.default_rng(0).standard_normal((6, 3, 2))


@dataclass(frozen=True, eq=False)
class Good(OneBlock):
    """In two blocks, though."""

    name = "good"

    @property
    def blocks(self):
        return {"a": 1, "b": 3}


class ScalesState(Good):
    def step(self, params, state, inputs, xp):
        state *= 0.9
        return super().step(params, state, inputs, xp)


class WritesAView(Good):
    def step(self, params, state, inputs, xp):
        state[..., :1] = 0.5
        return super().step(params, state, inputs, xp)


class ScalesInputs(Good):
    def step(self, params, state, inputs, xp):
        inputs += 1
        return super().step(params, state, inputs, xp)


class ScalesWeights(Good):
    def step(self, params, state, inputs, xp):
        params["U"] *= 0.5
        return super().step(params, state, inputs, xp)


class ReplacesWeights(Good):
    def step(self, params, state, inputs, xp):
        params["U"] = 0.5 * params["U"]
        return super().step(params, state, inputs, xp)


class ChangesItsData(Good):
    def draw(self, rng, steps, batch):
        return {"mask": np.ones((steps, batch, 4))}

    def step(self, params, state, inputs, xp, *, mask):
        mask *= 0.5
        return mask * super().step(params, state, inputs, xp)


class Noisy(Good):
    def step(self, params, state, inputs, xp):
        noise = np.random.standard_normal(state.shape)  # noqa: NPY002
        return super().step(params, state * (1 + 0.1 * noise), inputs, xp)


class MixesBatch(Good):
    axis = -2

    def step(self, params, state, inputs, xp):
        new = super().step(params, state, inputs, xp)
        return new - xp.mean(new, axis=self.axis, keepdims=True)


class MixesFirstAxis(MixesBatch):
    axis = 0


class Branches(Good):
    def step(self, params, state, inputs, xp):
        return super().step(params, state, inputs, xp) * (2 if np.abs(state).max() > 0.9 else 1)


class BranchesUnitByUnit(Good):
    def step(self, params, state, inputs, xp):
        return state if state > 0 else super().step(params, state, inputs, xp)


class ReturnsNothing(Good):
    def step(self, params, state, inputs, xp):
        super().step(params, state, inputs, xp)


class ReturnsBlocks(Good):
    def step(self, params, state, inputs, xp):
        return self.split(super().step(params, state, inputs, xp))


class ReturnsOneBlock(Good):
    def step(self, params, state, inputs, xp):
        return self.split(super().step(params, state, inputs, xp))[1]


class Sums(Good):
    def step(self, params, state, inputs, xp):
        return xp.sum(super().step(params, state, inputs, xp), axis=-1)


class SumsAndKeeps(Good):
    def step(self, params, state, inputs, xp):
        return xp.stack([super().step(params, state, inputs, xp)[..., 0]] * 2, axis=-1)


class SumsTheBatch(Good):
    def step(self, params, state, inputs, xp):
        return super().step(params, state, inputs, xp)[0]


class Widens(Good):
    def step(self, params, state, inputs, xp):
        return super().step(params, state, inputs, xp) * np.ones(4)


class Misspells(Good):
    def step(self, params, state, inputs, xp):
        return xp.tanh(state @ params["w"].T)


class Divides(Good):
    def step(self, params, state, inputs, xp):
        return state / (1 // 0)


class TooFew(Good):
    def step(self, params, state, inputs):
        return state


class TooMany(Good):
    def step(self, params, state, inputs, xp, noise):
        return state + noise


class OddOutput(Good):
    output_size = 2

    def output(self, params, state, inputs, xp):
        return state[..., :3]


class NoisyOutput(Good):
    def output(self, params, state, inputs, xp):
        return state + np.random.standard_normal(state.shape)  # noqa: NPY002

    output_size = 4


class ChangesInOutput(Good):
    output_size = 4

    def output(self, params, state, inputs, xp):
        state *= 2
        return state


WRONG = [
    (ScalesState, r"step\(\) changes its argument state; compute a new array instead"),
    (WritesAView, r"step\(\) changes its argument state; compute"),
    (ScalesInputs, r"step\(\) changes its argument inputs; compute"),
    (ScalesWeights, r"step\(\) changes its argument params\['U'\]; compute"),
    (ReplacesWeights, r"step\(\) changes its argument params\['U'\]; compute"),
    (ChangesItsData, r"step\(\) changes its argument mask; compute"),
    (Noisy, r"step\(\) gives two results .* draw what is random before the run, in `draw`"),
    (MixesBatch, r"step\(\) of one batch element alone differs .* last axis only \(axis=-1\)"),
    (MixesFirstAxis, r"step\(\) of one batch element alone differs .* last axis only \(axis=-1\)"),
    (Branches, r"step\(\) of one batch element alone differs .* xp.where\(condition, this, that\)"),
    (BranchesUnitByUnit, r"step\(\) raised ValueError: The truth value .* xp.where\(condition, this, that\)"),
    (ReturnsNothing, r"step\(\) returns nothing; it should end with `return`"),
    (
        ReturnsBlocks,
        r"step\(\) returns a tuple, not an array; join its blocks with xp.concat",
    ),
    (
        ReturnsOneBlock,
        r"returns shape \(2, 3\) where \(2, 4\) is needed; join the blocks a, b with xp.concat",
    ),
    (Sums, r"returns shape \(2,\) where \(2, 4\) is needed; keep the last axis"),
    (SumsAndKeeps, r"returns shape \(2, 2\) where \(2, 4\) is needed; the blocks are {'a': 1, 'b': 3}"),
    (
        SumsTheBatch,
        r"returns shape \(4,\) where \(2, 4\) is needed; any leading axes should stay",
    ),
    (Misspells, r"step\(\) raised KeyError: unknown name 'w'; did you mean 'W'\? Known: U, W \(.*\.py:\d+\)"),
    (Divides, r"step\(\) raised ZeroDivisionError: .* \(.*test_probe.py:\d+\)"),
    (TooFew, r"step\(\) takes \(params, state, inputs\); it should take \(params, state, inputs, xp\), and"),
    (TooMany, r"step\(\) takes \(params, state, inputs, xp, noise\); it should .* step data .* after a \*"),
    (OddOutput, r"output\(\) returns shape \(2, 3\) where \(2, 2\) is needed; output_size is 2"),
    (NoisyOutput, r"output\(\) gives two results"),
    (ChangesInOutput, r"output\(\) changes its argument state; compute a new array instead"),
]


@pytest.mark.parametrize(("kind", "message"), WRONG, ids=lambda x: getattr(x, "__name__", ""))
def test_what_is_wrong_with_a_step_is_said_by_a_run_and_by_the_kit(kind, message):
    with pytest.raises(PluginError, match=rf"^{kind.__name__}\(input_size=2\): .*{message}"):
        gradsim.simulate(kind(), X)
    with pytest.raises(AssertionError, match=kind.__name__):
        check_cell(kind())


def test_a_constant_that_widens_float32_is_named():
    gradsim.simulate(Widens(), X)
    with pytest.raises(PluginError, match=r"step\(\) returns float64; constants should be Python numbers"):
        gradsim.simulate(Widens(), X, dtype="float32")


@pytest.mark.parametrize("kind", [ScalesState, Noisy, MixesBatch, Branches])
def test_one_batch_element_and_a_start_at_zero_hide_nothing(kind):
    with pytest.raises(PluginError, match=kind.__name__):
        gradsim.simulate(kind(), np.zeros((1, 1, 2)))


class LateWriter(Good):
    """Breaks the rule where no probe looks."""

    def step(self, params, state, inputs, xp, *, step_index):
        if step_index.size == 3 and step_index[0] == 4:
            state *= 0.5
        return super().step(params, state, inputs, xp)


def test_the_states_of_a_run_cannot_be_changed_at_any_step():
    message = r"step\(\) raised ValueError: .*read-only; what it is given must not be changed: compute a new"
    with pytest.raises(PluginError, match=message):
        gradsim.simulate(LateWriter(), X)


class Domain(Good):
    """A step for states above 0 only."""

    def initial_state(self):
        return np.full(4, 1e-3)

    def step(self, params, state, inputs, xp):
        if isinstance(state, np.ndarray) and state.min() < 0:
            raise ValueError("a concentration is negative")
        return xp.abs(super().step(params, state, inputs, xp))


def test_a_step_need_not_take_states_that_no_run_meets():
    gradsim.simulate(Domain(), X)
    start = np.full((3, 4), -1.0)
    with pytest.raises(PluginError, match="a concentration is negative"):
        gradsim.simulate(Domain(), X, initial_state=start)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [1, 300])
@pytest.mark.parametrize("kind", [Elman, GRU, LSTM, LRU])
def test_rounding_is_no_mistake(kind, size, dtype):
    cell, rng = kind(2, size), np.random.default_rng(0)
    params = {n: (30 * p).astype(dtype) for n, p in cell.init_params(rng).items()}
    inputs = (1000 * rng.standard_normal((4, 2, 2))).astype(dtype)
    probe(Trajectory(cell, params, np.zeros((1, 2, cell.state_size), dtype), inputs, {}))


class Counts(Good):
    """Another step at each 25th call."""

    calls = 0

    def step(self, params, state, inputs, xp):
        type(self).calls += 1
        return super().step(params, state, inputs, xp) * (1 if self.calls % 25 else 0.5)


@dataclass(frozen=True, eq=False)
class CountsAround(Wrapper):
    """The same around another cell."""

    name = "counts_around"
    cell: Cell = Good()

    calls = 0

    def mix(self, own, state, inputs, new, xp):
        type(self).calls += 1
        return new if self.calls % 25 else 0.5 * new


class KeepsByIdentity(Good):
    """Takes an array that lies where an earlier one was for the same."""

    kept = {}  # noqa: RUF012

    def step(self, params, state, inputs, xp):
        new = super().step(params, state, inputs, xp)
        return self.kept.setdefault(id(state), new) if np.shape(state) == (3, 4) else new


class MixesLate(Good):
    """Looks at others of the batch only where inputs are large."""

    def step(self, params, state, inputs, xp):
        new = super().step(params, state, inputs, xp)
        return xp.where(xp.max(xp.abs(inputs)) > 3, 0.5 * new, new)


class UnrollsAstray(Good):
    """Forgets the state before the 41st step."""

    def unroll(self, params, state, inputs, step_data, parallel):
        taken = super().unroll(params, state, inputs, step_data, parallel)
        begun = super().unroll(params, 0 * state, inputs[40:], {}, parallel)
        return Trajectory(self, params, np.concatenate((taken.states[:40], begun.states)), inputs, step_data)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Counts, r"step\(\) gives two results .* \(seen at step \d+, batch \d\)"),
        (CountsAround, r"step\(\) gives two results .* \(seen at step \d+, batch \d\)"),
        (KeepsByIdentity, r"step\(\) gives two results .* \(seen at step \d+, batch \d\)"),
        (MixesLate, r"step\(\) of one batch element alone differs .* \(seen at step \d+, batch 0\)"),
        (
            UnrollsAstray,
            r"states of unroll\(\) are not those of single steps, first at step 40, batch 0; mend Un",
        ),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_no_probe_meets_is_seen_in_the_steps_of_the_run(kind, message, dtype):
    inputs = np.random.default_rng(0).standard_normal((50, 3, 2))
    inputs[[0, -1]] = 0.0
    inputs[10, 1] = 4.0
    for _ in range(2):  # and is not trusted after it has been refused
        kind.calls, kind.kept = 0, {}
        with pytest.raises(PluginError, match=rf"^{kind.__name__}\(.*input_size=2\).*: .*{message}"):
            # A library that compiles the step never sees how it changes.
            gradsim.simulate(kind(), inputs, dtype=dtype, derivatives="autograd")


def test_an_own_way_back_is_looked_at_beyond_its_first_steps():
    class Back(Trajectory):
        def pull(self, incoming, direct):
            pulled = super().pull(incoming, direct)
            pulled.adjoints[:-8] *= 1.001
            return pulled

    class PullsAstray(Good):
        def unroll(self, params, state, inputs, step_data, parallel):
            taken = super().unroll(params, state, inputs, step_data, parallel)
            return Back(self, params, taken.states, inputs, step_data)

    with pytest.raises(
        PluginError, match=r"the adjoints of unroll\(\).pull\(\) differ by .*e-0\d from those"
    ):
        gradsim.simulate(PullsAstray(), np.ones((12, 2, 2)))


class Fires(Good):
    """A unit that is just at its threshold, where the library decides by rounding."""

    exact = False

    def step(self, params, state, inputs, xp):
        new = super().step(params, state, inputs, xp)
        threshold = 0.0 if xp is np else 1e-30
        just = 0.0 * new + 1e-40
        return new + gradsim.surrogate(xp.astype(just > threshold, new.dtype), xp.tanh(new))


def test_rounding_of_another_library_may_decide_whether_a_unit_fires():
    gradsim.simulate(Fires(), X, derivatives="jax")

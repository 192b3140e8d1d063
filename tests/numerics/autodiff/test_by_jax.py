"""What JAX makes of a step, against autograd and closed forms."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from helpers import Stripped

from gradsim.errors import TracingError
from gradsim.numerics import autodiff
from gradsim.numerics.autodiff import by_autograd
from gradsim.numerics.autodiff.by_jax import ByJax
from gradsim.testing import check_cell
from gradsim_cells import GRU, LRU, LSTM, Elman, MinGRU

LEADS = [(), (3,), (5, 3), (2, 1, 3)]


def step(params, state, inputs, xp, *, mask, step_index):
    pushed = xp.tanh(state @ params["U"].T + inputs @ params["W"].T)
    return xp.where(mask, xp.where(step_index[..., None] > 2, pushed, 0.5 * pushed), state)


def twofold(params, state, inputs, xp):
    """From two states of 3 side by side, unit by unit."""
    return params["a"] * state[..., :3] * state[..., 3:] ** 2 + inputs


@pytest.fixture
def place(rng):
    def make(lead, dtype="float64"):
        params = {"U": rng.standard_normal((4, 4)) / 2, "W": rng.standard_normal((4, 2))}
        data = {"mask": rng.random((*lead, 4)) < 0.7, "step_index": rng.integers(1, 5, lead)}
        state, inputs = rng.standard_normal((*lead, 4)), rng.standard_normal((*lead, 2))
        params = {n: p.astype(dtype) for n, p in params.items()}
        return (params, state.astype(dtype), inputs.astype(dtype)), data

    return make


@pytest.fixture
def by():
    return ByJax(asked=True)


def alike(ours, theirs, dtype):
    if isinstance(theirs, dict):
        assert [*ours] == [*theirs]
        ours, theirs = ours.values(), theirs.values()
    if not isinstance(theirs, np.ndarray):
        for one, other in zip(ours, theirs, strict=True):
            alike(one, other, dtype)
        return
    assert ours.dtype == theirs.dtype == dtype
    assert ours.shape == theirs.shape
    tolerance = 1e-13 if dtype == "float64" else 2e-6
    np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_all_derivatives_are_those_of_autograd(rng, place, by, dtype):
    for lead in LEADS:
        given, data = place(lead, dtype)
        u = rng.standard_normal((*lead, 4)).astype(dtype)
        left, right = rng.standard_normal((2, 3, *lead, 4)).astype(dtype)
        asked = {
            "state_vjp": (u, data),
            "inputs_vjp": (u, data),
            "inputs_jacobian": (data,),
            **({"params_vjp": (u, data)} if lead else {}),
            "bilinear_vjp": (left, right, data),
        }
        for name, more in asked.items():
            ours, theirs = (getattr(library, name)(step, *given, *more) for library in (by, by_autograd))
            alike(ours, theirs, dtype)
        alike(*(b.step_jacobians(step, 1, 1, *given, data) for b in (by, by_autograd)), dtype)


def test_jacobians_by_several_states_come_in_blocks(rng, by):
    params, state, inputs = {"a": rng.standard_normal(3)}, rng.standard_normal((7, 6)), np.ones((7, 3))
    given = twofold, 3, 2, params, state, inputs, {}
    alike(by.step_jacobians(*given), by_autograd.step_jacobians(*given), "float64")


def test_positions_beyond_a_piece_are_made_in_several(place, by, monkeypatch):
    monkeypatch.setattr("gradsim.numerics.autodiff.by_jax._TRACE_BYTES", 4 * 4 * 4 * 8)
    given, data = place((5, 3))
    alike(*(b.step_jacobians(step, 1, 1, *given, data) for b in (by, by_autograd)), "float64")


def taken(place, by, steps, batch, dtype="float64"):
    """A block, and the arguments of its steps."""
    (params, states, inputs), data = place((steps, batch), dtype)
    return by.unroll(step, params, states[0], inputs, data), (params, states[0], inputs, data)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("steps", "batch"), [(1, 1), (11, 3), (8, 20)])
def test_a_block_is_taken_and_pulled_back_as_steps_one_by_one(rng, place, by, steps, batch, dtype):
    block, (params, state, inputs, data) = taken(place, by, steps, batch, dtype)
    states, here = [state], [{n: x[t] for n, x in data.items()} for t in range(steps)]
    for t in range(steps):
        states.append(step(params, states[-1], inputs[t], np, **here[t]))
    alike(block.states, np.array(states), dtype)
    direct = rng.standard_normal((steps, batch, 4)).astype(dtype)
    adjoints = [rng.standard_normal((batch, 4)).astype(dtype)]
    gradient = {n: np.zeros_like(p) for n, p in params.items()}
    found, made = block.pull(0, adjoints[0], direct)
    for t in reversed(range(steps)):
        given = step, params, states[t], inputs[t], adjoints[0], here[t]
        for n, g in by_autograd.params_vjp(*given).items():
            gradient[n] += g
        adjoints.insert(0, by_autograd.state_vjp(*given) + direct[t])
    alike(found, np.array(adjoints), dtype)
    alike(made, gradient, dtype)


@pytest.mark.parametrize("batch", [1, 3])
def test_a_step_may_turn_its_axes_around(rng, by, batch):
    def turned(params, state, inputs, xp):
        return xp.matrix_transpose(xp.tanh(params["U"] @ xp.matrix_transpose(state)))

    params, state = {"U": rng.standard_normal((3, 3))}, rng.standard_normal((batch, 3))
    block = by.unroll(turned, params, state, np.zeros((9, batch, 1)), {})
    direct, last = rng.standard_normal((9, batch, 3)), rng.standard_normal((batch, 3))
    adjoints, gradient = block.pull(0, last, direct)
    wanted, total = last, np.zeros((3, 3))
    for t in reversed(range(9)):
        back = wanted * (1 - block.states[t + 1] ** 2)
        total += back.T @ block.states[t]
        wanted = back @ params["U"] + direct[t]
    alike(adjoints[0], wanted, "float64")
    alike(gradient, {"U": total}, "float64")


@pytest.mark.parametrize("batch", [3, 20])
def test_part_of_a_block_is_pulled_back_by_itself(rng, place, by, batch):
    block, _ = taken(place, by, 9, batch)
    direct, last = rng.standard_normal((9, batch, 4)), rng.standard_normal((batch, 4))
    whole, gradient = block.pull(0, last, direct)
    late, one = block.pull(5, last, direct[5:])
    early, other = block.pull(0, late[0], direct[:5])
    np.testing.assert_array_equal(whole, np.concatenate((early, late[1:])))
    alike({n: one[n] + other[n] for n in one}, gradient, "float64")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("batch", [1, 16])
@pytest.mark.parametrize("gain", [0.01, 100.0])
def test_a_pull_ends_where_the_range_does(by, gain, batch, dtype):
    def scaled(params, state, inputs, xp):
        return params["a"] * state + inputs

    params = {"a": np.array([gain, 1], dtype=dtype)}
    block = by.unroll(scaled, params, *(np.zeros(s, dtype) for s in ((batch, 2), (600, batch, 2))), {})
    last, direct = np.ones((batch, 2), dtype=dtype), np.zeros((600, batch, 2), dtype=dtype)
    last[:, 1] = 0
    adjoints, gradient = block.pull(0, last, direct)
    limit = float(2.0 ** {"float32": 100, "float64": 900}[dtype])
    sizes = adjoints[:, :, 0]
    assert 2 <= len(adjoints) < 600
    assert (1 / limit <= sizes[1:]).all()
    assert (sizes[1:] < limit).all()
    assert not (1 / limit <= sizes[0, 0] < limit)
    # All states are zero, and so is the derivative by the weights; the steps are those of the adjoints.
    assert (gradient["a"] == 0).all()


def test_sequences_that_have_no_loss_yet_end_no_pull(by):
    def kept(params, state, inputs, xp):
        return params["a"] * state

    block = by.unroll(kept, {"a": np.ones(1)}, np.ones((2, 1)), np.zeros((5, 2, 1)), {})
    direct = np.zeros((5, 2, 1))
    direct[2, 1] = 1
    adjoints, gradient = block.pull(0, np.array([[1.0], [0.0]]), direct)
    np.testing.assert_array_equal(adjoints[:, :, 0].T, [[1] * 6, [1, 1, 1, 0, 0, 0]])
    assert gradient["a"] == 5 + 2


def test_float64_is_switched_on_for_a_call_only(place, by):
    import jax
    import jax.numpy as jnp

    given, data = place((3,))
    assert by.step_jacobians(step, 1, 1, *given, data)[0].dtype == "float64"
    assert jnp.asarray(np.ones(2)).dtype == "float32"
    assert not jax.config.jax_enable_x64


def test_few_lengths_are_compiled(place, by):
    def counted(params, state, inputs, xp):
        traces.append(1)
        return params["a"] * state

    traces = []
    for steps in (5, 6, 7, 8):
        block = by.unroll(counted, {"a": np.ones(1)}, np.ones((2, 1)), np.zeros((steps, 2, 1)), {})
        for row in (0, 1, 3):
            block.pull(row, np.ones((2, 1)), np.zeros((steps - row, 2, 1)))
        if steps == 5:
            first = len(traces)
    assert len(traces) == first


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_both_ways_are_compiled_side_by_side_and_once(place, by, dtype, caplog):
    import jax

    def fresh(*given, **data):
        return step(*given, **data)

    (params, state, inputs), data = place((5, 3), dtype)
    asked = fresh, params, state[0], inputs, data
    plain = by.unroll(*asked)
    with jax.log_compiles():
        both = ByJax(asked=True, backward=True).unroll(*asked)
        for steps in (5, 3):
            zeros = np.zeros((steps, 3, 4), dtype)
            found, other = (block.pull(5 - steps, state[1], zeros) for block in (both, plain))
            np.testing.assert_array_equal(found[0], other[0])
            for name, gradient in found[1].items():
                np.testing.assert_array_equal(gradient, other[1][name])
    assert caplog.text.count("Compiling jit(_back)") == 1
    assert "Finished XLA compilation" not in caplog.text  # on this thread


def test_what_cannot_be_pulled_back_is_told_where_it_is():
    import jax

    @jax.custom_vjp
    def broken(x):
        return x

    def backward(_, cotangent):
        raise ArithmeticError("not this way")

    broken.defvjp(lambda x: (x, None), backward)

    def forward_only(params, state, inputs, xp):
        return (broken if xp is not np else np.asarray)(params["a"] * state)

    given = {"a": np.ones(1)}, np.ones((2, 1)), np.zeros((3, 2, 1)), {}
    block = ByJax(asked=True, backward=True).unroll(forward_only, *given)
    with pytest.raises(ArithmeticError, match="not this way"):
        block.pull(0, np.ones((2, 1)), np.zeros((3, 2, 1)))


def steps_that_cannot_be_traced():
    def branching(params, state, inputs, xp):
        return state if (state > 0).all() else -state

    def outside(params, state, inputs, xp):
        return np.tanh(state)

    def listed(params, state, inputs, xp):
        return state * xp.sum([params["a"], params["a"]])

    def widened(params, state, inputs, xp):
        return state * xp.asarray(1.0, dtype=xp.float64)

    cures = {branching: "xp.where", outside: "use xp.tanh", listed: "list", widened: "float64 of float32"}
    return [pytest.param(s, cure, id=s.__name__) for s, cure in cures.items()]


@pytest.mark.parametrize(("untraceable", "cure"), steps_that_cannot_be_traced())
def test_what_cannot_be_traced_is_named_with_its_cure(untraceable, cure):
    given = {"a": np.ones(1, "float32")}, np.ones((2, 3), "float32"), np.ones((2, 1), "float32")
    with pytest.raises(TracingError, match=f"cannot be traced by JAX .*{cure}"):
        ByJax(asked=True).state_vjp(untraceable, *given, given[1], {})


def test_what_cannot_be_traced_goes_to_autograd_where_nobody_asked_for_jax():
    def refused(params, state, inputs, xp):
        if type(state).__module__.startswith("jax"):
            raise ValueError("not by this library")
        return xp.tanh(state)

    by, x = ByJax(asked=False), np.linspace(-1, 1, 6).reshape(2, 3)
    given = refused, {}, x, np.ones((2, 1))
    slope = 1 - np.tanh(x) ** 2
    np.testing.assert_allclose(by.state_vjp(*given, np.ones((2, 3)), {}), slope)
    np.testing.assert_allclose(by.inputs_vjp(*given, np.ones((2, 3)), {}), 0)
    assert by.params_vjp(*given, np.ones((2, 3)), {}) == {}
    np.testing.assert_allclose(by.step_jacobians(refused, 3, 1, *given[1:], {})[0][..., 0, 0], slope)
    np.testing.assert_allclose(by.inputs_jacobian(*given, {}), 0)
    np.testing.assert_allclose(
        by.bilinear_vjp(*given, np.ones((1, 2, 3)), np.ones((1, 2, 3)), {})[1], -2 * np.tanh(x) * slope
    )
    assert by.unroll(refused, {}, x, np.ones((4, 2, 1)), {}) is None


def test_paths_that_are_opened_are_traced_anew(rng):
    def two(params, state, inputs, xp):
        return 2 * autodiff.through(state, "one") + 3 * autodiff.through(state, "other")

    given = ("one", "other"), 1, {}, rng.standard_normal((4, 2)), np.ones((4, 1)), {}
    with autodiff.deriving(ByJax(asked=True)):
        found = autodiff.path_jacobians(two, *given)
    for name, slope in {"direct": 0, "one": 2, "other": 3}.items():
        np.testing.assert_array_equal(found[name][:, 0], np.broadcast_to(slope * np.eye(2), (4, 2, 2)))


@dataclass(frozen=True)
class Scaled:
    gain: np.ndarray

    def step(self, params, state, inputs, xp):
        return self.gain * state


def test_what_was_compiled_for_a_cell_that_has_changed_serves_one_that_has_not():
    gain = np.ones(1)
    one, other = Scaled(gain), Scaled(gain.copy())

    def slope(cell, positions):
        ones = np.ones((positions, 1))
        return ByJax(asked=True).state_vjp(cell.step, {}, ones, ones, ones, {})

    np.testing.assert_array_equal(slope(one, 2), 1.0)
    gain[:] = 3.0
    np.testing.assert_array_equal(slope(other, 8), 1.0)
    np.testing.assert_array_equal(slope(one, 2), 3.0)


@pytest.mark.parametrize(
    "cell", [Elman(2, 3), GRU(2, 3), LSTM(2, 3), MinGRU(2, 3), LRU(2, 3)], ids=lambda c: c.name
)
def test_a_cell_with_nothing_but_a_step_passes_the_kit(cell, monkeypatch):
    monkeypatch.setattr("gradsim.run.derivatives._WORTH", 0.0)  # its runs go by JAX, too
    with autodiff.deriving(ByJax(asked=True)):
        check_cell(Stripped(cell))


def test_what_was_compiled_is_kept_where_the_environment_says(tmp_path):
    folder = tmp_path / "kept"
    program = """
import numpy as np
from gradsim import simulate
from helpers import Stripped
from gradsim_cells import Elman

simulate(Stripped(Elman(2, 3)), np.zeros((4, 2, 2)), record=["adjoint"], derivatives="jax")
"""
    tests = str(Path(__file__).parents[2])
    paths = os.pathsep.join([tests, *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": paths, "GRADSIM_JAX_CACHE": str(folder)}
    found = []
    for _ in range(2):
        subprocess.run([sys.executable, "-c", program], env=environment, check=True)
        found.append({file.name for file in folder.iterdir() if file.name.endswith("-cache")})
    assert found[0]
    assert found[1] == found[0]  # and nothing was compiled again

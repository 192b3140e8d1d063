"""Paths through a step: tags whose derivative can be closed, and their shares of the step Jacobian."""

from __future__ import annotations

from dataclasses import dataclass

import array_api_compat.torch
import jax
import numpy as np
import pytest
import torch
from autograd import grad

from gradsim import Cell, detach, surrogate, through
from gradsim.numerics import autodiff
from gradsim_cells import GRU, LSTM, MinGRU, Stack
from gradsim_mitigations.leak import Leaky


def at_random_places(cell, rng, lead=(4, 3)):
    state, inputs = (rng.standard_normal((*lead, n)) for n in (cell.state_size, cell.input_size))
    return cell.init_params(rng), state, inputs


@dataclass(frozen=True, eq=False)
class Nested(Cell):
    """h = a tanh(U h) + sigmoid(h + tanh(V h)), where the second path lies within the first."""

    name = "nested"
    input_size: int = 2
    order: tuple[str, ...] = ("outer", "inner", "other")

    @property
    def blocks(self):
        return {"h": 3}

    @property
    def paths(self):
        return self.order

    def init_params(self, rng):
        return {"U": rng.standard_normal((3, 3)), "V": rng.standard_normal((3, 3))}

    def step(self, params, state, inputs, xp):
        inner = through(xp.tanh(state @ params["V"].T), "inner")
        outer = through(xp.tanh(state + inner), "outer")
        return 0.5 * state + outer * through(xp.cos(state @ params["U"].T), "other")


@pytest.mark.parametrize(
    "order", [("outer", "inner", "other"), ("inner", "outer", "other"), ("other", "inner", "outer")]
)
def test_shares_sum_to_the_jacobian_whatever_the_nesting(order, rng):
    cell = Nested(order=order)
    here = at_random_places(cell, rng)
    shares = cell.path_jacobians(*here)
    assert tuple(shares) == ("direct", *order)
    np.testing.assert_allclose(sum(shares.values()), cell.step_jacobian(*here), rtol=1e-13, atol=1e-13)
    np.testing.assert_array_equal(shares["direct"], np.broadcast_to(0.5 * np.eye(3), (4, 3, 1, 3, 3)))
    assert (shares["inner"] == 0).all() == (order.index("inner") < order.index("outer"))


def test_the_direct_share_of_an_lstm_is_its_forget_gate(rng):
    cell, n = LSTM(input_size=2, hidden_size=5), 5
    params, state, inputs = at_random_places(cell, rng)
    shares = cell.path_jacobians(params, state, inputs)
    direct = shares["direct"][..., 0, :, :]
    a = inputs @ params["W"].T + state[..., :n] @ params["U"].T + params["b"]
    forget = 1 / (1 + np.exp(-a[..., n : 2 * n]))
    np.testing.assert_allclose(direct[..., n:, n:], forget[..., None] * np.eye(n), rtol=1e-14)
    assert (direct[..., :n] == 0).all()
    for name in ("input", "forget", "candidate"):
        assert (shares[name][..., n:] == 0).all()
        assert shares[name][..., n:, :n].any()
    assert (shares["output"][..., 0, n:, :] == 0).all()


def test_the_direct_share_of_a_gru_is_its_update_gate(rng):
    cell = GRU(input_size=2, hidden_size=5)
    params, state, inputs = at_random_places(cell, rng)
    shares = cell.path_jacobians(params, state, inputs)
    part = slice(5, 10)
    a = inputs @ params["W"][part].T + state @ params["U"][part].T + params["b"][part] + params["c"][part]
    update = 1 / (1 + np.exp(-a))
    np.testing.assert_allclose(shares["direct"][..., 0, :, :], update[..., None] * np.eye(5), rtol=1e-14)
    assert all(shares[name].any() for name in ("update", "candidate", "reset"))


def test_the_gates_of_a_min_gru_do_not_see_the_state(rng):
    cell = MinGRU(input_size=2, hidden_size=5)
    here = at_random_places(cell, rng)
    shares = cell.path_jacobians(*here)
    np.testing.assert_allclose(shares["direct"], cell.step_jacobian(*here), rtol=1e-14)
    assert not shares["update"].any()


def test_a_stack_and_a_wrapper_have_the_paths_and_gates_of_what_they_hold(rng):
    below, above = GRU(input_size=2, hidden_size=3), LSTM(input_size=3, hidden_size=2)
    for cell in (stack := Stack(cells=(below, above)), Leaky(cell=stack, rate=0.5)):
        here = at_random_places(cell, rng)
        shares = cell.path_jacobians(*here)
        assert set(shares) == {"direct", *below.paths, *above.paths}
        np.testing.assert_allclose(sum(shares.values()), cell.step_jacobian(*here), rtol=1e-12, atol=1e-13)
        assert cell.gates["layer1_W"] == above.gates["W"]


def test_a_tag_does_nothing_to_a_run(rng):
    x = rng.standard_normal((2, 3))
    assert through(x, "anything") is x


def test_closing_is_undone_after_an_error():
    with pytest.raises(RuntimeError), autodiff.opened(()):
        raise RuntimeError
    x = np.ones(2)
    assert through(x, "anything") is x


# What is detached, and what a surrogate is, in every library.


def spike(x, xp):
    return surrogate(xp.astype(x > 0, x.dtype), xp.tanh(x))


def test_detach_and_surrogate_in_numpy():
    x = np.array([-0.5, 0.5])
    np.testing.assert_array_equal(detach(x), x)
    np.testing.assert_array_equal(spike(x, np), [0, 1])
    assert spike(x.astype(np.float32), np).dtype == np.float32


def test_detach_and_surrogate_under_autograd():
    x = np.array([-0.5, 0.5])
    xp = autodiff.xp
    np.testing.assert_array_equal(grad(lambda x: xp.sum(x * detach(x * x)))(x), x * x)
    np.testing.assert_allclose(grad(lambda x: xp.sum(spike(x, xp)))(x), 1 - np.tanh(x) ** 2)
    # A trace within a trace is closed as well.
    first = grad(lambda x: xp.sum(x * detach(x * x) + x * x))
    np.testing.assert_array_equal(grad(lambda x: xp.sum(first(x)))(x), [2, 2])


def test_detach_and_surrogate_in_jax():
    x = jax.numpy.asarray([-0.5, 0.5])
    found = jax.grad(lambda x: jax.numpy.sum(x * detach(x * x)))(x)
    np.testing.assert_allclose(found, x * x)
    np.testing.assert_array_equal(spike(x, jax.numpy), [0, 1])
    found = jax.jit(jax.grad(lambda x: jax.numpy.sum(spike(x, jax.numpy))))(x)
    np.testing.assert_allclose(found, 1 - np.tanh(x) ** 2, rtol=1e-6)


def test_detach_and_surrogate_in_torch():
    x = torch.tensor([-0.5, 0.5], requires_grad=True)
    (found,) = torch.autograd.grad((x * detach(x * x)).sum(), x)
    torch.testing.assert_close(found, (x * x).detach())
    value = spike(x, array_api_compat.torch)
    (found,) = torch.autograd.grad(value.sum(), x)
    torch.testing.assert_close(value.detach(), torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(found, 1 - torch.tanh(x.detach()) ** 2)

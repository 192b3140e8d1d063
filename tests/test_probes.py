"""How far the contracts reach: plugins unlike the shipped ones run without a special case."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
from helpers import loss_of, numerical_gradient

import gradsim
from gradsim import (
    Cell,
    Episode,
    Mitigation,
    Penalty,
    Task,
    Wrapper,
    hookimpl,
    squared_error,
)
from gradsim.contracts.trajectory import step_rows
from gradsim.errors import UnknownNameError
from gradsim_cells import LRU, Elman

RECORD = ["state", "jacobian_product", "adjoint", "gradient"]


def weights(rng, *shape):
    return rng.standard_normal(shape) / np.sqrt(shape[-1])


@dataclass(frozen=True, eq=False)
class FourBlocks(Cell):
    """sLSTM in spirit: four blocks, of different sizes here, and the stabiliser's max."""

    name = "four_blocks"
    input_size: int = 2

    @property
    def blocks(self):
        return {"c": 3, "n": 3, "m": 1, "h": 2}

    def init_params(self, rng):
        return {"W": weights(rng, 8, 2), "U": weights(rng, 8, 2), "R": weights(rng, 2, 3)}

    def initial_state(self):
        return np.concatenate((np.zeros(3), np.ones(3), np.zeros(3)))

    def step(self, params, state, inputs, xp):
        c, n, m, h = self.split(state)
        a = inputs @ params["W"].T + h @ params["U"].T
        z, i, f = xp.tanh(a[..., :3]), a[..., 3:6], a[..., 6:7]
        new_m = xp.maximum(f + m, xp.max(i, axis=-1, keepdims=True))
        i, f = xp.exp(i - new_m), xp.exp(f + m - new_m)
        c, n = f * c + i * z, f * n + i
        return xp.concat((c, n, new_m, (c / (1 + n)) @ params["R"].T), axis=-1)


@dataclass(frozen=True, eq=False)
class Clockwork(Cell):
    """Units update every 1, 2 or 4 steps, else copy (Koutnik et al. 2014, without the triangle)."""

    name = "clockwork"
    input_size: int = 2

    @property
    def blocks(self):
        return {"h": 6}

    def init_params(self, rng):
        return {"W": weights(rng, 6, 6), "U": weights(rng, 6, 2)}

    def step(self, params, state, inputs, xp, *, step_index):
        due = step_index[..., None] % xp.asarray([1, 1, 2, 2, 4, 4]) == 0
        return xp.where(due, xp.tanh(state @ params["W"].T + inputs @ params["U"].T), state)


@dataclass(frozen=True, eq=False)
class Stacked(Cell):
    """Two layers as one cell: the upper one sees what the lower one has just become."""

    name = "stacked"
    lower: Cell
    upper: Cell

    @property
    def input_size(self):
        return self.lower.input_size

    @property
    def layers(self):
        return {"lower": self.lower, "upper": self.upper}

    @property
    def blocks(self):
        return {f"{at}_{n}": size for at, cell in self.layers.items() for n, size in cell.blocks.items()}

    @property
    def output_blocks(self):
        return tuple(f"upper_{n}" for n in self.upper.output_blocks)

    def init_params(self, rng):
        drawn = {at: cell.init_params(rng) for at, cell in self.layers.items()}
        return {f"{at}_{n}": p for at, params in drawn.items() for n, p in params.items()}

    def step(self, params, state, inputs, xp):
        m = self.lower.state_size
        lower, upper = (
            {n.removeprefix(at): p for n, p in params.items() if n.startswith(at)}
            for at in ("lower_", "upper_")
        )
        low = self.lower.step(lower, state[..., :m], inputs, xp)
        high = self.upper.step(upper, state[..., m:], low, xp)
        return xp.concat((low, high), axis=-1)


@dataclass(frozen=True, eq=False)
class FreeLRU(Wrapper):
    """The complex diagonal recurrence with nothing but its step."""

    name = "free_lru"
    cell: Cell

    def step(self, params, state, inputs, xp):
        return self.cell.step(params, state, inputs, xp)


@dataclass(frozen=True, eq=False)
class Forced(Wrapper):
    """The state is pulled towards a target that the task gives: s = (1 - a) f(s, x) + a target."""

    name = "forced"
    cell: Cell

    def mix(self, own, state, inputs, new, xp, *, forcing):
        return 0.9 * new + 0.1 * forcing


PROBES = {
    "four_blocks": FourBlocks(),
    "clockwork": Clockwork(),
    "stacked": Stacked(Elman(2, 3), Elman(3, 4)),
    "free_lru": FreeLRU(LRU(2, 3)),
}
each_probe = pytest.mark.parametrize("cell", PROBES.values(), ids=PROBES.keys())


@each_probe
def test_runs_and_its_gradient_is_that_of_the_loss(cell, inputs):
    params = cell.init_params(np.random.default_rng(5))
    ds = gradsim.simulate(cell, inputs, params=params, record=RECORD, rng=3)
    for name in params:
        expected = numerical_gradient(lambda p: loss_of(cell, p, inputs=inputs, rng=3), params, name)
        np.testing.assert_allclose(ds[f"gradient_{name}"], expected, rtol=1e-6, atol=1e-8)


@each_probe
def test_passes_the_conformance_kit(cell):
    from gradsim.testing import check_cell

    check_cell(cell)


@dataclass(frozen=True, eq=False)
class Copy(Task):
    """Gives a forcing target beside its inputs."""

    name = "copy"

    @property
    def input_size(self):
        return 2

    @property
    def output_size(self):
        return 2

    def sample(self, rng, batch):
        x = rng.standard_normal((9, batch, 2))
        forcing = rng.standard_normal((9, batch, 4))
        return Episode(x, x, np.full((9, batch), 1 / 9), {"forcing": forcing})

    def loss(self, outputs, targets, xp):
        return squared_error(outputs, targets, xp)


def test_a_task_hands_forcing_targets_to_the_cell():
    cell = Forced(Elman(2, 4))
    params = Elman(2, 4).init_params(np.random.default_rng(0))
    ds = gradsim.simulate(cell, task=Copy(), batch=3, params=params, record=["gradient"])
    expected = numerical_gradient(lambda p: loss_of(cell, p, task=Copy(), batch=3), params, "W")
    np.testing.assert_allclose(ds.gradient_W, expected, rtol=1e-6, atol=1e-9)


def test_a_missing_forcing_target_is_named(inputs):
    with pytest.raises(UnknownNameError, match="'forcing'"):
        gradsim.simulate(Forced(Elman(2, 4)), inputs)


@dataclass(frozen=True, eq=False)
class ForceByProducts(Mitigation):
    """Generalised teacher forcing, backward half: scale by a factor found from the measured products."""

    name = "force_by_products"
    requires = ("product_spectral_norm",)

    @hookimpl(wrapper=True)
    def gradsim_jacobians(self, measured):
        jacobians = yield
        whole = measured[self]["product_spectral_norm"][-1, 0]
        per_step = whole ** (1 / len(jacobians.steps))
        alpha = np.maximum(0, 1 - 1 / per_step)
        return jacobians.changed(lambda blocks: (1 - alpha)[:, None, None, None] * blocks)


def test_a_forcing_factor_comes_from_the_measured_products(rng):
    x = rng.standard_normal((40, 2, 2))
    ds = gradsim.simulate(
        Elman(2, 6, activation="relu", gain=2.5),
        0.01 * x,
        mitigations=[ForceByProducts()],
        record=["product_spectral_norm", "effective_product_norm", "effective_product_spectral_norm"],
    )
    raw, forced = ds.product_spectral_norm[-1, 0], ds.effective_product_spectral_norm[-1, 0]
    assert (raw > 10).all()
    np.testing.assert_allclose(forced, 1, rtol=1e-12)


@dataclass(frozen=True, eq=False)
class RandomTruncation(Mitigation):
    """ARTBP (Tallec & Ollivier 2017): cut with probability c, else divide by 1 - c."""

    name = "random_truncation"
    c: float = 0.3
    pattern: tuple[bool, ...] | None = None

    def draw(self, rng, steps):
        return {"cut": rng.random(steps) < self.c if self.pattern is None else np.array(self.pattern)}

    @hookimpl(wrapper=True)
    def gradsim_jacobians(self, draws):
        jacobians = yield
        cut = draws[self]["cut"][step_rows(jacobians.steps)]
        scale = np.where(cut, 0, 1 / (1 - self.c))
        return jacobians.changed(lambda blocks: scale[:, None, None, None, None] * blocks)


def test_randomised_truncation_is_unbiased(rng):
    x = rng.standard_normal((5, 2, 2))
    cell = Elman(2, 3)
    exact = gradsim.simulate(cell, x, record=["gradient"]).gradient_W
    mean = 0
    for pattern in itertools.product([False, True], repeat=5):
        cuts = sum(pattern)
        cut = RandomTruncation(pattern=pattern)
        ds = gradsim.simulate(cell, x, record=["effective_gradient"], mitigations=[cut])
        mean = mean + 0.3**cuts * 0.7 ** (5 - cuts) * ds.effective_gradient_W
    np.testing.assert_allclose(mean, exact, atol=1e-14)


@dataclass(frozen=True, eq=False)
class JacobianNorm(Mitigation):
    """Adds (1/2) mean over the batch of the sum of ||J_t||_F^2, with its whole derivative."""

    name = "jacobian_norm"

    @hookimpl(wrapper=True)
    def gradsim_penalty(self, trajectory, jacobians):
        penalty = yield
        jacobian = jacobians.blocks
        batch = jacobian.shape[1]
        gradient, states = trajectory.call(trajectory.cell.jacobian_vjp, jacobian / batch)
        state_gradient = np.concatenate((states, np.zeros_like(states[:1])))
        return penalty + Penalty(0.5 * float(np.sum(jacobian**2)) / batch, gradient, state_gradient)


@pytest.mark.parametrize("cell", [Elman(2, 4), LRU(2, 3), Clockwork()], ids=lambda c: c.name)
def test_a_penalty_flows_through_the_step_jacobians(cell, inputs):
    params = cell.init_params(np.random.default_rng(5))

    def run(p):
        penalty = [JacobianNorm()]
        return gradsim.simulate(cell, inputs, params=p, mitigations=penalty, record=["effective_gradient"])

    def total(p):
        attributes = run(p).attrs
        return attributes["loss"] + attributes["penalty"]

    ds = run(params)
    assert ds.attrs["penalty"] > 0
    for name in params:
        expected = numerical_gradient(total, params, name)
        np.testing.assert_allclose(ds[f"effective_gradient_{name}"], expected, rtol=1e-5, atol=1e-7)

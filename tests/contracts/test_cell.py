"""How far the contract of a cell reaches: cells unlike the shipped ones run without a special case."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from helpers import loss_of, numerical_gradient

import gradsim
from gradsim import Cell, Mitigation, Penalty, Wrapper, hookimpl
from gradsim.contracts import registry
from gradsim_cells import LRU, Elman
from gradsim_optimizers import SGD

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
        return {"U": weights(rng, 6, 6), "W": weights(rng, 6, 2)}

    def step(self, params, state, inputs, xp, *, step_index):
        due = step_index[..., None] % xp.asarray([1, 1, 2, 2, 4, 4]) == 0
        return xp.where(due, xp.tanh(state @ params["U"].T + inputs @ params["W"].T), state)


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
class Scalar(Cell):
    """A gain without axes."""

    name = "scalar"
    input_size: int = 2

    @property
    def blocks(self):
        return {"h": 3}

    @property
    def recurrent_weights(self):
        return ("U",)

    def init_params(self, rng):
        return {"U": weights(rng, 3, 3), "W": weights(rng, 3, self.input_size), "g": np.array(0.7)}

    def step(self, params, state, inputs, xp):
        return params["g"] * xp.tanh(state @ params["U"].T + inputs @ params["W"].T)


@dataclass(frozen=True, eq=False)
class Autonomous(Cell):
    """Nothing drives it."""

    name = "autonomous"
    input_size: int = 0

    @property
    def blocks(self):
        return {"h": 3}

    def init_params(self, rng):
        return {"U": weights(rng, 3, 3), "b": np.ones(3)}

    def step(self, params, state, inputs, xp):
        return xp.tanh(state @ params["U"].T + params["b"])


@dataclass(frozen=True, eq=False)
class Chooses(Cell):
    """Chooses between parameters that are smaller than the state, and numbers."""

    name = "chooses"
    input_size: int = 2

    @property
    def blocks(self):
        return {"h": 3}

    def init_params(self, rng):
        return {"U": weights(rng, 3, 3), "b": rng.standard_normal(3), "c": np.array(0.3)}

    def step(self, params, state, inputs, xp):
        a = state @ params["U"].T + inputs[..., :1]
        low = xp.where(a < -0.3, a * params["b"], params["c"])
        return xp.tanh(xp.where(a > 0, params["b"], a) + low + xp.where(a > 1, 0.0, params["c"]))


@dataclass(frozen=True, eq=False)
class SideBySide(Cell):
    """Cells in a tuple, without a default."""

    name = "side_by_side"
    cells: tuple[Cell, ...]

    input_size = 2

    @property
    def blocks(self):
        return {f"h{i}": c.state_size for i, c in enumerate(self.cells)}

    def init_params(self, rng):
        return {f"c{i}_{n}": p for i, c in enumerate(self.cells) for n, p in c.init_params(rng).items()}

    def step(self, params, state, inputs, xp):
        own = [
            {n[3:]: p for n, p in params.items() if n.startswith(f"c{i}_")} for i in range(len(self.cells))
        ]
        both = zip(self.cells, own, self.split(state), strict=True)
        return xp.concat([c.step(p, s, inputs, xp) for c, p, s in both], axis=-1)


PROBES = {
    "four_blocks": FourBlocks(),
    "clockwork": Clockwork(),
    "stacked": Stacked(Elman(2, 3), Elman(3, 4)),
    "free_lru": FreeLRU(LRU(2, 3)),
    "scalar": Scalar(),
    "autonomous": Autonomous(),
    "chooses": Chooses(),
    "side_by_side": SideBySide((Elman(2, 2), Scalar())),
}
each_probe = pytest.mark.parametrize("cell", PROBES.values(), ids=PROBES.keys())


@each_probe
def test_runs_and_its_gradient_is_that_of_the_loss(cell, inputs):
    params, inputs = cell.init_params(np.random.default_rng(5)), inputs[..., : cell.input_size]
    ds = gradsim.simulate(cell, inputs, params=params, record=RECORD, rng=3)
    for name in params:
        expected = numerical_gradient(lambda p: loss_of(cell, p, inputs=inputs, rng=3), params, name)
        np.testing.assert_allclose(ds[f"gradient_{name}"], expected, rtol=1e-6, atol=1e-8)


@each_probe
def test_passes_the_conformance_kit(cell):
    from gradsim.testing import check_cell

    check_cell(cell)


NEED_MORE = (
    *("h_detach", "soft_cap", "kf_rtrl", "teacher_forcing", "scheduled_sampling"),
    *("forget_bias_init", "chrono_init", "critical_init"),
)
"""Mitigations for cells with paths, gates, dense units, an edge of chaos, or for targets that are numbers."""

MITIGATIONS = [m for m in registry.catalogue().plugins["mitigations"].values() if m.name not in NEED_MORE]


@pytest.mark.parametrize("mitigation", MITIGATIONS, ids=lambda m: m.name)
def test_a_parameter_without_axes_goes_with_every_mitigation(mitigation):
    """Over several segments, whose gradients are added."""
    inputs = np.random.default_rng(0).standard_normal((300, 2, 2))
    record = ["gradient", "effective_gradient"]
    if not hasattr(mitigation, "gradsim_rule"):
        record += ["contribution", "effective_contribution"]
    ds = gradsim.simulate(Scalar(), inputs, mitigations=[mitigation()], record=record, rng=0)
    for name in ("gradient_g", "effective_gradient_g"):
        assert ds[name].shape == ()
        assert np.isfinite(ds[name])


@pytest.mark.parametrize("mitigation", MITIGATIONS, ids=lambda m: m.name)
def test_a_parameter_without_axes_is_trained_under_every_mitigation(mitigation):
    task = registry.build("tasks", "parity", {"length": 5})
    ds = gradsim.train(
        Scalar(task.input_size), task, optimizer=SGD(), updates=3, batch=2, mitigations=[mitigation()], rng=0
    )
    assert ds.trained_g.shape == ()


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

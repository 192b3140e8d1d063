"""Plugins that several files of proofs start from. All are good but `WrongJacobian`."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from helpers import OneBlock
from proofs import WRONG

from gradsim import Cell, Episode, Mitigation, Task, Wrapper, hookimpl
from gradsim.errors import InputError


@dataclass(frozen=True, eq=False)
class Tanh(Cell):
    """h = tanh(U h + W x + b), with analytic derivatives."""

    name = "proof_tanh"

    input_size: int = 2
    hidden_size: int = 4

    @property
    def blocks(self):
        return {"h": self.hidden_size}

    @property
    def recurrent_weights(self):
        return ("U",)

    def init_params(self, rng):
        n = self.hidden_size
        return {
            "U": rng.standard_normal((n, n)) / np.sqrt(n),
            "W": rng.standard_normal((n, self.input_size)),
            "b": np.zeros(n),
        }

    def drive(self, params, state, inputs):
        return state @ params["U"].T + inputs @ params["W"].T + params["b"]

    def step(self, params, state, inputs, xp):
        return xp.tanh(self.drive(params, state, inputs))

    def slope(self, params, state, inputs):
        return 1 - np.tanh(self.drive(params, state, inputs)) ** 2

    def step_jacobian(self, params, state, inputs):
        return (self.slope(params, state, inputs)[..., None] * params["U"])[..., None, :, :]

    def state_vjp(self, params, state, inputs, cotangent):
        return (cotangent * self.slope(params, state, inputs)) @ params["U"]

    def params_vjp(self, params, state, inputs, cotangent):
        d = cotangent * self.slope(params, state, inputs)
        return {"U": d.swapaxes(-1, -2) @ state, "W": d.swapaxes(-1, -2) @ inputs, "b": d.sum(axis=-2)}


class WrongJacobian(Tanh):
    def step_jacobian(self, params, state, inputs):
        return WRONG * super().step_jacobian(params, state, inputs)


class Noisy(Tanh):
    """Adds noise that is drawn before the run, in a validation too; good."""

    def draw(self, rng, steps, batch, moment):
        return {"noise": rng.standard_normal((steps, batch, 4))}

    def step(self, params, state, inputs, xp, *, noise):
        return super().step(params, state, inputs, xp) + 0.1 * noise

    def step_jacobian(self, params, state, inputs, noise):
        return super().step_jacobian(params, state, inputs)

    def state_vjp(self, params, state, inputs, cotangent, noise):
        return super().state_vjp(params, state, inputs, cotangent)

    def params_vjp(self, params, state, inputs, cotangent, noise):
        return super().params_vjp(params, state, inputs, cotangent)


class StepOnly(OneBlock):
    """The least that a cell can be."""

    name = "proof_step_only"

    @property
    def blocks(self):
        return {"h": 4}


class Forced(StepOnly):
    """Asks for what only a task draws."""

    def step(self, params, state, inputs, xp, *, forcing):
        return 0.9 * super().step(params, state, inputs, xp) + 0.1 * forcing


@dataclass(frozen=True, eq=False)
class Diagonal(Cell):
    """h = a * h + W x, elementwise, with a leak of one unit into another if `coupling` is not 0."""

    name = "proof_diagonal"
    input_size: int = 2
    coupling: float = 0.0

    @property
    def blocks(self):
        return {"h": 4}

    @property
    def jacobian_groups(self):
        return 4

    def init_params(self, rng):
        return {"a": rng.uniform(0.3, 0.9, 4), "W": rng.standard_normal((4, self.input_size))}

    def step(self, params, state, inputs, xp):
        leak = self.coupling * xp.eye(4, k=3, dtype=state.dtype)
        return params["a"] * state + inputs @ params["W"].T + state @ leak

    def step_jacobian(self, params, state, inputs):
        return np.broadcast_to(params["a"][:, None, None], (*state.shape, 1, 1)).copy()


@dataclass(frozen=True, eq=False)
class Scale(Mitigation):
    """Halves the adjoint; good."""

    name = "proof_scale"

    factor: float = 0.5

    @hookimpl(wrapper=True)
    def gradsim_adjoint(self):
        adjoint = yield
        return self.factor * adjoint


@dataclass(frozen=True, eq=False)
class Slow(Wrapper):
    name = "proof_slow"
    cell: Cell
    wrong: float

    def mix(self, own, state, inputs, new, xp):
        return 0.5 * state + 0.5 * new

    def step_jacobian(self, params, state, inputs, **data):
        inner = self.cell.step_jacobian(params, state, inputs, **data)
        return self.wrong * (0.5 * np.eye(inner.shape[-1], dtype=inner.dtype) + 0.5 * inner)


class Forgets(Slow):
    """Hands no step data on."""

    def step(self, params, state, inputs, xp, **data):
        return 0.5 * state + 0.5 * self.cell.step(params, state, inputs, xp)


@dataclass(frozen=True, eq=False)
class MakesSlow(Mitigation):
    name = "proof_makes_slow"

    wrong: float = 1.0
    once: bool = False
    forgets: bool = False

    @hookimpl(wrapper=True)
    def gradsim_cell(self):
        cell = yield
        if self.once and isinstance(cell, Slow):
            raise InputError("once is enough")
        return (Forgets if self.forgets else Slow)(cell, self.wrong)


@dataclass(frozen=True, eq=False)
class Follow(Task):
    """Say the input; good."""

    name = "proof_follow"
    input_size = 2
    output_size = 2

    length: int = 5

    def sample(self, rng, batch):
        x = rng.standard_normal((self.length, batch, 2))
        return Episode(x, x.copy(), np.ones(x.shape[:2]))

    def loss(self, outputs, targets, xp):
        return xp.sum((outputs - targets) ** 2, axis=-1)


@dataclass(frozen=True, eq=False)
class ForcingTask(Follow):
    name = "proof_forcing"

    def sample(self, rng, batch):
        episode = super().sample(rng, batch)
        return replace(episode, step_data={"forcing": rng.standard_normal((self.length, batch, 4))})

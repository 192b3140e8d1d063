"""The checks of a cell's state, parameters and step, each proven by a plugin that it alone catches."""

from __future__ import annotations

import numpy as np
from examples import Noisy, StepOnly, Tanh
from proofs import proven

from gradsim.testing.cell.steps import CHECKS


class UnknownOutput(Tanh):
    @property
    def output_blocks(self):
        return ("y",)


class UnevenGroups(Tanh):
    @property
    def jacobian_groups(self):
        return 3


class OwnRandomness(Tanh):
    def init_params(self, rng):
        return super().init_params(np.random.default_rng())


class GlobalRandomness(Tanh):
    def init_params(self, rng):
        np.random.seed(3)  # noqa: NPY002
        return super().init_params(rng)


class Float32Params(Tanh):
    def init_params(self, rng):
        return {n: p.astype(np.float32) for n, p in super().init_params(rng).items()}


class UnknownWeight(Tanh):
    @property
    def recurrent_weights(self):
        return ("V",)


class UnknownFixed(Tanh):
    fixed = ("W", "V")


class UsesUnused(Tanh):
    @property
    def unused(self):
        return {"W": np.eye(4, dtype=bool)}


class UnusedOfOtherShape(Tanh):
    @property
    def unused(self):
        return {"W": np.eye(3, dtype=bool)}


class NoisyAnyhow(Noisy):
    def draw(self, rng, steps, batch, moment):
        return super().draw(np.random.default_rng(), steps, batch, moment)


class NoisyTurned(Noisy):
    def draw(self, rng, steps, batch, moment):
        return {"noise": rng.standard_normal((batch, steps, 4))}


class NoisyUnasked(Noisy):
    def draw(self, rng, steps, batch):
        return super().draw(rng, steps, batch, None)


class Fed(StepOnly):
    """Sees the targets, of 4 numbers, come what may."""

    def step(self, params, state, inputs, xp, *, targets):
        return super().step(params, state, inputs, xp) + 0.001 * targets * xp.ones(4, dtype=state.dtype)


class AsksForMore(Tanh):
    def step(self, params, state, inputs, xp, *, forcing):
        return super().step(params, state, inputs, xp) + forcing @ np.ones((7, 4))


class Promotes(Tanh):
    def step(self, params, state, inputs, xp):
        return np.float64(1) * super().step(params, state, inputs, xp)


class Flat(Tanh):
    def step(self, params, state, inputs, xp):
        return super().step(params, state, inputs, xp).reshape(-1, 4)


class Counts(Tanh):
    calls = []  # noqa: RUF012

    def step(self, params, state, inputs, xp):
        self.calls.append(1)
        return super().step(params, state, inputs, xp) * (1 + 0.001 * (len(self.calls) % 2))


class WritesState(Tanh):
    def step(self, params, state, inputs, xp):
        new = super().step(params, state, inputs, xp)
        if isinstance(state, np.ndarray) and state.flags.writeable:
            state *= 0.999
        return new


class NumpyInside(Tanh):
    step_jacobian, state_vjp, params_vjp = Tanh.step_jacobian, Tanh.state_vjp, Tanh.params_vjp

    def step(self, params, state, inputs, xp):
        return np.tanh(np.asarray(self.drive(params, state, inputs), dtype=state.dtype))


class OldName(Tanh):
    step_jacobian, state_vjp, params_vjp = Tanh.step_jacobian, Tanh.state_vjp, Tanh.params_vjp

    def step(self, params, state, inputs, xp):
        new = super().step(params, state, inputs, xp)
        return xp.concatenate((new[..., :2], new[..., 2:]), axis=-1)


class MixesBatch(Tanh):
    def step(self, params, state, inputs, xp):
        new = super().step(params, state, inputs, xp)
        return new + 0.001 * xp.mean(xp.reshape(new, (-1, 4)), axis=0)


class Overflows(StepOnly):
    def step(self, params, state, inputs, xp):
        large = xp.exp(0.5 * state**2)
        return super().step(params, state, inputs, xp) * large / (1 + large)


class AnySize(int):
    """An input size that is equal to all others."""

    def __eq__(self, other):
        return True

    def __ne__(self, other):
        return False

    __hash__ = int.__hash__


class TakesAnything(Tanh):
    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "input_size", AnySize(2))


class Drifts(Tanh):
    """Every run finds another cell."""

    runs = []  # noqa: RUF012

    @property
    def fixed(self):
        self.runs.append(1)
        return ()

    def drive(self, params, state, inputs):
        return super().drive(params, state, inputs) * (1 + 0.001 * len(self.runs))

    def slope(self, params, state, inputs):
        return super().slope(params, state, inputs) * (1 + 0.001 * len(self.runs))


PROOFS = [
    ("state_layout", UnknownOutput()),
    ("state_layout", UnevenGroups()),
    ("params_from_rng", OwnRandomness()),
    ("params_from_rng", GlobalRandomness()),
    ("params_from_rng", Float32Params()),
    ("recurrent_weights_exist", UnknownWeight()),
    ("fixed_parameters_exist", UnknownFixed()),
    ("unused_numbers_are_unused", UsesUnused()),
    ("unused_numbers_are_unused", UnusedOfOtherShape()),
    ("draws_from_rng", NoisyAnyhow()),
    ("draws_from_rng", NoisyTurned()),
    ("step_data_is_given", AsksForMore()),
    ("validation_is_thought_of", NoisyUnasked()),
    ("validation_sees_no_answers", Fed()),
    ("step_shape_and_dtype", Promotes()),
    ("step_shape_and_dtype", Flat()),
    ("step_is_pure", Counts()),
    ("step_is_pure", WritesState()),
    ("speaks_the_standard", NumpyInside()),
    ("speaks_the_standard", OldName()),
    ("leading_axes", MixesBatch()),
    ("finite_at_extremes", Overflows()),
    ("wrong_input_shape_is_refused", TakesAnything()),
    ("replay", Drifts()),
]


test_fails_this_check_and_no_other, test_every_check_has_a_proof = proven(PROOFS, CHECKS)

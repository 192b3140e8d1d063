"""The checks of what the hooks of a mitigation hand on, each proven by a plugin that it alone catches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from examples import MakesSlow, Scale
from proofs import WRONG, failures, proven

from gradsim import Cell, Mitigation, Wrapper, hookimpl
from gradsim.contracts.plugin import drawn
from gradsim.testing.mitigation.hooks import CHECKS


@dataclass(frozen=True, eq=False)
class Replaces(Mitigation):
    name = "proof_replaces"

    @hookimpl
    def gradsim_adjoint(self, adjoint):
        return adjoint


@dataclass(frozen=True, eq=False)
class Unmarked(Scale):
    def gradsim_gradient(self, gradient):
        return gradient


class DrawsAnyhow(Scale):
    def draw(self, rng, steps, batch):
        return {"unused": np.random.default_rng().random(steps)}


@dataclass(frozen=True, eq=False)
class Drops(Mitigation):
    """Dropout of what a cell would keep, off in a validation; good."""

    name = "proof_drops"

    def draw(self, rng, steps, batch, moment):
        shape = steps, batch, 4
        return {"keep": np.full(shape, 0.5) if moment.validating else rng.integers(0, 2, shape) + 0.0}

    @hookimpl(wrapper=True)
    def gradsim_step_data(self, draws, moment):
        data = yield
        return {**data, "keep": draws[self]["keep"]}


class DropsUnasked(Drops):
    def draw(self, rng, steps, batch):
        return {"keep": rng.integers(0, 2, (steps, batch, 4)) + 0.0}


class DropsAnyhow(Drops):
    @hookimpl(wrapper=True)
    def gradsim_step_data(self, draws):
        data = yield
        return {**data, "keep": draws[self]["keep"]}


class Forces(Drops):
    @hookimpl(wrapper=True)
    def gradsim_step_data(self, episode, moment):
        data = yield
        return {**data, "forcing": episode.targets}


def test_dropout_that_knows_of_validation_passes():
    assert failures(Drops()) == {}


@dataclass(frozen=True, eq=False)
class Biased(Wrapper):
    """Adds a bias, or noise, without asking who else calls it so."""

    name = "proof_biased"
    cell: Cell
    noise: bool

    @property
    def step_data(self):
        return (*self.cell.step_data, *["noise"] * self.noise)

    def init_params(self, rng):
        inside = self.cell.init_params(rng)
        return inside if self.noise else {"b": np.full(self.state_size, 0.1)} | inside

    def draw(self, rng, steps, batch, moment):
        inside = drawn(self.cell.draw, rng, np.zeros((steps, batch, self.input_size)), moment)
        noise = {"noise": rng.standard_normal((steps, batch, self.state_size))}
        return inside | (noise if self.noise else {})

    def step(self, params, state, inputs, xp, **data):
        new = self.cell.step(params, state, inputs, xp, **{n: data[n] for n in self.cell.step_data})
        return new + (0.1 * data["noise"] if self.noise else params["b"])


@dataclass(frozen=True, eq=False)
class Biases(Mitigation):
    name = "proof_biases"

    noise: bool = False

    @hookimpl(wrapper=True)
    def gradsim_cell(self):
        return Biased((yield), self.noise)


@dataclass(frozen=True, eq=False)
class StartsAnyhow(Mitigation):
    name = "proof_starts_anyhow"

    @hookimpl(wrapper=True)
    def gradsim_params(self):
        params = yield
        return params | {"b": np.random.default_rng().standard_normal(params["b"].shape)}


@dataclass(frozen=True, eq=False)
class StartsWithMore(Mitigation):
    name = "proof_starts_with_more"

    @hookimpl(wrapper=True)
    def gradsim_params(self):
        params = yield
        return params | {"more": np.zeros(2)}


class ScalesToFloat64(Scale):
    @hookimpl(wrapper=True)
    def gradsim_adjoint(self):
        adjoint = yield
        return np.float64(0.5) * adjoint


class Nothing(Scale):
    @hookimpl(wrapper=True)
    def gradsim_adjoint(self):
        yield


class InPlace(Scale):
    @hookimpl(wrapper=True)
    def gradsim_adjoint(self, adjoint):
        yield
        adjoint *= 0.999
        return adjoint


class Alternates(Scale):
    calls = []  # noqa: RUF012

    @hookimpl(wrapper=True)
    def gradsim_adjoint(self):
        adjoint = yield
        self.calls.append(1)
        return adjoint * (1 + 0.001 * (len(self.calls) % 2))


class Normalises(Scale):
    @hookimpl(wrapper=True)
    def gradsim_adjoint(self):
        adjoint = yield
        return adjoint / np.linalg.norm(adjoint, axis=-1, keepdims=True)


@dataclass(frozen=True, eq=False)
class NormalisesJacobians(Mitigation):
    name = "proof_normalises_jacobians"

    @hookimpl(wrapper=True)
    def gradsim_jacobians(self):
        jacobians = yield
        return jacobians.changed(lambda blocks: blocks / np.linalg.norm(blocks, axis=(-1, -2), keepdims=True))


class Swallows(Scale):
    @hookimpl(wrapper=True)
    def gradsim_adjoint(self, adjoint):
        try:
            return (yield)
        except Exception:
            return adjoint


PROOFS = [
    ("wraps_only", Replaces()),
    ("wraps_only", Unmarked()),
    ("draws_from_rng", DrawsAnyhow()),
    ("validation_is_thought_of", DropsUnasked()),
    ("validation_is_thought_of", DropsAnyhow()),
    ("validation_is_thought_of", Forces()),
    ("prepared_cell", MakesSlow(wrong=WRONG)),
    ("prepared_cell", MakesSlow(forgets=True)),
    ("own_names", Biases()),
    ("own_names", Biases(noise=True)),
    ("initial_params", StartsAnyhow()),
    ("initial_params", StartsWithMore()),
    ("returns_result", ScalesToFloat64()),
    ("returns_result", Nothing()),
    ("is_pure", InPlace()),
    ("is_pure", Alternates()),
    ("zero_adjoint", Normalises()),
    ("zero_adjoint", NormalisesJacobians()),
    ("errors_pass_through", Swallows()),
]


test_fails_this_check_and_no_other, test_every_check_has_a_proof = proven(PROOFS, CHECKS)

"""The checks of the conformance kit, each proven by a plugin that it alone catches.

Where a number is at stake, that plugin is wrong by 0.1 %.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from unittest import SkipTest

import numpy as np
import pytest
from autograd.extend import defvjp, primitive

from gradsim import (
    Baseline,
    Cell,
    Episode,
    FiniteTask,
    Mitigation,
    Penalty,
    Recorder,
    Task,
    Variable,
    Wrapper,
    hookimpl,
    pick,
)
from gradsim.contracts.recorder import Adjoints
from gradsim.contracts.trajectory import Unrolled
from gradsim.errors import InputError, UnknownNameError
from gradsim.testing import check_cell, check_mitigation, check_recorder, check_task, checks_of, conformance
from gradsim.testing import recorder as recorders
from gradsim.testing.cell import suite as cells
from gradsim.testing.mitigation import suite as mitigations
from gradsim.testing.task import suite as tasks

pytest_plugins = ["pytester"]

WRONG = 1.001


def failures(plugin, **options):
    """The names of the checks that fail, and what they say."""
    found = {}
    for name, call in checks_of(plugin, **options):
        try:
            call()
        except AssertionError as error:
            found[name] = str(error)
        except SkipTest:
            pass
    return found


def proven(proofs_by_family):
    """The two tests of proofs, {family: ([(check, broken plugin), ...], checks of the family)}."""

    @pytest.mark.parametrize(
        ("check", "plugin"),
        [
            pytest.param(check, plugin, id=f"{family}-{check}-{type(plugin).__name__}-{i}")
            for family, (proofs, _) in proofs_by_family.items()
            for i, (check, plugin) in enumerate(proofs)
        ],
    )
    def fails_this_check_and_no_other(check, plugin):
        found = failures(plugin)
        assert set(found) == {check}, found
        assert type(plugin).__name__ in found[check]

    @pytest.mark.parametrize("family", proofs_by_family)
    def every_check_has_a_proof(family):
        proofs, checks = proofs_by_family[family]
        assert {check for check, _ in proofs} == {check.name for check in checks}

    return fails_this_check_and_no_other, every_check_has_a_proof


# Cells.


@dataclass(frozen=True, eq=False)
class Tanh(Cell):
    """h = tanh(W h + U x + b), with analytic derivatives."""

    name = "proof_tanh"

    input_size: int = 2
    hidden_size: int = 4

    @property
    def blocks(self):
        return {"h": self.hidden_size}

    @property
    def recurrent_weights(self):
        return ("W",)

    def init_params(self, rng):
        n = self.hidden_size
        return {
            "W": rng.standard_normal((n, n)) / np.sqrt(n),
            "U": rng.standard_normal((n, self.input_size)),
            "b": np.zeros(n),
        }

    def drive(self, params, state, inputs):
        return state @ params["W"].T + inputs @ params["U"].T + params["b"]

    def step(self, params, state, inputs, xp):
        return xp.tanh(self.drive(params, state, inputs))

    def slope(self, params, state, inputs):
        return 1 - np.tanh(self.drive(params, state, inputs)) ** 2

    def step_jacobian(self, params, state, inputs):
        return (self.slope(params, state, inputs)[..., None] * params["W"])[..., None, :, :]

    def state_vjp(self, params, state, inputs, cotangent):
        return (cotangent * self.slope(params, state, inputs)) @ params["W"]

    def params_vjp(self, params, state, inputs, cotangent):
        d = cotangent * self.slope(params, state, inputs)
        return {"W": d.swapaxes(-1, -2) @ state, "U": d.swapaxes(-1, -2) @ inputs, "b": d.sum(axis=-2)}


class CapitalName(Tanh):
    name = "ProofTanh"


class TakenName(Tanh):
    name = "gru"


class ReprHides(Tanh):
    def __repr__(self):
        return "ReprHides(a cell)"


class Undecorated(Tanh):
    gain: float = 1.0


@dataclass(frozen=True, eq=False)
class NoDefault(Tanh):
    gain: float = field(kw_only=True)


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


class Noisy(Tanh):
    """Adds noise that is drawn before the run; good."""

    def draw(self, rng, steps, batch):
        return {"noise": rng.standard_normal((steps, batch, 4))}

    def step(self, params, state, inputs, xp, *, noise):
        return super().step(params, state, inputs, xp) + 0.1 * noise

    def step_jacobian(self, params, state, inputs, noise):
        return super().step_jacobian(params, state, inputs)

    def state_vjp(self, params, state, inputs, cotangent, noise):
        return super().state_vjp(params, state, inputs, cotangent)

    def params_vjp(self, params, state, inputs, cotangent, noise):
        return super().params_vjp(params, state, inputs, cotangent)


class NoisyAnyhow(Noisy):
    def draw(self, rng, steps, batch):
        return super().draw(np.random.default_rng(), steps, batch)


class NoisyTurned(Noisy):
    def draw(self, rng, steps, batch):
        return {"noise": rng.standard_normal((batch, steps, 4))}


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


class MixesBatch(Tanh):
    def step(self, params, state, inputs, xp):
        new = super().step(params, state, inputs, xp)
        return new + 0.001 * xp.mean(xp.reshape(new, (-1, 4)), axis=0)


@dataclass(frozen=True, eq=False)
class StepOnly(Cell):
    """The least that a cell can be."""

    name = "proof_step_only"
    input_size: int = 2

    @property
    def blocks(self):
        return {"h": 4}

    def init_params(self, rng):
        return {"W": rng.standard_normal((4, 4)) / 2, "U": rng.standard_normal((4, self.input_size))}

    def step(self, params, state, inputs, xp):
        return xp.tanh(state @ params["W"].T + inputs @ params["U"].T)


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

    def init_params(self, rng):
        self.runs.append(1)
        return super().init_params(rng)

    def drive(self, params, state, inputs):
        return super().drive(params, state, inputs) * (1 + 0.001 * len(self.runs))

    def slope(self, params, state, inputs):
        return super().slope(params, state, inputs) * (1 + 0.001 * len(self.runs))


class WrongJacobian(Tanh):
    def step_jacobian(self, params, state, inputs):
        return WRONG * super().step_jacobian(params, state, inputs)


class OneWrongElement(Tanh):
    def step_jacobian(self, params, state, inputs):
        j = super().step_jacobian(params, state, inputs)
        j[..., 0, 2, 1] *= WRONG
        return j


class Transposed(Tanh):
    def step_jacobian(self, params, state, inputs):
        return super().step_jacobian(params, state, inputs).swapaxes(-1, -2)


@dataclass(frozen=True, eq=False)
class Diagonal(Cell):
    """h = a * h + U x, elementwise, with a leak of one unit into another if `coupling` is not 0."""

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
        return {"a": rng.uniform(0.3, 0.9, 4), "U": rng.standard_normal((4, self.input_size))}

    def step(self, params, state, inputs, xp):
        leak = self.coupling * np.eye(4, k=3, dtype=getattr(state, "dtype", float))
        return params["a"] * state + inputs @ params["U"].T + state @ leak

    def step_jacobian(self, params, state, inputs):
        return np.broadcast_to(params["a"][:, None, None], (*state.shape, 1, 1)).copy()


class WrongInARun(Tanh):
    def step_jacobian(self, params, state, inputs):
        return super().step_jacobian(params, state, inputs) * (WRONG if state.ndim == 3 else 1)


class WrongStateVjp(Tanh):
    def state_vjp(self, params, state, inputs, cotangent):
        return WRONG * super().state_vjp(params, state, inputs, cotangent)


class WrongParamsVjp(Tanh):
    def params_vjp(self, params, state, inputs, cotangent):
        found = super().params_vjp(params, state, inputs, cotangent)
        found["W"][..., 1, 2] *= WRONG
        return found


class ForgetsBias(Tanh):
    def params_vjp(self, params, state, inputs, cotangent):
        found = super().params_vjp(params, state, inputs, cotangent)
        return {n: found[n] for n in "WU"}


class SpreadsContributions(Tanh):
    def params_vjp(self, params, state, inputs, cotangent):
        found = super().params_vjp(params, state, inputs, cotangent)
        if state.ndim == 3:
            found = {n: g + 0.001 * g.mean(axis=0) for n, g in found.items()}
        return found


class CoarseFloat32(Tanh):
    def step_jacobian(self, params, state, inputs):
        j = super().step_jacobian(params, state, inputs)
        return j if j.dtype == np.float64 else j * np.float32(WRONG)


@primitive
def wrong_tanh(x):
    return np.tanh(x)


defvjp(wrong_tanh, lambda answer, x: lambda g: WRONG * g * (1 - answer**2))


class WrongPrimitive(Tanh):
    def step(self, params, state, inputs, xp):
        return wrong_tanh(self.drive(params, state, inputs))


class NumpyInside(Tanh):
    def step(self, params, state, inputs, xp):
        return np.tanh(np.asarray(self.drive(params, state, inputs), dtype=state.dtype))


@primitive
def once_tanh(x):
    return np.tanh(x)


@primitive
def slope_of_tanh(x):
    return 1 - np.tanh(x) ** 2


defvjp(once_tanh, lambda answer, x: lambda g: g * slope_of_tanh(x))
defvjp(slope_of_tanh, lambda answer, x: lambda g: -2 * WRONG * g * np.tanh(x) * answer)


class OnceDifferentiable(Tanh):
    def step(self, params, state, inputs, xp):
        return once_tanh(self.drive(params, state, inputs))


class Bends(Tanh):
    """Knows its second derivatives; good."""

    def bilinear_vjp(self, params, state, inputs, left, right):
        h, slope = np.tanh(self.drive(params, state, inputs)), self.slope(params, state, inputs)
        d = -2 * h * slope * (left * (right @ params["W"].T)).sum(axis=0)
        sides = (left * slope, right, d, state, inputs)
        through, right, flat, state, inputs = (x.reshape(-1, x.shape[-1]) for x in sides)
        found = {"W": through.T @ right + flat.T @ state, "U": flat.T @ inputs, "b": flat.sum(axis=0)}
        return found, d @ params["W"]


class WrongBends(Bends):
    def bilinear_vjp(self, *arguments):
        params, states = super().bilinear_vjp(*arguments)
        return {**params, "W": WRONG * params["W"]}, states


class WrongBendsOfStates(Bends):
    def bilinear_vjp(self, *arguments):
        params, states = super().bilinear_vjp(*arguments)
        return params, WRONG * states


class BendsOneCopy(Bends):
    def bilinear_vjp(self, params, state, inputs, left, right):
        return super().bilinear_vjp(params, state, inputs, left[:1], right[:1])


class BendsAtEachStep(Bends):
    def bilinear_vjp(self, *arguments):
        params, states = super().bilinear_vjp(*arguments)
        return {**params, "b": np.broadcast_to(params["b"], (len(states), 4))}, states


class BendsOnceDifferentiable(Bends, OnceDifferentiable):
    pass


class BendsCoarsely(Bends):
    def bilinear_vjp(self, *arguments):
        params, states = super().bilinear_vjp(*arguments)
        return params, states if states.dtype == np.float64 else states * np.float32(WRONG)


@dataclass(frozen=True, eq=False)
class TakesBlocks(Tanh):
    """Takes blocks of steps in its own way; good unless something is `wrong`."""

    wrong: str = ""

    def unroll(self, params, state, inputs, step_data, parallel):
        order = []
        parallel([partial(order.append, job) for job in ("first", "second")])
        taken = super().unroll(params, state, inputs, step_data, parallel)
        if self.wrong == "states" or (self.wrong == "jobs" and order[0] == "second"):
            taken.states[1:] *= WRONG
        return TakenBlock(self, params, taken.states, inputs, step_data)


class TakenBlock(Unrolled):
    def part(self, first, last):
        part = super().part(first, last)
        wrong = self.cell.wrong == "part"
        return replace(part, params={n: WRONG * p for n, p in part.params.items()}) if wrong else part

    def pull(self, incoming, direct):
        return PulledBlock(super().pull(incoming, direct), self.cell.wrong)


@dataclass(frozen=True, eq=False)
class PulledBlock:
    honest: object
    wrong: str

    @property
    def adjoints(self):
        return self.honest.adjoints * self._factor("adjoints")

    def contributions(self):
        return {n: self._factor("contributions") * p for n, p in self.honest.contributions().items()}

    def gradient(self):
        return {n: self._factor("gradient") * p for n, p in self.honest.gradient().items()}

    def _factor(self, what):
        return WRONG if self.wrong == what else 1


CELL_PROOFS = [
    ("name_and_repr", CapitalName()),
    ("name_and_repr", TakenName()),
    ("name_and_repr", ReprHides()),
    ("frozen_dataclass", Undecorated()),
    ("constructs_with_defaults", NoDefault(gain=1.0)),
    ("state_layout", UnknownOutput()),
    ("state_layout", UnevenGroups()),
    ("params_from_rng", OwnRandomness()),
    ("params_from_rng", GlobalRandomness()),
    ("params_from_rng", Float32Params()),
    ("recurrent_weights_exist", UnknownWeight()),
    ("draws_from_rng", NoisyAnyhow()),
    ("draws_from_rng", NoisyTurned()),
    ("step_data_is_given", AsksForMore()),
    ("step_shape_and_dtype", Promotes()),
    ("step_shape_and_dtype", Flat()),
    ("step_is_pure", Counts()),
    ("step_is_pure", WritesState()),
    ("leading_axes", MixesBatch()),
    ("finite_at_extremes", Overflows()),
    ("wrong_input_shape_is_refused", TakesAnything()),
    ("replay", Drifts()),
    ("jacobian", WrongJacobian()),
    ("jacobian", OneWrongElement()),
    ("jacobian", Transposed()),
    ("jacobian_structure", Diagonal(coupling=0.001)),
    ("jacobian_product", WrongInARun()),
    ("state_vjp", WrongStateVjp()),
    ("parameter_vjp", WrongParamsVjp()),
    ("parameter_vjp", ForgetsBias()),
    ("contributions_by_step", SpreadsContributions()),
    ("float32_derivatives", CoarseFloat32()),
    ("free_derivatives", WrongPrimitive()),
    ("free_derivatives", NumpyInside()),
    ("second_derivatives", OnceDifferentiable()),
    ("second_derivatives", WrongBends()),
    ("second_derivatives", WrongBendsOfStates()),
    ("second_derivatives", BendsOneCopy()),
    ("second_derivatives", BendsAtEachStep()),
    ("float32_second_derivatives", BendsCoarsely()),
    ("free_second_derivatives", BendsOnceDifferentiable()),
    ("unroll_states", TakesBlocks(wrong="states")),
    ("unroll_adjoints", TakesBlocks(wrong="adjoints")),
    ("unroll_contributions", TakesBlocks(wrong="contributions")),
    ("unroll_gradient", TakesBlocks(wrong="gradient")),
    ("unroll_part", TakesBlocks(wrong="part")),
    ("unroll_jobs", TakesBlocks(wrong="jobs")),
]


# Mitigations.


@dataclass(frozen=True, eq=False)
class Scale(Mitigation):
    """Halves the adjoint; good."""

    name = "proof_scale"

    factor: float = 0.5

    @hookimpl(wrapper=True)
    def gradsim_backward_step(self):
        adjoint = yield
        return self.factor * adjoint


class CapitalScale(Scale):
    name = "Scale"


@dataclass(frozen=True)
class ByValue(Scale):
    """Compared by value."""


@dataclass(frozen=True, eq=False)
class NeedsFactor(Scale):
    more: float = field(kw_only=True)


@dataclass(frozen=True, eq=False)
class Replaces(Mitigation):
    name = "proof_replaces"

    @hookimpl
    def gradsim_backward_step(self, adjoint):
        return adjoint


@dataclass(frozen=True, eq=False)
class Unmarked(Scale):
    def gradsim_backward(self, gradient):
        return gradient


class DrawsAnyhow(Scale):
    def draw(self, rng, steps, batch):
        return {"unused": np.random.default_rng().random(steps)}


@dataclass(frozen=True, eq=False)
class Slow(Wrapper):
    name = "proof_slow"
    cell: Cell
    wrong: float

    def step(self, params, state, inputs, xp, **data):
        new = self.cell.step(params, state, inputs, xp, **pick(data, self.cell.step_data))
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
    def gradsim_prepare_cell(self):
        cell = yield
        if self.once and isinstance(cell, Slow):
            raise InputError("once is enough")
        return (Forgets if self.forgets else Slow)(cell, self.wrong)


@dataclass(frozen=True, eq=False)
class StartsAnyhow(Mitigation):
    name = "proof_starts_anyhow"

    @hookimpl(wrapper=True)
    def gradsim_init_params(self):
        params = yield
        return params | {"b": np.random.default_rng().standard_normal(params["b"].shape)}


@dataclass(frozen=True, eq=False)
class StartsWithMore(Mitigation):
    name = "proof_starts_with_more"

    @hookimpl(wrapper=True)
    def gradsim_init_params(self):
        params = yield
        return params | {"more": np.zeros(2)}


class ScalesToFloat64(Scale):
    @hookimpl(wrapper=True)
    def gradsim_backward_step(self):
        adjoint = yield
        return np.float64(0.5) * adjoint


class Nothing(Scale):
    @hookimpl(wrapper=True)
    def gradsim_backward_step(self):
        yield


class InPlace(Scale):
    @hookimpl(wrapper=True)
    def gradsim_backward_step(self, adjoint):
        yield
        adjoint *= 0.999
        return adjoint


class Alternates(Scale):
    calls = []  # noqa: RUF012

    @hookimpl(wrapper=True)
    def gradsim_backward_step(self):
        adjoint = yield
        self.calls.append(1)
        return adjoint * (1 + 0.001 * (len(self.calls) % 2))


class MovesStates(Scale):
    @hookimpl(wrapper=True)
    def gradsim_backward_step(self, run, time):
        adjoint = yield
        if time == 1:
            run.states.flags.writeable = True
            run.states[1] *= WRONG
        return adjoint


class Seeds(Scale):
    @hookimpl(wrapper=True)
    def gradsim_backward_step(self):
        adjoint = yield
        np.random.seed(7)  # noqa: NPY002
        return adjoint


class Normalises(Scale):
    @hookimpl(wrapper=True)
    def gradsim_backward_step(self):
        adjoint = yield
        return adjoint / np.linalg.norm(adjoint, axis=-1, keepdims=True)


class Swallows(Scale):
    @hookimpl(wrapper=True)
    def gradsim_backward_step(self, adjoint):
        try:
            return (yield)
        except Exception:
            return adjoint


@dataclass(frozen=True, eq=False)
class ChangesItsMind(Mitigation):
    name = "proof_changes_its_mind"

    penalised = []  # noqa: RUF012

    @hookimpl(wrapper=True)
    def gradsim_backward_jacobian(self):
        flow = yield
        return replace(flow, blocks=(0.5 * WRONG if self.penalised else 0.5) * flow.blocks)

    @hookimpl(wrapper=True)
    def gradsim_penalty(self):
        penalty = yield
        self.penalised.append(True)
        return penalty

    @hookimpl(wrapper=True)
    def gradsim_backward(self):
        gradient = yield
        self.penalised.clear()
        return gradient


@dataclass(frozen=True, eq=False)
class Decay(Mitigation):
    """Half the squares of parameters and of states; good, unless told otherwise."""

    name = "proof_decay"

    of_params: float = 1.0
    of_states: float = 1.0

    @hookimpl(wrapper=True)
    def gradsim_penalty(self, run):
        penalty = yield
        value = 0.5 * sum(np.sum(p * p) for p in run.params.values()) + 0.5 * np.sum(run.states**2)
        gradient = {n: self.of_params * p for n, p in run.params.items()}
        return penalty + Penalty(float(value), gradient, self.of_states * run.states)


MITIGATION_PROOFS = [
    ("name_and_repr", CapitalScale()),
    ("frozen_dataclass", ByValue()),
    ("constructs_with_defaults", NeedsFactor(more=1.0)),
    ("wraps_only", Replaces()),
    ("wraps_only", Unmarked()),
    ("draws_from_rng", DrawsAnyhow()),
    ("prepared_cell", MakesSlow(wrong=WRONG)),
    ("prepared_cell", MakesSlow(forgets=True)),
    ("initial_params", StartsAnyhow()),
    ("initial_params", StartsWithMore()),
    ("returns_result", ScalesToFloat64()),
    ("returns_result", Nothing()),
    ("is_pure", InPlace()),
    ("is_pure", Alternates()),
    ("leaves_trajectory_and_jacobians", MovesStates()),
    ("inactive_unless_chosen", Seeds()),
    ("composes", MakesSlow(once=True)),
    ("zero_adjoint", Normalises()),
    ("errors_pass_through", Swallows()),
    ("effective_products", ChangesItsMind()),
    ("penalty_gradient", Decay(of_params=WRONG)),
    ("penalty_gradient", Decay(of_states=WRONG)),
]


# Tasks.


@dataclass(frozen=True, eq=False)
class Follow(Task):
    """Say the input; good."""

    name = "proof_follow"

    length: int = 5

    @property
    def input_size(self):
        return 2

    @property
    def output_size(self):
        return 2

    def sample(self, rng, batch):
        x = rng.standard_normal((self.length, batch, 2))
        return Episode(x, x.copy(), np.ones(x.shape[:2]))

    def loss(self, outputs, targets, xp):
        return xp.sum((outputs - targets) ** 2, axis=-1)


class CapitalFollow(Follow):
    name = "Follow"


class UndecoratedFollow(Follow):
    more: int = 1


@dataclass(frozen=True, eq=False)
class NeedsLength(Follow):
    more: int = field(kw_only=True)


class FloatSize(Follow):
    @property
    def output_size(self):
        return np.float64(2)


class SamplesAnyhow(Follow):
    def sample(self, rng, batch):
        return super().sample(np.random.default_rng(), batch)


class TurnedWeights(Follow):
    def sample(self, rng, batch):
        return replace(super().sample(rng, batch), weights=np.ones((batch, self.length)))


class WholeLoss(Follow):
    def loss(self, outputs, targets, xp):
        return xp.sum((outputs - targets) ** 2)


class WritesOutputs(Follow):
    def loss(self, outputs, targets, xp):
        value = super().loss(outputs, targets, xp)
        if isinstance(outputs, np.ndarray):
            outputs *= WRONG
        return value


class LossOfAll(Follow):
    def loss(self, outputs, targets, xp):
        value = super().loss(outputs, targets, xp)
        return value + 0.001 * xp.mean(value)


class WrongLoss(Follow):
    def loss(self, outputs, targets, xp):
        return xp.sum(wrong_tanh(outputs - targets), axis=-1)


class LossOverflows(Follow):
    def loss(self, outputs, targets, xp):
        return xp.log(xp.sum(xp.exp(outputs - targets), axis=-1))


@dataclass(frozen=True, eq=False)
class Unwritable(Follow):
    """Its parameters cannot be written into a dataset."""

    @property
    def parameters(self):
        return {"weights": {"of": np.ones(2)}}


@dataclass(frozen=True, eq=False)
class Scored(Follow):
    """Tells how often the sign is right; good."""

    metric = "signs"

    @property
    def baseline(self):
        return Baseline("zero", 2.0, 0.0)

    def score(self, outputs, targets):
        return (outputs * targets > 0).mean(axis=-1)


class NoScore(Scored):
    score = Task.score


class NoMetric(Scored):
    metric = None
    baseline = None


class WholeScore(Scored):
    def score(self, outputs, targets):
        return super().score(outputs, targets).mean()


class ScoreWrites(Scored):
    def score(self, outputs, targets):
        value = super().score(outputs, targets)
        targets *= WRONG
        return value


class ScoreOfAll(Scored):
    def score(self, outputs, targets):
        value = super().score(outputs, targets)
        return value + 0.001 * value.mean()


class NamelessBaseline(Scored):
    @property
    def baseline(self):
        return replace(super().baseline, name="")


class InfiniteBaseline(Scored):
    @property
    def baseline(self):
        return replace(super().baseline, loss=np.inf)


class BaselineWithoutScore(Scored):
    @property
    def baseline(self):
        return replace(super().baseline, score=None)


class BaselineWithoutMetric(Follow):
    @property
    def baseline(self):
        return Baseline("zero", 2.0, 0.0)


@dataclass(frozen=True, eq=False)
class Few(FiniteTask):
    """Twelve sequences, eight of them for training; good."""

    name = "proof_few"

    length: int = 5

    @property
    def input_size(self):
        return 2

    @property
    def output_size(self):
        return 2

    @property
    def sequences(self):
        return {"train": 8, "validation": 4}

    def take(self, part, chosen):
        whole = np.random.default_rng(["train", "validation"].index(part)).standard_normal(
            (self.length, 8, 2)
        )
        x = whole[:, chosen]
        return Episode(x, x.copy(), np.ones(x.shape[:2]))

    def loss(self, outputs, targets, xp):
        return xp.sum((outputs - targets) ** 2, axis=-1)


class NoTrain(Few):
    @property
    def sequences(self):
        return {"learn": 8, "validation": 4}


class EmptyPart(Few):
    @property
    def sequences(self):
        return {"train": 8, "validation": 0}


class Perhaps(Few):
    consecutive = None


class TakesAnother(Few):
    def take(self, part, chosen):
        return super().take(part, np.sort(chosen))


class TakesAnyhow(Few):
    def take(self, part, chosen):
        episode = super().take(part, chosen)
        return replace(episode, weights=episode.weights * (WRONG if len(chosen) == 2 else 1))


class RaggedParts(Few):
    def take(self, part, chosen):
        episode = super().take(part, chosen)
        return episode if part == "train" else Episode(*(getattr(episode, n)[1:] for n in ARRAYS))


ARRAYS = ("inputs", "targets", "weights")


class TakesTurned(Few):
    def take(self, part, chosen):
        episode = super().take(part, chosen)
        return episode if part == "train" else replace(episode, weights=episode.weights.T)


class Repeats(Few):
    def sample(self, rng, batch):
        self.available("train", batch)
        return self.take("train", rng.integers(0, 8, batch))


class Endless(Few):
    def sample(self, rng, batch):
        return self.take("train", rng.permutation(np.arange(batch) % 8))


TASK_PROOFS = [
    ("name_and_repr", CapitalFollow()),
    ("frozen_dataclass", UndecoratedFollow()),
    ("constructs_with_defaults", NeedsLength(more=1)),
    ("sizes", FloatSize()),
    ("sample_from_rng", SamplesAnyhow()),
    ("episode_shapes", TurnedWeights()),
    ("loss_shape", WholeLoss()),
    ("loss_is_pure", WritesOutputs()),
    ("loss_by_output", LossOfAll()),
    ("loss_gradient", WrongLoss()),
    ("loss_finite_at_extremes", LossOverflows()),
    ("runs", Unwritable()),
    ("score_shape", NoScore()),
    ("score_shape", NoMetric()),
    ("score_shape", WholeScore()),
    ("score_is_pure", ScoreWrites()),
    ("score_by_output", ScoreOfAll()),
    ("baseline_is_stated", NamelessBaseline()),
    ("baseline_is_stated", InfiniteBaseline()),
    ("baseline_is_stated", BaselineWithoutScore()),
    ("baseline_is_stated", BaselineWithoutMetric()),
    ("parts", NoTrain()),
    ("parts", EmptyPart()),
    ("parts", Perhaps()),
    ("takes_sequences", TakesAnother()),
    ("takes_sequences", TakesAnyhow()),
    ("takes_sequences", RaggedParts()),
    ("takes_sequences", TakesTurned()),
    ("samples_the_training_part", Repeats()),
    ("samples_the_training_part", Endless()),
]


# Recorders.


@dataclass(frozen=True, eq=False)
class Largest(Recorder):
    """The largest component of the adjoint; good."""

    name = "proof_largest"
    stream = Adjoints

    def variables(self, problem):
        return (Variable("proof_largest", ("time", "batch"), "largest component of the adjoint"),)

    def compute(self, piece):
        return {"proof_largest": np.abs(piece.adjoint.value).max(axis=-1)}


class CapitalLargest(Largest):
    name = "Largest"


class UndecoratedLargest(Largest):
    more: int = 1


@dataclass(frozen=True, eq=False)
class NeedsMore(Largest):
    more: int = field(kw_only=True)


class UnknownDim(Largest):
    def variables(self, problem):
        return (Variable("proof_largest", ("time", "sequence"), "largest component of the adjoint"),)


class NoCost(Largest):
    def flops(self, problem):
        return float("nan")


class OtherName(Largest):
    def compute(self, piece):
        return {"largest": np.abs(piece.adjoint.value).max(axis=-1)}


class KeepsCount(Largest):
    calls = []  # noqa: RUF012

    def compute(self, piece):
        self.calls.append(1)
        return {n: v * (1 + 0.001 * (len(self.calls) % 2)) for n, v in super().compute(piece).items()}


class AllZero(Largest):
    def compute(self, piece):
        return {n: 0 * v for n, v in super().compute(piece).items()}


class OtherTwin(Largest):
    def compute(self, piece):
        return {n: v * (WRONG if self.effective else 1) for n, v in super().compute(piece).items()}


RECORDER_PROOFS = [
    ("name_and_repr", CapitalLargest()),
    ("frozen_dataclass", UndecoratedLargest()),
    ("constructs_with_defaults", NeedsMore(more=1)),
    ("declares_variables", UnknownDim()),
    ("declares_cost", NoCost()),
    ("computes_what_it_declares", OtherName()),
    ("compute_is_pure", KeepsCount()),
    ("fills_its_variables", AllZero()),
    ("twin_is_raw_without_mitigations", OtherTwin()),
]


PROOFS = {
    "cells": (CELL_PROOFS, cells.CHECKS),
    "mitigations": (MITIGATION_PROOFS, mitigations.CHECKS),
    "tasks": (TASK_PROOFS, tasks.CHECKS),
    "recorders": (RECORDER_PROOFS, recorders.CHECKS),
}


test_a_broken_plugin_fails_this_check_and_no_other, test_every_check_has_a_proof = proven(PROOFS)


def test_there_are_more_than_twenty_checks():
    assert len(cells.CHECKS) + len(mitigations.CHECKS) > 20


# Good plugins.


class WithMax(StepOnly):
    def step(self, params, state, inputs, xp):
        a = state @ params["W"].T + inputs @ params["U"].T
        return xp.maximum(a, 0.1 * a) - 0.3 * xp.max(a, axis=-1, keepdims=True)


class Forced(StepOnly):
    """Asks for what only a task draws."""

    def step(self, params, state, inputs, xp, *, forcing):
        return 0.9 * super().step(params, state, inputs, xp) + 0.1 * forcing


@dataclass(frozen=True, eq=False)
class ForcingTask(Follow):
    name = "proof_forcing"

    def sample(self, rng, batch):
        episode = super().sample(rng, batch)
        return replace(episode, step_data={"forcing": rng.standard_normal((self.length, batch, 4))})


def test_good_plugins_pass():
    for cell in (Tanh(), Bends(), TakesBlocks(), StepOnly(), Noisy(), Diagonal(), WithMax(), Forced()):
        assert failures(cell) == {}
        check_cell(cell)
    check_cell(Forced(), task=ForcingTask())
    for mitigation in (Scale(), MakesSlow(), Decay()):
        check_mitigation(mitigation)
    check_mitigation(Scale(), cell=Noisy())
    check_mitigation(MakesSlow(), cell=Forced(), task=ForcingTask())
    for task in (Follow(), Scored(), Few()):
        check_task(task)
    check_recorder(Largest())


class OwnDiagonal(Diagonal):
    def unroll(self, *arguments):
        return super().unroll(*arguments)

    def bilinear_vjp(self, *arguments):
        return super().bilinear_vjp(*arguments)


def test_all_checks_of_a_good_cell_are_made():
    names = [name for name, call in checks_of(OwnDiagonal()) if call() is None]
    assert names == [check.name for check in cells.CHECKS]


def test_check_cell_raises_at_the_first_failure():
    with pytest.raises(AssertionError, match=r"WrongJacobian\(.*step_jacobian\(\) differs .* delete it"):
        check_cell(WrongJacobian())


def test_a_check_without_its_ground_is_not_made():
    calls = dict(checks_of(WrongJacobian()))
    with pytest.raises(SkipTest, match="jacobian_product rests on jacobian, which fails"):
        calls["jacobian_product"]()


def test_what_is_no_plugin_object_is_refused():
    with pytest.raises(InputError, match="call the class"):
        check_cell(Tanh)
    with pytest.raises(InputError, match="Mitigation object is needed"):
        check_mitigation(Tanh())
    with pytest.raises(InputError, match="call the class"):
        checks_of(Tanh)


def test_the_same_verdict_every_time():
    assert failures(WrongJacobian()) == failures(WrongJacobian())


# The pytest function.


def test_an_unknown_expected_failure_is_an_error():
    with pytest.raises(UnknownNameError, match="did you mean 'jacobian'"):
        conformance(Tanh(), expected_failures={"jacobain": "a typing error"})


MODULE = """
from gradsim.testing import conformance
from test_testing import Tanh, Scale, WrongJacobian

test_my_cell = conformance({arguments})
"""


def outcomes(pytester, arguments, *options):
    pytester.syspathinsert(__file__.rsplit("/", 1)[0])
    pytester.makepyfile(MODULE.format(arguments=arguments))
    return pytester.runpytest_inprocess("-v", "-p", "no:cacheprovider", *options)


def test_ids_are_readable_and_selectable(pytester):
    result = outcomes(pytester, "Tanh(), Tanh(hidden_size=5), Scale()", "-k", "product or is_pure")
    result.stdout.fnmatch_lines_random(
        [
            "*::test_my_cell?proof_tanh-jacobian_product? PASSED*",
            "*::test_my_cell?proof_tanh-hidden_size=5-jacobian_product? PASSED*",
            "*::test_my_cell?proof_scale-is_pure? PASSED*",
        ]
    )
    result.assert_outcomes(passed=5, deselected=len(checks_of(Tanh())) * 2 + len(checks_of(Scale())) - 5)


def test_a_failure_is_one_sentence_and_what_rests_on_it_is_skipped(pytester):
    result = outcomes(pytester, "WrongJacobian()")
    count = len(checks_of(WrongJacobian()))
    result.assert_outcomes(failed=1, skipped=1, passed=count - 2)
    result.stdout.fnmatch_lines(["*AssertionError: WrongJacobian(*: step_jacobian() differs from central*"])


def test_expected_failures_are_strict(pytester):
    expected = 'expected_failures={"jacobian": "a surrogate"}'
    count = len(checks_of(WrongJacobian()))
    outcomes(pytester, f"WrongJacobian(), {expected}").assert_outcomes(xfailed=1, skipped=1, passed=count - 2)
    result = outcomes(pytester, f"Tanh(), {expected}")
    result.assert_outcomes(failed=1, passed=count - 1)
    result.stdout.fnmatch_lines(["*XPASS(strict)*a surrogate*"])

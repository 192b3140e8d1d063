"""What mitigations do, from their docstrings, in plain loops over what `reference` has."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from loops.plain import gated, leaky
from loops.reference import norm
from probes import mitigations as probes

from gradsim import Mitigation, hookimpl
from gradsim_mitigations import (
    RTRL,
    AutoClip,
    ClipNorm,
    ClipValue,
    Gate,
    GradientCentralisation,
    JacobianPenalty,
    JacobianRegulariser,
    Leak,
    OrthogonalInit,
    Truncate,
    TruncateAnnealed,
    WeightDecay,
)


@dataclass(frozen=True)
class Act:
    """A mitigation, and what it does in each phase. `exact`: without differences of near numbers."""

    made: Mitigation
    cell: Callable | None = None
    jacobians: Callable | None = None
    adjoint: Callable | None = None
    contributions: Callable | None = None
    penalty: Callable | None = None
    gradient: Callable | None = None
    rule: bool = False
    params: Callable | None = None
    exact: bool = True


@dataclass(frozen=True, eq=False)
class ByStep(Mitigation):
    """Step Jacobian s times 1 + slope * s."""

    name = "loops_by_step"
    slope: float = 0.01

    @hookimpl(wrapper=True)
    def gradsim_jacobians(self):
        jacobians = yield
        scale = 1 + self.slope * np.array(jacobians.steps)[:, None, None, None, None]
        return jacobians.changed(lambda blocks: scale * blocks)


@dataclass(frozen=True, eq=False)
class Turn(Mitigation):
    """Turns the adjoint's components by one place and halves it."""

    name = "loops_turn"

    @hookimpl(wrapper=True)
    def gradsim_adjoint(self):
        adjoint = yield
        return np.roll(adjoint, 1, axis=-1) / 2


def differences(function, x, h=1e-5):
    """The derivative of a number by each component of x, with errors of the fourth order."""
    found = np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        values = []
        for k in (-2, -1, 1, 2):
            moved = x.copy()
            moved[index] += k * h
            values.append(function(moved))
        found[index] = (values[0] - values[3] + 8 * (values[2] - values[1])) / (12 * h)
    return found


def _total(gradient):
    return math.sqrt(sum(float((g * g).sum()) for g in gradient.values()))


def gate(bias):
    return Act(Gate(bias), cell=gated)


def leak(rate):
    return Act(Leak(rate), cell=lambda cell: leaky(cell, rate))


def orthogonal(gain):
    def check(params, names):
        for name in names:
            n = params[name].shape[1]
            for q in params[name].reshape(-1, n, n) / gain:
                np.testing.assert_allclose(q @ q.T, np.eye(n), atol=1e-5)

    return Act(OrthogonalInit(gain), params=check)


def truncate(k1, k2):
    def change(raw, jacobians, reach):
        found = [min(k1 * math.ceil(s / k1), raw.steps) - k2 + 1 for s in range(1, raw.steps + 1)]
        return jacobians, np.maximum(reach, found)

    return Act(Truncate(k1, k2), jacobians=change)


def annealed(first):
    def change(raw, jacobians, reach):
        return jacobians, np.maximum(reach, np.arange(1, raw.steps + 1) - first + 1)

    return Act(TruncateAnnealed(first, first + 7), jacobians=change)


def by_step(slope):
    def change(raw, jacobians, reach):
        return np.array([(1 + slope * (i + 1)) * j for i, j in enumerate(jacobians)]), reach

    return Act(ByStep(slope), jacobians=change)


def unit_gain():
    def change(raw, jacobians, reach):
        mean = norm(raw.jacobians, (-1, -2)).mean()
        return jacobians * (math.sqrt(raw.given.cell.size) / mean), reach

    return Act(probes.UnitGain(), jacobians=change)


def clip_adjoint(limit):
    def change(adjoint):
        size = norm(adjoint, -1)[:, None]
        return adjoint * np.where(size > limit, limit / np.where(size > 0, size, 1), 1)

    return Act(ClipNorm(limit, where="adjoint"), adjoint=change)


def turn():
    return Act(Turn(), adjoint=lambda a: np.concatenate([a[:, -1:], a[:, :-1]], axis=1) / 2)


def clip_contributions(limit):
    def change(contributions):
        found = {n: np.array(by_step) for n, by_step in contributions.items()}
        for t in range(len(next(iter(found.values())))):
            size = _total({n: by_step[t] for n, by_step in found.items()})
            for by_step in found.values():
                by_step[t] *= min(1, limit / (size or limit))
        return found

    return Act(ClipNorm(limit, where="contribution"), contributions=change)


def rtrl():
    return Act(RTRL(), rule=True)


def clip_norm(limit):
    def change(gradient):
        return {n: g * min(1, limit / (_total(gradient) or limit)) for n, g in gradient.items()}

    return Act(ClipNorm(limit), gradient=change)


def clip_value(limit):
    def change(gradient):
        return {n: np.minimum(np.maximum(g, -limit), limit) for n, g in gradient.items()}

    return Act(ClipValue(limit), gradient=change)


def auto_clip(percentile):
    """A run on its own remembers no norm but that of its gradient, which is any percentile."""
    return Act(AutoClip(percentile), gradient=lambda gradient: gradient)


def gradient_centralisation():
    def change(gradient):
        centred = {}
        for name, g in gradient.items():
            several = g.ndim > 1 and g.shape[1] > 1
            centred[name] = np.array([row - sum(row) / len(row) for row in g]) if several else g
        return centred

    return Act(GradientCentralisation(), gradient=change)


def weight_decay(l2, l1):
    def add(raw, adjoints):
        everything = {**raw.given.params, **raw.given.readout}
        chosen = {n: p for n, p in everything.items() if p.ndim >= 2}
        value = sum(l2 / 2 * (p**2).sum() + l1 * abs(p).sum() for p in chosen.values())
        return value, {n: l2 * p + l1 * np.sign(p) for n, p in chosen.items()}, None

    return Act(WeightDecay(l2, l1), penalty=add)


def jacobian_penalty(weight, form):
    def add(raw, adjoints):
        a = adjoints[1:].astype(float)
        square = (a * a).sum(-1)
        counts = square >= 1e-20
        power = {"ratio": 1, "squared_ratio": 2}[form]

        def omega(params):
            carried = np.einsum("tbi,tbij->tbj", a, raw.jacobians_at(params, raw.states[:-1]))
            ratio = np.sqrt((carried**2).sum(-1) / np.where(counts, square, 1))
            return weight / raw.batch * ((ratio**power - 1) ** 2)[counts].sum()

        return omega(raw.given.params), _by_params(omega, raw.given.params), None

    return Act(JacobianPenalty(weight, form), penalty=add, exact=False)


def steady_norm(beta):
    def add(raw, adjoints):
        size = np.sqrt((raw.states**2).sum(-1) + 1e-12)
        change, scale = size[1:] - size[:-1], beta / (raw.batch * raw.steps)
        slope = np.zeros(size.shape)
        slope[1:] += 2 * scale * change
        slope[:-1] -= 2 * scale * change
        return scale * (change**2).sum(), {}, (slope / size)[..., None] * raw.states

    return Act(probes.SteadyNorm(beta), penalty=add)


def jacobian_regulariser(weight):
    def add(raw, adjoints):
        params, before = raw.given.params, raw.states[:-1]
        scale = weight / 2 / (raw.batch * raw.steps)

        def squares(params, before):
            return scale * (raw.jacobians_at(params, before) ** 2).sum((-1, -2))

        by_state, h = np.zeros(raw.states.shape), 1e-5
        for j in range(before.shape[-1]):  # J_t sees no state but the one before
            values = []
            for k in (-2, -1, 1, 2):
                moved = before.copy()
                moved[..., j] += k * h
                values.append(squares(params, moved))
            by_state[:-1, :, j] = (values[0] - values[3] + 8 * (values[2] - values[1])) / (12 * h)
        value = squares(params, before).sum()
        return value, _by_params(lambda p: squares(p, before).sum(), params), by_state

    return Act(JacobianRegulariser(weight), penalty=add, exact=False)


def _by_params(function, params) -> dict[str, Any]:
    return {n: differences(lambda x, n=n: function(params | {n: x}), p) for n, p in params.items()}

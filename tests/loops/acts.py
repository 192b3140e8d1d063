"""What mitigations do, from their docstrings, in plain loops over what `reference` has."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from loops.plain import gated, leaky
from loops.reference import Flow, norm
from probes import mitigations as probes

from gradsim import Mitigation, hookimpl
from gradsim_mitigations import (
    ARTBP,
    RFLO,
    RTRL,
    Activity,
    AutoClip,
    ClipAdaptive,
    ClipChunkEdges,
    ClipNorm,
    ClipValue,
    EProp,
    Gate,
    GradientCentralisation,
    GradientNoise,
    HDetach,
    Immediate,
    JacobianPenalty,
    JacobianRegulariser,
    Leak,
    NormStabiliser,
    OrthogonalInit,
    SnAp,
    SoftOrthogonality,
    Truncate,
    TruncateAdaptive,
    TruncateAnnealed,
    TruncateForward,
    WeightDecay,
)


@dataclass(frozen=True)
class Act:
    """A mitigation, and what it does in each phase. `exact`: without differences of near numbers.

    Under a rule `jacobians` are those of a way back that gives the same gradient.
    """

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


def windows(k1, k2):
    def change(raw, jacobians, reach):
        found = [min(k1 * math.ceil(s / k1), raw.steps) - k2 + 1 for s in range(1, raw.steps + 1)]
        return jacobians, np.maximum(reach, found)

    return change


def truncate(k1, k2):
    return Act(Truncate(k1, k2), jacobians=windows(k1, k2))


def annealed(first):
    def change(raw, jacobians, reach):
        return jacobians, np.maximum(reach, np.arange(1, raw.steps + 1) - first + 1)

    return Act(TruncateAnnealed(first, first + 7), jacobians=change)


def adaptive(delta, longest):
    def change(raw, jacobians, reach):
        phi = _decay(raw, min(longest, raw.steps + 1))
        for window in range(1, len(phi) + 1):
            rest = 0 if longest > raw.steps else _bound(phi)
            if sum(phi[window:]) + rest <= delta * (sum(phi) - rest):
                break
        return jacobians, np.maximum(reach, np.arange(1, raw.steps + 1) - window + 1)

    return Act(TruncateAdaptive(delta, longest), jacobians=change)


def _decay(raw, lags):
    """||dL_s/ds_{s-k}|| by lag k, summed over losses and averaged over the batch."""
    pairs = [(k + lag, k) for lag in range(lags) for k in range(raw.steps + 1 - lag)]
    found, phi = Flow(raw, False).products(pairs), [0.0] * lags
    for t, k in pairs:
        phi[t - k] += norm(np.einsum("bi,bij->bj", raw.direct[t], found[t, k]), -1).mean()
    return phi


def _bound(phi):
    """Of all later lags, as they decay most slowly so far."""
    if phi[-1] == 0:
        return 0
    if len(phi) == 1 or phi[0] == 0:
        return math.inf
    beta = max((phi[k] / phi[0]) ** (1 / k) for k in range(1, len(phi)))
    return phi[-1] * beta / (1 - beta) if beta < 1 else math.inf


def artbp(length, alpha):
    made = ARTBP(length, alpha)

    def change(raw, jacobians, reach):
        cut, found = raw.given.draws[made]["carried"] == 0, np.array(jacobians)
        for b in range(raw.batch):
            since = 1
            for t in range(raw.steps):
                chance = 1 / length if alpha is None else (alpha - 1) / ((alpha - 2) * length + since)
                found[t, b] *= 0 if cut[t, b] else 1 / (1 - chance)
                since = 1 if cut[t, b] else since + 1
        return found, reach

    return Act(made, jacobians=change)


def h_detach(probability, h):
    """Of an LSTM: without `h` all that is left of the step is what c does through the forget gate."""
    made = HDetach(probability)

    def change(raw, jacobians, reach):
        found = np.array(jacobians)
        for t, b in np.argwhere(raw.given.draws[made]["detached"]):
            found[t, b, :, :] = raw.jacobians[t, b]
            found[t, b, :, h] = 0
        return found, reach

    return Act(made, jacobians=change)


def by_step(slope):
    def change(raw, jacobians, reach):
        return np.array([(1 + slope * (i + 1)) * j for i, j in enumerate(jacobians)]), reach

    return Act(ByStep(slope), jacobians=change)


def unit_gain():
    def change(raw, jacobians, reach):
        mean = norm(raw.jacobians, (-1, -2)).mean()
        return jacobians * (math.sqrt(raw.given.cell.size) / mean if mean else 1), reach

    return Act(probes.UnitGain(), jacobians=change)


def clip_adjoint(limit):
    def change(adjoint, time, last):
        size = norm(adjoint, -1)[:, None]
        return adjoint * np.where(size > limit, limit / np.where(size > 0, size, 1), 1)

    return Act(ClipNorm(limit, where="adjoint"), adjoint=change)


def turn():
    return Act(Turn(), adjoint=lambda a, *_: np.concatenate([a[:, -1:], a[:, :-1]], axis=1) / 2)


def clip_adjoint_value(limit):
    return Act(
        ClipValue(limit, where="adjoint"), adjoint=lambda a, *_: np.minimum(np.maximum(a, -limit), limit)
    )


def clip_chunk_edges(k1, threshold, shrink, limit, blocks):
    def change(adjoint, time, last):
        found = np.array(adjoint)
        if time == 0 or time == last or time % k1:
            return found
        for i in range(len(found)):
            for block in blocks:
                size = norm(adjoint[i, block], -1)
                kept = min(shrink, limit / size) if size > 0 else shrink
                found[i, block] *= 0 if size > threshold else kept
        return found

    return Act(ClipChunkEdges(k1, threshold, shrink, limit), adjoint=change)


def clip_contributions(limit):
    def change(contributions):
        found = {n: np.array(by_step) for n, by_step in contributions.items()}
        for t in range(len(next(iter(found.values())))):
            size = _total({n: by_step[t] for n, by_step in found.items()})
            for by_step in found.values():
                by_step[t] *= min(1, limit / (size or limit))
        return found

    return Act(ClipNorm(limit, where="contribution"), contributions=change)


def clip_contributions_value(limit):
    def change(contributions):
        return {n: np.minimum(np.maximum(c, -limit), limit) for n, c in contributions.items()}

    return Act(ClipValue(limit, where="contribution"), contributions=change)


def rtrl():
    return Act(RTRL(), rule=True)


def snap():
    """With more steps than a run has, nothing is left out."""
    return Act(SnAp(1000), rule=True)


def forward_windows(k1, k2):
    return Act(TruncateForward(k1, k2), rule=True, jacobians=windows(k1, k2))


def immediate():
    return Act(Immediate(), rule=True, jacobians=lambda raw, jacobians, reach: (0 * jacobians, reach))


def rflo(leak):
    def change(raw, jacobians, reach):
        return 0 * jacobians + (1 - leak) * np.eye(jacobians.shape[-1]), reach

    return Act(RFLO(leak), rule=True, jacobians=change)


def e_prop(units):
    """`units`: the unit of each component of the state."""
    same = np.array([[a == b for b in units] for a in units])

    def change(raw, jacobians, reach):
        return jacobians if raw.given.cell.groups > 1 else same * jacobians, reach

    return Act(EProp(), rule=True, jacobians=change)


def clip_norm(limit):
    def change(gradient, raw):
        return {n: g * min(1, limit / (_total(gradient) or limit)) for n, g in gradient.items()}

    return Act(ClipNorm(limit), gradient=change)


def clip_parameters(limit):
    def change(gradient, raw):
        return {n: g * min(1, limit / (norm(g, None) or limit)) for n, g in gradient.items()}

    return Act(ClipNorm(limit, where="parameter"), gradient=change)


def clip_adaptive(limit, floor):
    def change(gradient, raw):
        found, params = {}, {**raw.given.params, **raw.given.readout}
        for name, g in gradient.items():
            units = [(g[i], params[name][i]) for i in range(len(g))] if g.ndim > 1 else [(g, params[name])]
            cut = [
                x * min(1, limit * max(norm(w, None), floor) / (norm(x, None) or 1e-300)) for x, w in units
            ]
            found[name] = np.array(cut).reshape(g.shape)
        return found

    return Act(ClipAdaptive(limit, floor), gradient=change)


def gradient_noise(eta):
    made = GradientNoise(eta)
    return Act(
        made, gradient=lambda gradient, raw: {n: g + raw.given.draws[made][n] for n, g in gradient.items()}
    )


def clip_value(limit):
    def change(gradient, raw):
        return {n: np.minimum(np.maximum(g, -limit), limit) for n, g in gradient.items()}

    return Act(ClipValue(limit), gradient=change)


def auto_clip(percentile):
    """A run on its own remembers no norm but that of its gradient, which is any percentile."""
    return Act(AutoClip(percentile), gradient=lambda gradient, raw: gradient)


def gradient_centralisation():
    def change(gradient, raw):
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


def activity(weight, temporal, units):
    def add(raw, adjoints):
        h, slope = raw.states, np.zeros(raw.states.shape)
        count, value = raw.steps * raw.batch * len(units), 0
        for t in range(1, raw.steps + 1):
            for i in units:
                change = h[t, :, i] - h[t - 1, :, i]
                value += (weight * h[t, :, i] ** 2 + temporal * change**2).sum() / count
                slope[t, :, i] += 2 * (weight * h[t, :, i] + temporal * change) / count
                slope[t - 1, :, i] -= 2 * temporal * change / count
        return value, {}, slope

    return Act(Activity(weight, temporal), penalty=add)


def norm_stabiliser(weight, units):
    def add(raw, adjoints):
        slope, value, scale = np.zeros(raw.states.shape), 0, weight / (raw.batch * raw.steps)
        for t in range(1, raw.steps + 1):
            for b in range(raw.batch):
                now, before = (norm(raw.states[s, b, units], None) for s in (t, t - 1))
                value += scale * (now - before) ** 2
                for s, size, sign in ((t, now, 1), (t - 1, before, -1)):
                    if size > 0:
                        slope[s, b, units] += (
                            sign * 2 * scale * (now - before) * raw.states[s, b, units] / size
                        )
        return value, {}, slope

    return Act(NormStabiliser(weight), penalty=add)


def soft_orthogonality(weight, names):
    def add(raw, adjoints):
        value, slopes = 0, {}
        for name in names:
            w = raw.given.params[name]
            n, slopes[name] = w.shape[1], np.zeros(w.shape)
            for r in range(0, len(w), n):
                away = w[r : r + n].T @ w[r : r + n] - np.eye(n)
                value += weight * (away**2).sum()
                slopes[name][r : r + n] = 4 * weight * w[r : r + n] @ away
        return value, slopes, None

    return Act(SoftOrthogonality(weight), penalty=add)


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

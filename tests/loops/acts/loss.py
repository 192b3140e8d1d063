"""What is added to the loss: value, derivatives by parameter and, where there are some, by state."""

from __future__ import annotations

from typing import Any

import numpy as np
from loops.acts.act import Act, differences
from loops.plain import TINY
from loops.reference import norm
from probes import mitigations as probes

from gradsim_mitigations import (
    Activity,
    Flossing,
    JacobianPenalty,
    JacobianRegulariser,
    NormStabiliser,
    SoftOrthogonality,
    WeightDecay,
)


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


def soft_orthogonality(weight):
    def add(raw, adjoints):
        value, slopes = 0, {}
        for name in raw.given.recurrent:
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
        scale = weight / 2 / (raw.batch * raw.steps)
        return scale * (raw.jacobians**2).sum(), *_by_jacobians(raw, 2 * scale * raw.jacobians)

    return Act(JacobianRegulariser(weight), penalty=add, exact=False)


def flossing(weight, exponents, target, transient):
    made = Flossing(weight, exponents, target, transient)

    def add(raw, adjoints):
        start = raw.given.draws[made]["start"]

        def value(jacobians):
            """By batch element, of step Jacobians (step, ..., batch, m, m)."""
            frame, grown = start, 0.0
            for t, jacobian in enumerate(jacobians):
                frame, size = _gram_schmidt(jacobian @ frame)
                grown = grown + (t >= transient) * np.log(size)
            return weight / raw.batch * ((grown / (raw.steps - transient) - target) ** 2).mean(axis=-1)

        slopes = np.zeros(raw.jacobians.shape)
        for t in range(raw.steps):  # all entries of a step at once, by complex steps
            m = raw.given.cell.size
            bumped = [np.broadcast_to(j, (m * m, *j.shape)).astype(complex) for j in raw.jacobians]
            bumped[t] += TINY * 1j * np.eye(m * m).reshape(m * m, 1, m, m)
            slopes[t] = np.moveaxis(value(bumped).imag / TINY, 0, -1).reshape(raw.batch, m, m)
        return value(raw.jacobians).sum(), *_by_jacobians(raw, slopes)

    return Act(made, penalty=add, exact=False)


def _gram_schmidt(columns):
    """An orthonormal frame of columns (..., m, k), and how long what is new in each is, (..., k)."""
    frame, sizes = [], []
    for i in range(columns.shape[-1]):
        rest = columns[..., i]
        for _ in range(2):  # once more for what rounding leaves
            for q in frame:
                rest = rest - (q * rest).sum(-1, keepdims=True) * q
        sizes.append(np.sqrt((rest * rest).sum(-1)))
        frame.append(rest / sizes[-1][..., None])
    return np.stack(frame, axis=-1), np.stack(sizes, axis=-1)


def _by_jacobians(raw, slopes):
    """Derivatives by parameter and by state of what changes so with step Jacobians (step, batch, m, m)."""
    params, before = raw.given.params, raw.states[:-1]

    def sums(params, before):
        return (slopes * raw.jacobians_at(params, before)).sum((-1, -2))

    by_state, h = np.zeros(raw.states.shape), 1e-5
    for j in range(before.shape[-1]):  # J_t sees no state but the one before
        values = []
        for k in (-2, -1, 1, 2):
            moved = before.copy()
            moved[..., j] += k * h
            values.append(sums(params, moved))
        by_state[:-1, :, j] = (values[0] - values[3] + 8 * (values[2] - values[1])) / (12 * h)
    return _by_params(lambda p: sums(p, before).sum(), params), by_state


def _by_params(function, params) -> dict[str, Any]:
    return {n: differences(lambda x, n=n: function(params | {n: x}), p) for n, p in params.items()}

"""What changes the way back: step Jacobians and how far losses reach, adjoints, contributions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from loops.acts.act import Act, total
from loops.reference import Flow, norm
from probes import mitigations as probes

from gradsim import Mitigation, hookimpl
from gradsim_mitigations import (
    ARTBP,
    ClipChunkEdges,
    ClipNorm,
    ClipValue,
    HDetach,
    ScalePaths,
    Truncate,
    TruncateAdaptive,
    TruncateAnnealed,
)


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


def h_detach(probability):
    """All paths but the direct one are closed at some steps."""
    made = HDetach(probability)

    def change(raw, jacobians, reach):
        found = np.array(jacobians)
        for t, b in np.argwhere(raw.given.draws[made]["detached"]):
            found[t, b] = raw.shares["direct"][t, b]
        return found, reach

    return Act(made, jacobians=change)


def scale_paths(factors):
    def change(raw, jacobians, reach):
        more = sum((factor - 1) * raw.shares[path] for path, factor in factors.items())
        return jacobians + more, reach

    return Act(ScalePaths(factors), jacobians=change)


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
            size = total({n: by_step[t] for n, by_step in found.items()})
            for by_step in found.values():
                by_step[t] *= min(1, limit / (size or limit))
        return found

    return Act(ClipNorm(limit, where="contribution"), contributions=change)


def clip_contributions_value(limit):
    def change(contributions):
        return {n: np.minimum(np.maximum(c, -limit), limit) for n, c in contributions.items()}

    return Act(ClipValue(limit, where="contribution"), contributions=change)

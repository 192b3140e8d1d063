"""Recorders of what mitigations do to the gradient, beside the exact one of the same trajectory."""

from __future__ import annotations

import numpy as np

from gradsim import Recorder, Variable
from gradsim.contracts.pieces import Adjoints, Contributions, Gradient, GradientByLag
from gradsim.numerics.scaled import Scaled, add, combine, norm, or_zero


class GradientBiasRecorder(Recorder):
    """The relative bias of the gradient, ||g~ - g|| / ||g||, of each parameter and of all together.

    g is the exact gradient of the trajectory that the mitigated cell takes, g~ what the mitigations make of
    it. 0 where both are zero; infinite where the exact one alone is. How far g~ varies with what mitigations
    draw takes several runs: ``compare(..., mitigations=, replicates=)`` records `gradient_variance`.
    """

    name = "gradient_bias"
    stream = Gradient
    both = True

    def variables(self, problem):
        return _of_gradient(self.name, "norm of effective minus exact {}, over that of the exact one")

    def compute(self, piece):
        return _by_param(self.name, _bias(*_rows(piece))[0])


class GradientCosineRecorder(Recorder):
    """The cosine between the effective and the exact gradient, of each parameter and of all together.

    NaN where one of them is zero.
    """

    name = "gradient_cosine"
    stream = Gradient
    both = True

    def variables(self, problem):
        return _of_gradient(self.name, "cosine between effective and exact {}")

    def compute(self, piece):
        return _by_param(self.name, _cosine(*_rows(piece))[0])


class GradientBiasByLagRecorder(Recorder):
    """The relative bias of the gradient at each lag, of each parameter and of all; see `gradient_bias`.

    The parts of both gradients at lag l are what losses at time k + l feel of step k: see `gradient_by_lag`.
    They exist where mitigations change step Jacobians and how far losses reach, or add to the loss. One that
    changes the adjoint, contributions or the gradient sees sums over losses, and a rule makes the gradient as
    a whole: then it is refused.
    """

    name = "gradient_bias_by_lag"
    stream = GradientByLag
    both = True

    def variables(self, problem):
        long_name = "norm of effective minus exact {} at lag t - k, over that of the exact one"
        return _of_gradient(self.name, long_name, "lag")

    def compute(self, piece):
        return _by_param(self.name, _bias(*_rows(piece)))


class GradientCosineByLagRecorder(Recorder):
    """The cosine between effective and exact gradient at each lag; see `gradient_bias_by_lag`.

    NaN where one of them is zero.
    """

    name = "gradient_cosine_by_lag"
    stream = GradientByLag
    both = True

    def variables(self, problem):
        return _of_gradient(self.name, "cosine between effective and exact {} at lag t - k", "lag")

    def compute(self, piece):
        return _by_param(self.name, _cosine(*_rows(piece)))


class ContributionBiasRecorder(Recorder):
    """The relative bias of what each step adds to the gradient of each parameter; see `gradient_bias`.

    Step t lies T - t before the end: with a loss at the end alone, that is its lag.
    """

    name = "contribution_bias"
    stream = Contributions
    both = True

    def variables(self, problem):
        long_name = "norm of effective minus exact contribution of a step, over that of the exact one"
        return (Variable(self.name, ("step", "param"), long_name, dtype="float64"),)

    def compute(self, piece):
        return {self.name: _bias(*_rows(piece))[:, :-1]}


class ContributionCosineRecorder(Recorder):
    """The cosine between effective and exact contribution of each step; see `gradient_cosine`."""

    name = "contribution_cosine"
    stream = Contributions
    both = True

    def variables(self, problem):
        long_name = "cosine between effective and exact contribution of a step"
        return (Variable(self.name, ("step", "param"), long_name, dtype="float64"),)

    def compute(self, piece):
        return {self.name: _cosine(*_rows(piece))[:, :-1]}


class AdjointEnergyRemovedRecorder(Recorder):
    """The share of the energy of the adjoint that mitigations remove: 1 - sum ||a~_t||^2 / sum ||a_t||^2.

    The sums are over all times 0..T; a is the exact adjoint dL/ds_t, a~ the effective one. Negative where
    they add some; 0 where there is none at all.
    """

    name = "adjoint_energy_removed"
    stream = Adjoints
    both = True

    def variables(self, problem):
        long_name = "share of the energy of the adjoint that mitigations remove"
        return (Variable(self.name, ("batch",), long_name, dtype="float64"),)

    def start(self, problem):
        nothing = Scaled(np.zeros((1, problem.batch)), np.zeros((1, problem.batch), dtype=np.int32))
        return [nothing, nothing]

    def compute(self, piece, carry):
        for i, flow in enumerate((piece.raw, piece.effective)):
            sizes, total = norm(flow.adjoint, (-1,)), carry[i]
            parts = (np.concatenate(both) for both in zip(_fields(sizes), _fields(total), strict=True))
            carry[i] = Scaled(*(x[None] for x in _fields(combine(Scaled(*parts), 0))))
        return {}

    def finish(self, carry):
        before, after = carry
        kept = _over(after, before)[0]
        return {self.name: np.where(before.mantissa[0] + after.mantissa[0] > 0, 1 - kept**2, 0)}


def _of_gradient(name, long_name, *dims):
    return (
        Variable(name, (*dims, "param"), long_name.format("gradient"), dtype="float64"),
        Variable(f"overall_{name}", dims, long_name.format("whole gradient"), dtype="float64"),
    )


def _by_param(name, found):
    return {name: found[..., :-1], f"overall_{name}": found[..., -1]}


def _rows(piece):
    """Exact and effective vectors (rows, n) of each parameter and, last, of all: by step, by lag, or one."""
    return [_vectors(flow.parts.values()) for flow in (piece.raw, piece.effective)]


def _vectors(parts):
    found = []
    for part in parts:
        rows = part.exponent.size
        wide = part.mantissa.reshape(rows, -1).astype(np.float64)
        found.append(Scaled(wide, part.exponent.reshape(rows, 1)))
    exponent = or_zero(np.max([part.top(-1) for part in found], axis=0))
    return [*found, Scaled(np.concatenate([part.over(exponent) for part in found], axis=-1), exponent)]


def _bias(exact, effective):
    """(rows, parameters and all)."""
    pairs = zip(exact, effective, strict=True)
    away = [norm(add(e, Scaled(-r.mantissa, r.exponent)), (-1,)) for r, e in pairs]
    return np.stack([_over(d, norm(r, (-1,))) for d, r in zip(away, exact, strict=True)], axis=-1)


def _cosine(exact, effective):
    """(rows, parameters and all)."""
    found = [np.vecdot(*map(_unit, pair)) for pair in zip(exact, effective, strict=True)]
    return np.clip(np.stack(found, axis=-1), -1, 1)  # rounding can lead beyond


def _unit(vectors):
    """Vectors over their norms, which are of one exponent each; NaN for zero."""
    there = vectors.settled(-1, keep=100).mantissa
    with np.errstate(invalid="ignore"):
        return there / np.linalg.norm(there, axis=-1, keepdims=True)


def _over(a, b):
    """Sizes over others: 0 of nothing over nothing, infinite of something over nothing."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        found = np.ldexp(a.mantissa / b.mantissa, a.exponent - b.exponent)
    return np.where(a.mantissa > 0, found, 0.0)


def _fields(scaled):
    return scaled.mantissa, scaled.exponent

"""A penalty on Lyapunov exponents, differentiated through their QR decompositions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Mitigation, Penalty, hookimpl
from gradsim.contracts.trajectory import step_rows
from gradsim.errors import InputError
from gradsim.types import NonNegativeFloat, NonNegativeInt, PositiveInt
from gradsim_mitigations.costs import param_count, positions_flops
from gradsim_mitigations.parts import parts


@dataclass(frozen=True, eq=False)
class Flossing(Mitigation):
    """Add weight * mean over i of (lambda_i - target)^2, averaged over the batch, to the loss.

    lambda_i = mean over t of log |R_t[i, i]| are the leading `exponents` of the run, all by default: Q_t R_t
    = J_t Q_{t-1}, with orthonormal columns in Q_t (m, exponents), at first random ones. In the first
    `transient` steps Q turns, and nothing counts. The gradient goes back through each QR decomposition and
    through all that J_t depends on. With exponents of 0 no tangent vector, and no gradient, vanishes or
    explodes.

    Where a direction is lost at some step, R_t[i, i] = 0 to rounding, its exponent and those behind it are
    -infinity, which no gradient lifts: they do not count.

    Engelken (2023), Gradient flossing: improving gradient descent through dynamic control of Jacobians, whose
    code has the mean over exponents of (lambda_i - target)^2; the derivative of a QR decomposition is that of
    Liao, Liu, Wang & Xiang (2019), Differentiable programming tensor networks.
    """

    name = "flossing"
    idle = {"weight": 0.0}

    weight: NonNegativeFloat = 1.0
    exponents: PositiveInt | None = None
    target: float = 0.0
    transient: NonNegativeInt = 0

    def refuse(self, cell):
        if self.exponents is not None and self.exponents > cell.state_size:
            raise InputError(
                f"flossing: exponents={self.exponents}, where {cell.name} has {cell.state_size} in all"
            )

    def draw(self, rng, steps, batch, cell):
        if self.transient >= steps:
            raise InputError(
                f"flossing: transient={self.transient} leaves none of {steps} steps; take a smaller one"
            )
        drawn = rng.standard_normal((batch, cell.state_size, self.exponents or cell.state_size))
        return {"start": np.linalg.qr(drawn)[0]}

    def carry_bytes(self, problem):
        m = problem.cell.state_size
        k = self.exponents or m
        return problem.steps * problem.batch * k * (m + k) * problem.dtype.itemsize

    def flops(self, problem):
        m = problem.cell.state_size
        k = self.exponents or m
        return positions_flops(problem, 4 * m * k * (m + 3 * k) + 15 * param_count(problem))

    @hookimpl(wrapper=True)
    def gradsim_penalty(self, trajectory, draws):
        penalty = yield
        start, m = draws[self]["start"], trajectory.cell.state_size
        bases, uppers, living = _decompositions(trajectory, start)
        counted = np.log(np.abs(_diagonal(uppers[self.transient :])))
        away = np.where(living, counted.mean(axis=0) - self.target, 0)
        scale = self.weight / away.size
        by_log = 2 * scale / len(counted) * away
        gradient, states = {}, np.zeros_like(trajectory.states)
        by_basis = np.zeros_like(start)
        for part in reversed(list(parts(trajectory, m))):
            rows, jacobian = step_rows(part.steps), part.jacobian()
            by_turned = np.empty_like(bases[rows])
            for i in reversed(range(len(jacobian))):
                t = rows.start + i
                here = by_log if t >= self.transient else np.zeros_like(by_log)
                by_turned[i] = _back(bases[t + 1], uppers[t], by_basis, here)
                by_basis = jacobian[i].swapaxes(-1, -2) @ by_turned[i]
            left, right = (np.moveaxis(x, -1, 0) for x in (by_turned, bases[rows]))
            more, states[rows] = part.call(part.cell.bilinear_vjp, left, right)
            gradient = {n: g + gradient.get(n, 0) for n, g in more.items()}
        return penalty + Penalty(float(scale * np.sum(away**2)), gradient, states)


def _decompositions(trajectory, start):
    """Q at all times, R of all steps, and which directions (batch, k) live; R[i, i] of the others is 1."""
    steps, (batch, m, k) = len(trajectory.steps), start.shape
    bases = np.empty((steps + 1, batch, m, k), dtype=start.dtype)
    uppers = np.empty((steps, batch, k, k), dtype=start.dtype)
    bases[0], living = start, True
    for part in parts(trajectory, m):
        for t, jacobian in zip(part.steps, part.jacobian(), strict=True):
            turned = jacobian @ bases[t - 1]
            bases[t], uppers[t - 1] = np.linalg.qr(turned)
            unknown = m * np.finfo(turned.dtype).eps * np.linalg.norm(turned, axis=-2)
            living &= np.abs(_diagonal(uppers[t - 1])) > unknown
    living = np.logical_and.accumulate(living, axis=-1)
    _diagonal(uppers)[:, ~living] = 1  # nothing comes back to these, but it has to be solved for
    return bases, uppers, living


def _back(q, r, by_q, by_log):
    """The cotangent of A = Q R (batch, m, k), from those of Q and of log |R[i, i]| (batch, k)."""
    lower = np.tril(-by_q.swapaxes(-1, -2) @ q)
    _diagonal(lower)[...] += by_log
    symmetric = lower + np.tril(lower, -1).swapaxes(-1, -2)
    return np.linalg.solve(r, (by_q + q @ symmetric).swapaxes(-1, -2)).swapaxes(-1, -2)


def _diagonal(x):
    """The diagonals (..., k) of matrices, as a view that can be written to."""
    return np.einsum("...ii->...i", x)

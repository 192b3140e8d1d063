"""Lyapunov exponents of a run: all of them, or the leading ones without the beginning."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Jacobians, Recorder, Variable
from gradsim.contracts.pieces import Exponents
from gradsim.engine.lyapunov import graded_factors
from gradsim.errors import InputError
from gradsim.types import NonNegativeInt, PositiveInt


@dataclass(frozen=True, eq=False)
class LyapunovRecorder(Recorder):
    """Finite-time Lyapunov exponents over the whole run, natural logarithm per step, decreasing.

    From the triangular factors of steps, or of short products of as many steps as float64 allows for 1e-8
    in an exponent (Benettin, Galgani, Giorgilli & Strelcyn 1980). -inf where a direction is annihilated, or
    cannot be told from one that is: where what is left of it is the difference of numbers that agree to
    rounding, or a slope that has been rounded to zero, as that of tanh beyond 19 in float64 and 9 in float32.

    Directions start as the components of the state, and turn in the first steps; `leading_lyapunov` with all
    `modes` and a `transient` leaves these out.

    Parameters
    ----------
    per_time
        Per unit of time in place of per step, for a cell with a `time_step`.
    """

    name = "lyapunov"
    stream = Exponents

    per_time: bool = False

    def variables(self, problem):
        long_name = "finite-time Lyapunov exponent"
        return (Variable("lyapunov", ("batch", "mode"), long_name, _unit(self, problem), "float64"),)

    def start(self, problem):
        return _duration(self, problem)

    def compute(self, piece, carry):
        return {"lyapunov": piece.values / carry}

    def flops(self, problem):
        return 6.0 * problem.steps * problem.batch * problem.cell.state_size * problem.block**2


@dataclass(frozen=True, eq=False)
class LeadingLyapunovRecorder(Recorder):
    """The largest Lyapunov exponents alone, natural logarithm per step, decreasing.

    Only as many directions as exponents are carried along and made orthonormal after every step, which for a
    few of a large state takes far less than `lyapunov`. They start at random, the same in every run; the
    first `transient` steps turn them, and bring the state to its attractor, but do not count. -inf where a
    direction is annihilated, as said at `lyapunov`.

    Parameters
    ----------
    modes
        How many; there are at most as many as the state has components.
    transient
        Steps at the beginning that do not count.
    per_time
        Per unit of time in place of per step, for a cell with a `time_step`.

    Benettin, Galgani, Giorgilli & Strelcyn (1980), Lyapunov characteristic exponents for smooth dynamical
    systems.
    """

    name = "leading_lyapunov"
    stream = Jacobians
    twin = False

    modes: PositiveInt = 1
    transient: NonNegativeInt = 0
    per_time: bool = False

    def dims(self, problem):
        return {"leading_mode": np.arange(min(self.modes, problem.cell.state_size))}

    def variables(self, problem):
        if self.transient >= problem.steps:
            raise InputError(f"{self!r}: transient should be below the number of steps, {problem.steps}")
        dims, long_name = ("batch", "leading_mode"), "leading Lyapunov exponent"
        return (Variable("leading_lyapunov", dims, long_name, _unit(self, problem), "float64"),)

    def start(self, problem):
        return _Frame(problem, self.modes, _duration(self, problem))

    def compute(self, piece, carry):
        for step, blocks in zip(piece.steps, piece.blocks, strict=True):
            carry.advance(blocks, counts=step > self.transient)
        return {}

    def finish(self, carry):
        return {"leading_lyapunov": carry.exponents()}

    def flops(self, problem):
        modes = min(self.modes, problem.block)
        return 4.0 * problem.steps * problem.batch * problem.cell.state_size * problem.block * modes


def _unit(recorder, problem):
    _duration(recorder, problem)
    return "1/time" if recorder.per_time else "1/step"


def _duration(recorder, problem):
    """How long a step is, in the unit of the exponents."""
    if not recorder.per_time:
        return 1.0
    if problem.cell.time_step is None:
        raise InputError(
            f"{recorder!r}: {problem.cell.name} has no time step, so that its exponents are per step only; "
            "leave per_time out"
        )
    return problem.cell.time_step


class _Frame:
    """Orthonormal directions (batch, g, k, count) in each diagonal block, and how they have grown."""

    def __init__(self, problem, modes, duration):
        self.duration = duration
        self.modes, k = min(modes, problem.cell.state_size), problem.block
        count = min(modes, k)
        # One direction after the other, so that fewer of them are the first ones of more.
        drawn = np.moveaxis(np.random.default_rng(0).standard_normal((count, problem.groups, k)), 0, -1)
        shape = problem.batch, problem.groups, k, count
        self.basis = np.broadcast_to(np.linalg.qr(drawn)[0], shape)
        self.grown = np.zeros((problem.batch, problem.groups, count))
        self.steps = 0

    def advance(self, blocks, counts):
        """Go on by a step, blocks (batch, g, k, k)."""
        before, blocks = self.basis, blocks.astype(np.float64, copy=False)
        self.basis, r = np.linalg.qr(np.matmul(blocks, before))
        if not counts:
            return
        self.steps += 1
        with np.errstate(all="ignore"):
            growth = np.log(np.abs(np.diagonal(r, axis1=-2, axis2=-1)))
            largest = np.log(np.abs(blocks).max(axis=(-2, -1)))[..., None]
            # The last digits may be all that is left of a direction: these take a closer look.
            if (np.isfinite(self.grown) & (growth < largest - 14)).any():
                found, growth = graded_factors(blocks, before)
                self.basis = np.where(np.isfinite(growth)[..., None, :], found, self.basis)
        self.grown = self.grown + growth

    def exponents(self):
        """Those of all groups together, the largest ones, (batch, mode)."""
        each = self.grown.reshape(len(self.grown), -1) / (self.steps * self.duration)
        return -np.sort(-each, axis=-1)[:, : self.modes]

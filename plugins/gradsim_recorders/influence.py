"""Recorders of the influence ds_t/dparams: how the states change with the parameters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge

from gradsim import Recorder, Variable
from gradsim.contracts.pieces import Forward
from gradsim.contracts.problem import axis_dim
from gradsim.engine.loss import READOUT
from gradsim.numerics.scaled import Scaled, add, norm
from gradsim.types import NonNegativeInt
from gradsim_recorders.ranged import both, sized

_PIECE_BYTES = 8 * 2**20
"""What is made at one time of the derivatives of single steps with respect to the parameters."""

_OF_SCALED = ("mantissa", "exponent")

_COPIES = 4
"""Arrays like the carry that one step takes."""


class _Columns:
    """M_t V, (batch, g, k, columns) for each parameter: the influence itself, or what it makes of tangents V.

    Row i of group j is component i g + j of the state. An exponent for each batch element.
    """

    def __init__(self, problem, columns):
        self.problem, self.columns = problem, columns
        shape = problem.batch, problem.groups, problem.block
        exponent = np.zeros((problem.batch, 1, 1, 1), dtype=np.int32)
        self.parts = {
            n: Scaled(np.zeros((*shape, c), dtype=problem.dtype), exponent) for n, c in columns.items()
        }

    @staticmethod
    def bytes(problem, columns):
        """What a step takes, and what is made at one time."""
        state = problem.batch * problem.cell.state_size * problem.dtype.itemsize
        each = state * sum(columns.values())
        return _COPIES * each + 2 * max(each, min(_PIECE_BYTES, problem.steps * each))

    def along(self, taken, immediate):
        """The parts before the first step of the run, and then after every one of these.

        `immediate` makes of some steps the derivatives at a fixed state before, (steps, batch, m, columns).
        """
        if taken.first == 1:
            yield self.parts
        p = self.problem
        size = p.batch * p.cell.state_size * (sum(self.columns.values()) + p.block) * p.dtype.itemsize
        length = max(1, _PIECE_BYTES // size)
        for first in range(0, len(taken.steps), length):
            here = taken[taken.steps[first : first + length]]
            blocks, direct = here.call(taken.cell.step_jacobian), immediate(here)
            for row, block in enumerate(blocks):
                for name, part in self.parts.items():
                    moved = Scaled(np.matmul(block, part.mantissa), part.exponent)
                    # As (k, g, columns), the components of group j are j, g + j, 2g + j, ...
                    added = direct[name][row].reshape(p.batch, p.block, p.groups, -1).swapaxes(1, 2)
                    whole = add(moved, Scaled(added, np.zeros_like(part.exponent)), (1, 2, 3))
                    self.parts[name] = whole.settled((1, 2, 3))
                yield self.parts

    def norms(self, taken, immediate, axes):
        """The norms of the parts along some axes, (time, batch, ..., param)."""
        p, by_time = self.problem, []
        zeros = np.zeros((p.batch, 1, 1, max(self.columns.values(), default=1)))
        nothing = norm(Scaled(zeros, np.zeros((p.batch, 1, 1, 1), dtype=np.int32)), axes)
        for parts in self.along(taken, immediate):
            found = [norm(parts[n], axes) if n in parts else nothing for n in p.param_shapes]
            by_time.append([np.stack([getattr(x, of) for x in found], axis=-1) for of in _OF_SCALED])
        return Scaled(*(np.stack(arrays) for arrays in zip(*by_time, strict=True)))


def _whole(steps):
    return {n: g.reshape(*g.shape[:3], -1) for n, g in steps.params_jacobian().items()}


class InfluenceRecorder(Recorder):
    """ds_t/dparams, at every time: how the state changes with each parameter through all steps so far.

    M_t = J_t M_{t-1} plus the derivative of step t at a fixed state before, from M_0 = 0: the state that a
    run starts with is given. The gradient is the sum of q_t M_t over times, with q_t = dL_t/ds_t; real-time
    recurrent learning computes it so. One variable a parameter: influence_<param>. Large: m numbers of
    each parameter, batch element and time; `influence_norm` keeps their size alone.

    Williams & Zipser (1989), A learning algorithm for continually running fully recurrent neural networks.
    """

    name = "influence"
    stream = Forward
    twin = False

    def variables(self, problem):
        return tuple(
            Variable(
                f"influence_{n}",
                ("time", "batch", "component", *(axis_dim(n, i) for i in range(len(shape)))),
                f"influence ds_t/d{n}",
            )
            for n, shape in _shapes(problem).items()
        )

    def start(self, problem):
        return _Columns(problem, _sizes(problem))

    def compute(self, piece, carry):
        p = carry.problem
        found = {n: [] for n in carry.columns}
        for parts in carry.along(piece.trajectory, _whole):
            for n, part in parts.items():
                components = part.value.swapaxes(1, 2)
                shape = p.batch, p.cell.state_size, *p.param_shapes[n]
                found[n].append(components.reshape(shape))
        return {f"influence_{n}": np.stack(values) for n, values in found.items()}

    def carry_bytes(self, problem):
        return _Columns.bytes(problem, _sizes(problem))

    def flops(self, problem):
        return _flops(problem, sum(_sizes(problem).values()))


@dataclass(frozen=True, eq=False)
class InfluenceNormRecorder(Recorder):
    """The Frobenius norm of ds_t/dparams, at every time and for each parameter, and its log10.

    0 for those of the readout, which the states do not see.

    With more memory it grows even where no gradient explodes: for h_t = lambda h_{t-1} + x_t and x_t without
    correlations, of variance 1, E|dh_t/dlambda|^2 tends to (1 + |lambda|^2) / (1 - |lambda|^2)^3, while
    E|h_t|^2 tends to 1 / (1 - |lambda|^2) only.

    Parameters
    ----------
    probes
        The whole of M_t is carried along, m numbers a parameter and batch element, unless there are `probes`:
        then M_t v of so many v ~ N(0, 1) for each parameter, which take m numbers each, and their mean square
        estimates that of M_t. The relative standard error of the norm is recorded beside it; it is about
        1 / sqrt(2 probes) at most, and smaller where many directions have a share.
    seed
        Of the probes.

    Zucchet & Orvieto (2024), Recurrent neural networks: vanishing and exploding gradients are not the end of
    the story.
    """

    name = "influence_norm"
    stream = Forward
    twin = False

    probes: Annotated[int, Ge(2)] | None = None
    seed: NonNegativeInt = 0

    def variables(self, problem):
        dims, long_name = ("time", "batch", "param"), "norm of the influence ds_t/dparams"
        if self.probes is None:
            return sized("influence_norm", dims, long_name)
        error = Variable(
            "influence_norm_error", dims, f"relative standard error of the {long_name}", dtype="float64"
        )
        return (*sized("influence_norm", dims, long_name), error)

    def start(self, problem):
        return _Columns(problem, self._columns(problem)), self._tangents(problem)

    def compute(self, piece, carry):
        columns, tangents = carry
        if self.probes is None:
            return both("influence_norm", columns.norms(piece.trajectory, _whole, (1, 2, 3)))

        def pushed(steps):
            return {n: np.moveaxis(x, 0, -1) for n, x in steps.params_jvp(tangents).items()}

        sizes = columns.norms(piece.trajectory, pushed, (1, 2)).common(2)  # (time, batch, probe, param)
        squares = sizes.mantissa**2
        mean = squares.mean(2)
        error = np.zeros_like(mean)  # of the root, half as much as of the mean
        np.divide(squares.std(2, ddof=1) / 2 / np.sqrt(self.probes), mean, out=error, where=mean > 0)
        estimate = Scaled(np.sqrt(mean), sizes.exponent[:, :, 0])
        return both("influence_norm", estimate) | {"influence_norm_error": error}

    def carry_bytes(self, problem):
        tangents = (self.probes or 0) * sum(_sizes(problem).values()) * problem.dtype.itemsize
        return tangents + _Columns.bytes(problem, self._columns(problem))

    def flops(self, problem):
        return _flops(problem, sum(self._columns(problem).values()))

    def _columns(self, problem):
        return _sizes(problem) if self.probes is None else dict.fromkeys(_shapes(problem), self.probes)

    def _tangents(self, problem):
        if self.probes is None:
            return {}
        rng, copies, shapes = np.random.default_rng(self.seed), self.probes, _shapes(problem).items()
        return {n: rng.standard_normal((copies, *shape)).astype(problem.dtype) for n, shape in shapes}


def _shapes(problem):
    """Of the parameters that the states depend on: all but those of the readout."""
    return {n: shape for n, shape in problem.param_shapes.items() if n not in READOUT}


def _sizes(problem):
    return {n: math.prod(shape) for n, shape in _shapes(problem).items()}


def _flops(problem, columns):
    """Of J_t M_{t-1}, and of a way back through a step for each component of the state or column."""
    p = problem
    weights = sum(_sizes(p).values())
    ways = min(p.cell.state_size, columns)
    return 2.0 * p.steps * p.batch * (p.cell.state_size * p.block * columns + ways * weights)

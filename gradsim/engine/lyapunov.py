"""Finite-time Lyapunov exponents by seldom, checked re-orthonormalisation.

With P(T, 0) = Q R the exponents are log |R[i, i]| / T. Benettin, Galgani, Giorgilli & Strelcyn (1980) get R
as the product of the triangular factors of single steps. Here the steps of an interval are multiplied first,

    A = J_t ... J_{s+1},    A Q_s = Q_t R.

Accuracy. Rounding turns A into A + E and changes R[i, i] by about |E|, so that an interval may last until
the fastest direction has grown some 1e8 times more than the slowest. `_intervals` estimates |E| from the
norms of all partial products, so that cancellation does not go unseen. Where it is above `_LOST` times the
smallest |R[i, i]| the interval is redone as two halves, down to single steps, which are Benettin's; see
`graded_factors`. The next intervals are as long as the growth in the last ones makes likely to succeed.

Where kernels are compiled, all but the smallest blocks are telescoped instead, as many spectra are so wide
that an interval could last two or three steps only. A frame Z, whose columns need not quite be orthonormal,
takes the steps of an interval and is then replaced by Z X, with X the inverse Cholesky factor of Z^T Z. As
the product of all steps stays Z R, R triangular, for *any* triangular X, the sum of -log X[i, i] and the R of
the last frame are exact, however inexact X is: it need only keep the frame well conditioned. An error E of Z
changes log R[i, i] by q_i^T E X[:, i]; where that may be above `_WRONG` the interval ends sooner.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from gradsim.contracts.trajectory import Parallel, one_by_one
from gradsim.machine import accelerator
from gradsim.types import Array

_LOST = 1e-7
"""Relative error of R[i, i] over an interval, estimated so. What is lost is some 100 times less, and averages
out over a run: over hundreds of steps exponents agree with those of single steps to about 1e-10, at worst
to about 1e-8."""

_WRONG = 1e-8
"""The same for what is telescoped, where it is better known: exponents agree to about 1e-11."""

_ROUNDING = float(np.finfo(np.float64).eps) / 2

_FAR = 1e4
"""So many times the error that is estimated is a direction that no closer look need be taken at."""

_TINY = 2.0**-400
"""Products of about this size may have lost digits to underflow, and count as wrong."""

WINDOW = 32
"""Steps of which intervals are multiplied at once; the longest interval."""

_JOB = 64**2
"""Matrix elements of one step that are worth a job of their own."""

_COMPILED = 48
"""Up to this size the compiled kernel is quicker than LAPACK."""

_TELESCOPED = 8
"""From this size on blocks are telescoped where kernels are compiled."""

_FRAMES = 2**18
"""Matrix elements of the frames of an interval, which should stay in cache."""


class LyapunovSum:
    """Takes in the step Jacobians of a run, block by block, and gives its exponents.

    Parameters
    ----------
    batch, groups, k
        A step has Jacobians of shape (batch, groups, k, k).
    """

    def __init__(self, batch: int, groups: int, k: int) -> None:
        count = batch * groups
        # The compiled kernel takes one matrix; NumPy is called less often with several.
        alone = k >= _TELESCOPED and accelerator.enabled()
        each = 1 if alone else max(1, _JOB // k**2)
        self._parts = [slice(i, min(i + each, count)) for i in range(0, count, each)]
        self._frames = [_Frame(p.stop - p.start, k) for p in self._parts]
        self._batch, self._steps = batch, 0

    def add(self, blocks: Array, parallel: Parallel = one_by_one) -> None:
        """Go on by some steps: blocks (steps, batch, g, k, k), finite. Jobs are parts of batch and groups."""
        blocks = blocks.reshape(len(blocks), -1, *blocks.shape[-2:])

        def job(frame: _Frame, part: slice) -> Callable[[], None]:
            return lambda: frame.advance(blocks[:, part])

        parallel([job(*pair) for pair in zip(self._frames, self._parts, strict=True)])
        self._steps += len(blocks)

    def exponents(self) -> Array:
        """(batch, g * k), natural logarithm per step, decreasing; -inf where a direction is lost."""
        total = np.concatenate([frame.total() for frame in self._frames])
        return np.sort((total / self._steps).reshape(self._batch, -1))[:, ::-1]


def exponents(blocks: Array, parallel: Parallel = one_by_one) -> Array:
    """Exponents (batch, g * k) of the product of all step Jacobians (step, batch, g, k, k)."""
    _, batch, groups, k, _ = blocks.shape
    growth = LyapunovSum(batch, groups, k)
    growth.add(blocks, parallel)
    return growth.exponents()


class _Frame:
    """Directions, columns of `basis` (count, k, k), and log |R[i, i]| (count, k) so far.

    They are orthonormal, or nearly so while they are telescoped. A direction that has been annihilated is
    zero from then on, and comes after the `living` ones.
    """

    def __init__(self, count: int, k: int) -> None:
        self.grown = np.zeros((count, k))
        self.living = np.ones((count, k), dtype=bool)
        self.basis = np.broadcast_to(np.eye(k), (count, k, k))
        self.length = 1
        kernels = accelerator.kernels("gradsim.engine.lyapunov_kernels") if k > 1 else None
        self.factors = kernels.factors if kernels and k <= _COMPILED else factors
        self.telescope = kernels.telescope if kernels and k >= _TELESCOPED else None

    def total(self) -> Array:
        """Of the whole product: what is telescoped has left a share in its basis."""
        return self.grown + _log(self.factors(self.basis)[1]) if self.telescope else self.grown

    def advance(self, blocks: Array) -> None:
        """Go on by steps (steps, count, k, k)."""
        if self.grown.shape[-1] == 1:  # the R of a number is its size
            self.grown += _log(np.abs(blocks[..., 0])).sum(axis=0)
            return
        start = 0
        while start < len(blocks):
            if self.telescope and self.living.all():
                start += self._telescoped(blocks[start:, 0])
                if start < len(blocks):  # at a step that is nearly singular
                    with np.errstate(all="ignore"):
                        self._advance(blocks[start : start + 1].astype(np.float64, copy=False), 1)
                    start += 1
                continue
            stop = start + max(1, WINDOW // self.length) * self.length
            # What leaves the range has no small error, and is done in shorter intervals.
            with np.errstate(all="ignore"):
                rooms = self._advance(blocks[start:stop].astype(np.float64, copy=False), self.length)
            # A lower quartile: an interval that fails costs more than one that could have been longer.
            self.length = int(np.clip(self.length + sorted(rooms)[len(rooms) // 4], 1, WINDOW))
            start = stop

    def _telescoped(self, steps: Array) -> int:
        """Go on by steps (n, k, k) in the compiled kernel; how many it has done."""
        assert self.telescope is not None
        basis, k = self.basis[0].copy(), self.basis.shape[-1]
        longest = min(WINDOW, max(2, _FRAMES // k**2))
        done: int
        done, self.length = self.telescope(
            np.ascontiguousarray(steps, dtype=np.float64),
            basis,
            self.grown[0],
            self.length,
            longest,
            _ROUNDING,
            _WRONG,
        )
        self.basis = basis[None]
        return done

    def _advance(self, blocks: Array, length: int) -> list[float]:
        """Go on in intervals of this length. For each: the steps it could be longer by, -1 if too long."""
        # All intervals are multiplied together, before the first of them is known to be short enough.
        length = min(length, len(blocks))
        rooms = []
        for i, (product, error) in enumerate(_intervals(blocks, length)):
            basis, size = self.factors(np.matmul(product, self.basis))
            # What counts is the error beside the *smallest* direction, which is the first to drown.
            smallest = size.min(axis=-1, where=self.living, initial=np.inf)
            lost = float(np.maximum((error / smallest).max(), _ROUNDING))
            if lost <= _LOST:
                self._go_on(basis, _log(size))
                spread = max(float((size.max(axis=-1) / smallest).max()), 1.001)
                rooms.append(length * math.log(_LOST / lost) / math.log(spread))
            elif length > 1:
                self._advance(blocks[i * length : (i + 1) * length], length // 2)
                rooms.append(-1.0)
            else:
                self._go_on(*self._survivors(product))
                rooms.append(-1.0)
        if rest := len(blocks) % length:
            self._advance(blocks[-rest:], rest)
        return rooms

    def _go_on(self, basis: Array, growth: Array) -> None:
        self.basis = basis if self.living.all() else basis * self.living[..., None, :]
        self.grown += growth

    def _survivors(self, step: Array) -> tuple[Array, Array]:
        """The factors of a nearly singular step, the directions that it annihilates last."""
        basis, growth = graded_factors(step, self.basis)
        order = np.argsort(np.isneginf(growth), axis=-1, kind="stable")
        # They stay there, so that a later factorisation does not mix them in again.
        self.grown, growth = (np.take_along_axis(x, order, -1) for x in (self.grown, growth))
        self.living = growth > -np.inf
        return np.take_along_axis(basis, order[..., None, :], -1), growth


def _intervals(blocks: Array, length: int) -> zip[tuple[Array, Array]]:
    """The products (count, k, k) of each `length` steps, and about how large their errors are.

    A step makes earlier errors grow as it does any direction, or as it does the product if that is more.
    """
    stop = len(blocks) // length * length
    products = blocks[0:stop:length]
    norm, error = _norm(products), np.array(_TINY)
    for i in range(1, length):
        step = blocks[i:stop:length]
        usual = _norm(step) / math.sqrt(step.shape[-1])
        products = np.matmul(step, products)
        before, norm = norm, _norm(products)
        error = np.maximum(usual, norm / before) * error + _ROUNDING * usual * before
    return zip(products, error + _ROUNDING * norm, strict=True)


def factors(matrix: Array) -> tuple[Array, Array]:
    """Q and the sizes |R[i, i]| (..., k) of Q R = matrix (..., k, k)."""
    basis, r = np.linalg.qr(matrix)
    return basis, np.abs(np.diagonal(r, axis1=-2, axis2=-1))


@np.errstate(all="ignore")
def graded_factors(step: Array, basis: Array) -> tuple[Array, Array]:
    """Q and log |R[i, i]| of Q R = step basis, for steps (..., k, k) and bases (..., k, count).

    Zero in Q and -inf where a direction cannot be told from one that the step annihilates. Units that are
    closed or saturated shrink columns and rows by any factor, which says nothing about the digits of what is
    left: with D the sizes of its columns, step = B D, and R is that of B Q_D times that of D basis = Q_D R_D.
    """
    step, power = _over(step, (-2, -1))
    step, powers = _over(step, -2)
    inside, one = _by_rows(np.ldexp(np.eye(step.shape[-1]), powers), basis)
    found, other = _by_rows(step, inside)
    return found, _log(one) + _log(other) + power[..., 0] * math.log(2)


def _over(matrix: Array, axis: int | tuple[int, ...]) -> tuple[Array, Array]:
    """A matrix over the powers of two of its largest entries along some axes, and these."""
    power = np.frexp(np.abs(matrix).max(axis=axis, keepdims=True))[1]
    return np.ldexp(matrix, -power), power


def _by_rows(step: Array, basis: Array) -> tuple[Array, Array]:
    """Q and |R[i, i]|, zero for -inf, of a step of which each row is known to its own rounding.

    By reflections, for which large rows come first (Cox & Higham 1998, Stability of Householder QR
    factorization for weighted least squares problems): what they leave of a small row has no error of the
    large ones. Each direction of Q is a sum of columns of the product, with the weights `mixed`, and LAPACK's
    will do where all are far above the error of that.
    """
    shape, (k, count) = basis.shape, basis.shape[-2:]
    step, basis = step.reshape(-1, k, k), basis.reshape(-1, k, count)
    largest = np.matmul(np.abs(step), np.abs(basis))
    order = np.argsort(-largest.max(axis=-1), axis=-1)[..., None]
    step, largest = (np.take_along_axis(x, order, -2) for x in (step, largest))
    found, size = _all_living(np.matmul(step, basis), largest)
    if not size.all():
        found, size = _one_by_one(np.matmul(step, basis), largest)
    np.put_along_axis(ordered := np.empty_like(found), order, found, -2)
    return ordered.reshape(shape), size.reshape(*shape[:-2], count)


def _all_living(product: Array, largest: Array) -> tuple[Array, Array]:
    """Q and |R[i, i]|, zero where a direction may be lost, of products known to the rounding of `largest`."""
    basis, r = np.linalg.qr(product)
    diagonal = np.diagonal(r, axis1=-2, axis2=-1)
    if not diagonal.all():
        return basis, np.abs(diagonal)
    mixed = np.abs(np.linalg.inv(r / diagonal[..., None]))
    errors = np.matmul(np.abs(basis.swapaxes(-1, -2)), largest) * mixed.swapaxes(-1, -2)
    known = _FAR * product.shape[-2] * _ROUNDING * errors.sum(axis=-1)
    return basis, np.where(np.abs(diagonal) > known, np.abs(diagonal), 0)


def _one_by_one(product: Array, largest: Array) -> tuple[Array, Array]:
    """The same direction by direction, without those that are lost."""
    (k, count), each = product.shape[-2:], np.arange(len(product))
    work = np.concatenate((product, np.broadcast_to(np.eye(k), (len(product), k, k))), axis=-1)
    mixed = np.broadcast_to(np.eye(count), (len(product), count, count)).copy()
    found, size = np.zeros(product.shape), np.zeros((len(product), count))
    rank = np.zeros(len(product), dtype=int)
    for i in range(count):
        np.maximum(largest, np.abs(work[..., :count]), out=largest)
        normal, power = _over(np.where(np.arange(k) < rank[:, None], 0, work[..., i]), -1)
        length = np.linalg.norm(normal, axis=-1)
        sign = np.where(normal[each, rank] < 0, -1, 1)
        normal[each, rank] += sign * length
        length = np.ldexp(length, power[:, 0])
        square, rest = np.vecdot(normal, normal), work[..., i + 1 :]
        share = _times(normal, rest) * np.where(square > 0, 2 / square, 0)[:, None]
        row = sign[:, None] * (normal[each, rank][:, None] * share - rest[each, rank])  # of R, and of Q
        direction, weights = row[:, count - i - 1 :], mixed[..., i].copy()
        error = 2 * k * _ROUNDING * _times(np.abs(direction), largest)
        lives = length > np.vecdot(error, np.abs(weights))
        size[:, i], found[..., i] = np.where(lives, length, 0), np.where(lives[:, None], direction, 0)
        rest -= np.where(lives[:, None], normal, 0)[..., None] * share[:, None]
        left = np.where(lives[:, None], row[:, : count - i - 1] / length[:, None], 0)
        mixed[..., i + 1 :] -= weights[..., None] * left[:, None]
        rank += lives
    return found, size


def _times(vectors: Array, matrices: Array) -> Array:
    return np.asarray(np.matmul(vectors[:, None], matrices)[:, 0])


def _norm(matrix: Array) -> Array:
    return np.asarray(np.sqrt(np.einsum("...ij,...ij->...", matrix, matrix)))


def _log(size: Array) -> Array:
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(size, dtype=np.float64))

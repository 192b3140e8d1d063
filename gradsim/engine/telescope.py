"""Growth of directions by telescoped, inexact Cholesky-QR.

A frame Z, whose columns need not quite be orthonormal, takes the steps of an interval and is then replaced
by Z X, with X the inverse Cholesky factor of Z^T Z. As the product of all steps stays Z R, R triangular, for
*any* triangular X, the sum of -log X[i, i] and the R of the last frame are exact, however inexact X is: it
need only keep the frame well conditioned.

What limits an interval is rounding: to first order an error E of Z changes log R[i, i] by q_i^T E X[:, i].
Where that is too much the interval ends earlier, at a frame that is still there.
"""

from __future__ import annotations

import math
from types import ModuleType

import numpy as np

from gradsim.types import Array

_LOST = 3e-8
"""Error of log R[i, i] over an interval, so estimated; over a run exponents agree to about 1e-11."""

_ROUNDING = float(np.finfo(np.float64).eps) / 2

LONGEST = 32
"""Steps of the longest interval."""

_FRAMES = 2**18
"""Matrix elements of all frames of an interval, which should stay in cache."""

_WHOLE = 64
"""Up to this size the kernel inverts the factor of a Gram matrix; larger ones are halved."""


class Telescope:
    """Goes on by intervals that are as long as the growth in the last one makes likely to succeed."""

    def __init__(self, kernels: ModuleType) -> None:
        self.kernels = kernels
        self.length = 4

    def advance(self, blocks: Array, rows: Array, grown: Array) -> int:
        """Go on by steps (steps, batch, g, k, k), in place; how many it has done.

        `rows` (batch, g, k, k) holds the columns of Z as rows, `grown` (batch, g, k) the sum of -log X[i, i].
        A step that is nearly singular is not done.
        """
        k = rows.shape[-1]
        steps, grown = blocks.reshape(len(blocks), -1, k, k), grown.reshape(-1, k)
        longest = min(LONGEST, max(2, _FRAMES // rows.size), len(steps))
        frames = np.empty((longest + 1, *steps.shape[1:]))
        frames[0] = rows.reshape(frames[0].shape)
        done = 0
        while done < len(steps):
            errors = self._multiply(steps[done : done + min(self.length, longest)], frames)
            length = len(errors)
            found = self._orthonormalise(frames, length, errors[-1])
            while found is None and length > 1:
                self.length = length = length * 3 // 4
                found = self._orthonormalise(frames, length, errors[length - 1])
            if found is None:
                break
            size, longer = found
            grown += size
            done += length
            if length == len(errors) == self.length:
                self.length = min(int(length + longer), LONGEST)
        rows[...] = frames[0].reshape(rows.shape)
        return done

    def _multiply(self, steps: Array, frames: Array) -> Array:
        """Take steps (n, count, k, k) from the first frame on; about how large errors are after each.

        A step makes earlier errors grow as it does any direction, or as it does the frame if that is more.
        """
        steps = steps.astype(np.float64, copy=False)
        usual = _norm(steps) / math.sqrt(steps.shape[-1])  # reads the steps into cache, besides
        for frame, step, moved in zip(frames, _transposed(steps), frames[1:], strict=False):
            np.matmul(frame, step, out=moved)
        errors = np.empty_like(usual)
        self.kernels.errors(frames, usual, _ROUNDING, errors)
        return errors

    def _orthonormalise(self, frames: Array, length: int, errors: Array) -> tuple[Array, float] | None:
        """Put the frame after so many steps first, as X^T Z^T; -log X[i, i], and by how many steps the
        interval could well be longer. None where it is too long.
        """
        rows = frames[length]
        inverse = self._inverse_factor(_gram(rows))
        lost, spread = self.kernels.limits(inverse, errors)
        if not lost <= _LOST:
            return None
        half = rows.shape[-1] // 2
        np.matmul(inverse[:, :half, :half], rows[:, :half], out=frames[0, :, :half])
        np.matmul(inverse[:, half:], rows, out=frames[0, :, half:])
        # Half of what seems possible: to fail costs more than to have been a bit too careful.
        longer = 0.5 * length * math.log(_LOST / lost) / math.log(max(spread, 1.001))
        return -np.log(inverse.diagonal(axis1=-2, axis2=-1)), longer

    def _inverse_factor(self, gram: Array) -> Array:
        """The inverses of the lower Cholesky factors of matrices (count, k, k), perhaps in place; NaN where
        there is none.
        """
        k = gram.shape[-1]
        if k <= _WHOLE:
            found = np.ascontiguousarray(gram)
            self.kernels.inverse_factor(found)
            return found
        half = k // 2
        found = np.zeros_like(gram)
        first = found[:, :half, :half] = self._inverse_factor(gram[:, :half, :half])
        across = np.matmul(gram[:, half:, :half], _transposed(first))
        rest = gram[:, half:, half:] - np.matmul(across, _transposed(across))
        last = found[:, half:, half:] = self._inverse_factor(rest)
        np.matmul(np.matmul(-last, across), first, out=found[:, half:, :half])
        return found


def _gram(rows: Array) -> Array:
    """Scalar products of rows (count, k, k); of large matrices the lower half, which is all that is read."""
    k = rows.shape[-1]
    if k <= _WHOLE:
        return np.asarray(np.matmul(rows, _transposed(rows)))
    found, half = np.empty_like(rows), k // 2
    first, last = rows[:, :half], rows[:, half:]
    np.matmul(first, _transposed(first), out=found[:, :half, :half])
    np.matmul(last, _transposed(first), out=found[:, half:, :half])
    np.matmul(last, _transposed(last), out=found[:, half:, half:])
    return found


def _transposed(matrix: Array) -> Array:
    return matrix.swapaxes(-1, -2)


def _norm(matrix: Array) -> Array:
    flat = matrix.reshape(*matrix.shape[:-2], -1)
    return np.asarray(np.sqrt(np.vecdot(flat, flat)))

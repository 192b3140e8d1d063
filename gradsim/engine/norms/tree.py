"""Frobenius norms of all Jacobian products without making all products.

For a time r between k and t, P(t, k) = A B with A = P(t, r) and B = P(r, k), and

    ||A B||_F^2 = <A^T A, B B^T>,

an inner product of two m x m matrices, one of t and one of k. So the norms of all pairs on either
side of r are one matrix product of such Gram matrices, 2 m^2 operations a pair instead of 2 m^3.

Short intervals of time are multiplied out. Then neighbours are joined, two and two, up to the whole: the
pairs across come from Gram matrices, and the products to the ends of the joint interval from those
to the ends of its halves. This is where time goes down from T^2 m^3 to T^2 m^2 + T log(T) m^3.

Gram matrices are made and multiplied in float64. Where A and B nearly annihilate each other the inner
product loses digits; such pairs, and those that leave the range, are multiplied out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from gradsim.engine.jacobians import SMALL
from gradsim.engine.norms.compiled import Compiled
from gradsim.engine.norms.ends import Ends, Span, pairs_of, spans
from gradsim.engine.norms.plain import Plain
from gradsim.machine import accelerator
from gradsim.numerics.scaled import LEAST_SQUARE
from gradsim.types import Array

_DIRECT = 8
"""Intervals of up to so many steps are multiplied out: Gram matrices would not pay."""


def join(blocks: Array, squares: Array, exponents: Array, check: Callable[[], None] = lambda: None) -> None:
    """Write the squared norms of all P(t, k) over 4**exponents, (batch, time, source).

    `blocks`: step Jacobians (step, batch, g, k, k). Pairs t < k are left alone. `check` is called now and
    then, and may raise to leave.
    """
    steps, _, groups, k, _ = blocks.shape
    diagonal = np.arange(steps + 1)
    squares[:, diagonal, diagonal], exponents[:, diagonal, diagonal] = groups * k, 0
    for ends, part in _arithmetic(blocks):
        _Tree(ends, squares[part], exponents[part]).fill(check)


def _arithmetic(blocks: Array) -> Iterator[tuple[Ends, slice]]:
    """What multiplies, and the batch elements that it does together."""
    size, k = blocks.shape[1], blocks.shape[-1]
    kernels = accelerator.kernels("gradsim.engine.norms.kernels") if k <= SMALL else None
    if kernels is None:
        yield Plain(blocks), slice(0, size)
    else:
        # One after the other: a kernel has no calls to spread over the batch, and one element stays in cache.
        yield from ((Compiled(kernels, blocks[:, b]), slice(b, b + 1)) for b in range(size))


class _Tree:
    """Joins intervals, two and two, up to the whole. Fills in norms (batch, time, source)."""

    def __init__(self, ends: Ends, squares: Array, exponents: Array) -> None:
        self.ends, self.squares, self.exponents = ends, squares, exponents

    def fill(self, check: Callable[[], None]) -> None:
        """Write squared norms and their exponents; pairs t <= k are left alone."""
        steps = self.squares.shape[-1] - 1
        width = _first_width(steps)
        check()
        self.ends.multiply_out(width, self.squares, self.exponents)
        while width < steps:
            for span in spans(steps, 2 * width):
                check()
                # What is left at the end has no partner yet if it is short.
                if span.length > width:
                    self._join(span, width)
                    self.ends.extend(span, width)
            width *= 2

    def _join(self, span: Span, width: int) -> None:
        """The pairs across the middles of joint intervals, whose first halves have `width` steps."""
        after, before = self.ends.grams(span, width)
        rows, columns = (width + 1, span.length + 1), (0, width)
        squares, exponents = (pairs_of(x, span, rows, columns) for x in (self.squares, self.exponents))
        np.matmul(after.matrix, before.matrix.swapaxes(-1, -2), out=squares)
        np.add(after.top[..., :, None], before.top[..., None, :], out=exponents)
        reliable = self.ends.reliable
        if reliable:
            # At a glance first, as if all groups were one: the bound is then an outer product, and larger. It
            # is far above LEAST_SQUARE where nothing is zero, as totals are in range.
            doubtful = squares < (reliable * after.total)[..., :, None] * before.total[..., None, :]
        else:
            doubtful = squares < LEAST_SQUARE
        if doubtful.any():
            if reliable and after.trace.shape[-1] > 1:
                bound = np.matmul(after.trace, before.trace.swapaxes(-1, -2))
                doubtful &= squares < np.maximum(reliable * bound, LEAST_SQUARE)
            doubtful &= after.alive[..., :, None] & before.alive[..., None, :]  # exact zeros are beyond doubt
            if doubtful.any():
                self.ends.multiply_pairs(span, width, doubtful, squares, exponents)


def _first_width(steps: int) -> int:
    """The length of intervals that are multiplied out; doubled, it ends at all steps or soon after."""
    width = steps
    while width > _DIRECT:
        width = -(-width // 2)
    return width

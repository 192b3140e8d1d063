"""Products of small blocks in compiled loops, in float64, for one batch element."""

from __future__ import annotations

from types import ModuleType

import numpy as np

from gradsim.engine.norms.ends import RELIABLE, Ends, Grams, Span
from gradsim.numerics.scaled import KEEP, Scaled
from gradsim.types import Array


class Compiled(Ends):
    """In loops, for one batch element. Products are (time, k, k, g), exponents (time, 1, 1, g)."""

    def __init__(self, kernels: ModuleType, blocks: Array) -> None:
        self.kernels = kernels
        matrix = np.ascontiguousarray(blocks.transpose(0, 2, 3, 1), dtype=np.float64)
        steps, k, _, groups = matrix.shape
        # Within the narrow range of float32, so that a product of two needs no look before it is made.
        none = np.zeros((steps, 1, 1, groups), dtype=np.int32)
        self.steps = Scaled(matrix, none).settled((1, 2), KEEP[4])
        self.after, self.before = (Scaled(np.empty_like(matrix), np.empty_like(none)) for _ in range(2))
        # Room for Gram matrices, the same for every width.
        self.gram, self.trace = np.empty((steps, k * (k + 1) // 2, groups)), np.empty((steps, groups))
        self.top = np.empty(steps, dtype=np.int32)
        self.reliable = RELIABLE[8] * (k > 1)

    def _arrays(self, key: slice = slice(None)) -> tuple[Array, ...]:
        """Products and exponents after and before, as kernels take them."""
        after, before = self.after[key], self.before[key]
        return after.mantissa, after.exponent[:, 0, 0], before.mantissa, before.exponent[:, 0, 0]

    def multiply_out(self, width: int, squares: Array, exponents: Array) -> None:
        """In one call."""
        steps = self.steps.mantissa, self.steps.exponent[:, 0, 0]
        self.kernels.multiply_out(*steps, *self._arrays(), width, squares[0], exponents[0])

    def grams(self, span: Span, width: int) -> tuple[Grams, Grams]:
        """In the room that there is: it is gone at the next call."""
        rooms = tuple(x[span.steps] for x in (self.gram, self.trace, self.top))
        self.kernels.grams(*self._arrays(span.steps), width, *rooms)
        matrix, trace, tops = (x.reshape(1, span.count, span.length, -1) for x in rooms)
        whole = Grams(matrix, trace, tops[..., 0])
        return whole[:, :, width:], whole[:, :, :width]

    def multiply_pairs(self, span: Span, width: int, chosen: Array, squares: Array, exponents: Array) -> None:
        """Interval by interval."""
        for i in range(span.count):
            start = span.start + i * span.length
            here = slice(start, start + span.length)
            pairs = np.nonzero(chosen[0, i])
            self.kernels.norms_of(*self._arrays(here), width, *pairs, squares[0, i], exponents[0, i])

    def extend(self, span: Span, width: int) -> None:
        """In one call."""
        first, last = span.start == 0, span.stop == len(self.top)
        self.kernels.extend(*self._arrays(span.steps), width, first, last)

"""The products of one tile, kept in cache and multiplied by one step Jacobian after the other.

Two layouts, by the size k of a diagonal block. Large blocks are stacked, transposed, as the rows of
one matrix, so that a step is one matrix product with the transposed Jacobian. Blocks of up to 4 have
their sources side by side instead, and a step is k^2 multiply-adds of long vectors.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from gradsim.contracts.problem import Problem
from gradsim.engine.jacobians import SMALL, ScaledJacobians
from gradsim.numerics.scaled import KEEP, LOWEST, Scaled, or_zero, shift_of
from gradsim.types import Array

_NOTHING = {4: -126, 8: -1000}
"""The exponent below which a square adds nothing to another one."""


def stack_of(jacobians: ScaledJacobians, problem: Problem, sources: int, batch: slice) -> Stack:
    """The stack for blocks of this size."""
    return (SmallStack if problem.block <= SMALL else LargeStack)(jacobians, problem, sources, batch)


class Stack(ABC):
    """Products P(t, k) of all sources k of a tile, at one time t. Sources low..high are active.

    Arrays of shape (batch, g, source): `exponent` of each diagonal block, `squares` of its Frobenius
    norm, and `weight`, with which the squares add up to the square of the norm of the whole product
    over 4**top.
    """

    def __init__(self, jacobians: ScaledJacobians, problem: Problem, sources: int, batch: slice) -> None:
        self.jacobians, self.batch = jacobians, batch
        self.keep = KEEP[problem.dtype.itemsize]
        size, g, k = batch.stop - batch.start, problem.groups, problem.block
        self.now = np.zeros(self.shape(size, g, k, sources), dtype=problem.dtype)
        self.next = np.zeros_like(self.now)
        self.exponent = np.zeros((size, g, sources), dtype=np.int32)
        self.squares = np.zeros((size, g, sources), dtype=problem.dtype)
        self.weight = np.ones_like(self.squares)
        self.top = np.zeros((size, sources), dtype=np.int32)
        self.scaled = bool(jacobians.shifted.any())
        self.measured = True

    @staticmethod
    @abstractmethod
    def shape(batch: int, groups: int, block: int, sources: int) -> tuple[int, ...]:
        """How products are laid out."""

    @abstractmethod
    def products(self, low: int, high: int) -> Scaled:
        """Products (source, batch, g, k, k), exponents (source, batch, g, 1, 1)."""

    @abstractmethod
    def _set_identity(self, source: int) -> None: ...

    @abstractmethod
    def _multiply(self, step: Array, low: int, high: int) -> None: ...

    @abstractmethod
    def _measure(self, low: int, high: int) -> None: ...

    @abstractmethod
    def _scale(self, factor: Array, sources: Array) -> None: ...

    def start(self, source: int) -> None:
        """P(k, k) = I."""
        self._set_identity(source)
        self.squares[..., source] = self.jacobians.raw.shape[-1]

    def advance(self, t: int, low: int, high: int) -> None:
        """Multiply the active sources by the Jacobian of step t."""
        blocks, exponent = self.jacobians.at(t, self.batch)
        self._multiply(blocks, low, high)
        # Two rooms that change places: a product in place would overwrite what it still reads.
        self.now, self.next = self.next, self.now
        self.measured = False
        if exponent is not None:
            self.exponent[..., low:high] += exponent[..., None]
        if not self.jacobians.safe:
            self._keep_in_range(low, high)
        elif exponent is not None:
            self._weigh(low, high)

    def _keep_in_range(self, low: int, high: int) -> None:
        """Move what left the range into the exponents."""
        self._measure(low, high)
        self.measured = True
        squares = self.squares[..., low:high]
        if not 4.0**-self.keep < squares.min() or not squares.max() < 4.0**self.keep:
            # All that are halfway out go along, or the next one would follow at the next step.
            shift = shift_of(np.sqrt(squares), self.keep // 4)
            if shift.any():
                self._rescale(shift, low)
                self.exponent[..., low:high] += shift
                self.scaled = True
        if self.scaled:
            self._weigh(low, high)

    def _rescale(self, shift: Array, low: int) -> None:
        # An exact power of two, and a product is cheaper than ldexp.
        moved = np.flatnonzero(shift.any(axis=(0, 1)))
        factor = np.ldexp(self.squares.dtype.type(1), -shift[..., moved])
        self._scale(factor, low + moved)
        self.squares[..., low + moved] *= factor * factor

    def _weigh(self, low: int, high: int) -> None:
        exponent = self.exponent[..., low:high]
        if exponent.shape[1] == 1:
            self.top[:, low:high] = exponent[:, 0]
            return
        if not self.jacobians.safe:
            # A group that is exactly zero must not hold up the exponent of the others.
            exponent = np.where(self.squares[..., low:high] > 0, exponent, LOWEST)
        top = exponent.max(axis=1)
        self.top[:, low:high] = or_zero(top)
        # exp2 of the dtype itself, and never subnormal: those are slow, and nothing beside a weight of 1.
        down = np.maximum(2 * (exponent - top[:, None]), _NOTHING[self.weight.itemsize])
        np.exp2(down, out=self.weight[..., low:high], casting="same_kind", dtype=self.weight.dtype)

    def norms(self, low: int, high: int) -> tuple[Array, Array | None]:
        """Squared Frobenius norms (source, batch), and the exponents of the norms or None for 0."""
        if not self.measured:
            self._measure(low, high)
        squares = self.squares[..., low:high]
        if not self.scaled:
            return squares.sum(axis=1).T, None
        return (squares * self.weight[..., low:high]).sum(axis=1).T, self.top[:, low:high].T


class LargeStack(Stack):
    """[b, j, s, c, a] = P_s[a, c] of group j: sources and columns are the rows of one matrix."""

    @staticmethod
    def shape(batch: int, groups: int, block: int, sources: int) -> tuple[int, ...]:
        """(batch, g, source, column, row)."""
        return (batch, groups, sources, block, block)

    def products(self, low: int, high: int) -> Scaled:
        """Views of the stack."""
        exponent = self.exponent[..., low:high].transpose(2, 0, 1)
        return Scaled(self.now[:, :, low:high].transpose(2, 0, 1, 4, 3), exponent[..., None, None])

    def _set_identity(self, source: int) -> None:
        self.now[:, :, source] = np.eye(self.now.shape[-1], dtype=self.now.dtype)

    def _multiply(self, step: Array, low: int, high: int) -> None:
        b, g, _, k, _ = self.now.shape
        old, new = (x[:, :, low:high].reshape(b, g, -1, k) for x in (self.now, self.next))
        np.matmul(old, step.swapaxes(-1, -2), out=new)

    def _measure(self, low: int, high: int) -> None:
        flat = self.now[:, :, low:high].reshape(*self.now.shape[:2], high - low, -1)
        np.vecdot(flat, flat, out=self.squares[..., low:high])

    def _scale(self, factor: Array, sources: Array) -> None:
        self.now[:, :, sources] *= factor[..., None, None]


class SmallStack(Stack):
    """[b, j, a, c, s] = P_s[a, c] of group j: the sources lie side by side."""

    def __init__(self, jacobians: ScaledJacobians, problem: Problem, sources: int, batch: slice) -> None:
        super().__init__(jacobians, problem, sources, batch)
        self.term = np.zeros_like(self.now[:, :, 0])

    @staticmethod
    def shape(batch: int, groups: int, block: int, sources: int) -> tuple[int, ...]:
        """(batch, g, row, column, source)."""
        return (batch, groups, block, block, sources)

    def products(self, low: int, high: int) -> Scaled:
        """Views of the stack."""
        exponent = self.exponent[..., low:high].transpose(2, 0, 1)
        return Scaled(self.now[..., low:high].transpose(4, 0, 1, 2, 3), exponent[..., None, None])

    def _set_identity(self, source: int) -> None:
        self.now[..., source] = np.eye(self.now.shape[2], dtype=self.now.dtype)

    def _multiply(self, step: Array, low: int, high: int) -> None:
        # Row a of the new product is the sum over d of J[a, d] times row d of the old one.
        old, new, term = (x[..., low:high] for x in (self.now, self.next, self.term))
        factor = step[..., None, None]
        for a in range(old.shape[2]):
            np.multiply(factor[:, :, a, 0], old[:, :, 0], out=new[:, :, a])
            for d in range(1, old.shape[2]):
                np.multiply(factor[:, :, a, d], old[:, :, d], out=term)
                new[:, :, a] += term

    def _measure(self, low: int, high: int) -> None:
        # The other room is free until the next step.
        now = self.now[..., low:high]
        squares = np.multiply(now, now, out=self.next[..., low:high])
        np.sum(squares, axis=(2, 3), out=self.squares[..., low:high])

    def _scale(self, factor: Array, sources: Array) -> None:
        self.now[..., sources] *= factor[:, :, None, None]

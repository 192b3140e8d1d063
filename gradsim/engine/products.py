"""Jacobian products P(t, k) = J_t ... J_{k+1}, tile by tile.

A tile is a range of sources for some batch elements. Its products are kept transposed and stacked,
(batch, g, sources * k, k), so that one more step is one matrix product with the transposed step
Jacobian, while the tile is in cache. Powers of two that leave the range of the dtype move into
exponents, exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gradsim.engine.backward import KEEP
from gradsim.recorder import LossRows, Problem, Products
from gradsim.scaled import Scaled, shift_of
from gradsim.types import Array

_CACHE_BYTES = 2**18
"""What a tile of products may fill: it and its double stay in the second-level cache."""

_SOURCES = 64


@dataclass(frozen=True)
class Tile:
    """Sources `sources` (positions in the chosen ones) of batch elements `batch`."""

    sources: slice
    batch: slice


def tile_shape(problem: Problem) -> tuple[int, int]:
    """Sources and batch elements of a tile: chosen by the problem alone, never by the machine."""
    one = problem.groups * problem.block**2 * problem.dtype.itemsize
    sources = int(np.clip(_CACHE_BYTES // one, 4, _SOURCES))
    batch = int(np.clip(_CACHE_BYTES // (one * sources), 1, problem.batch))
    return sources, batch


def tiles(problem: Problem) -> list[Tile]:
    """The tiles of a run, longest first."""
    sources, batch = tile_shape(problem)
    count = problem.sizes()["source"]
    return [
        Tile(slice(k, min(k + sources, count)), slice(b, min(b + batch, problem.batch)))
        for k in range(0, count, sources)
        for b in range(0, problem.batch, batch)
    ]


@dataclass(frozen=True)
class ScaledJacobians:
    """Step Jacobians with their own exponents, (step, batch, g, k, k) and (step, batch, g)."""

    blocks: Array
    exponent: Array | None

    @classmethod
    def of(cls, blocks: Array) -> ScaledJacobians:
        """Take powers of two out of Jacobians that are extremely large or small."""
        shift = shift_of(np.abs(blocks).max(axis=(-1, -2)), KEEP[blocks.itemsize] - 4)
        if not shift.any():
            return cls(blocks, None)
        return cls(np.ldexp(blocks, -shift[..., None, None]), shift)


def walk_products(
    jacobians: ScaledJacobians,
    problem: Problem,
    tile: Tile,
    reach: Array | None,
    emit: Callable[[Products], None],
) -> None:
    """Multiply one tile through time and hand on every recorded (t, sources)."""
    times, sources = problem.pairs.resolved(problem.steps)
    sources = sources[tile.sources]
    wanted = {int(t): i for i, t in enumerate(times)}
    last = min(int(times[-1]), int(sources[-1]) + problem.lags)
    stack = _Stack(problem, len(sources), tile.batch)
    low = high = 0
    for t in range(int(sources[0]), last + 1):
        while sources[low] < t - problem.lags:
            low += 1
        stack.advance(jacobians, t, slice(low, high))
        if high < len(sources) and sources[high] == t:
            stack.start(high)
            high += 1
        if t in wanted and low < high:
            piece = stack.products(slice(low, high))
            if reach is not None and t:
                piece = _unreached(piece, sources[low:high] < reach[t - 1])
            emit(Products(*piece, _place(problem, wanted[t], t, sources[low:high], tile, low, high)))


def _place(
    problem: Problem, row: int, t: int, sources: Array, tile: Tile, low: int, high: int
) -> dict[str, slice | int | Array]:
    chosen = np.arange(tile.sources.start + low, tile.sources.start + high)
    outer, inner = problem.pair_dims
    if inner == "lag":
        return {"source": chosen, "lag": t - sources, "batch": tile.batch}
    return {outer: row, inner: slice(int(chosen[0]), int(chosen[-1]) + 1), "batch": tile.batch}


def _unreached(piece: tuple[Scaled, Scaled], beyond: Array) -> tuple[Scaled, Scaled]:
    product, norm = piece
    kept = ~beyond
    return (
        Scaled(product.mantissa * kept[:, None, None, None, None], product.exponent),
        Scaled(norm.mantissa * kept[:, None, None], norm.exponent),
    )


class _Stack:
    """The stacked, transposed products of one tile: [b, j, s, c, a] = P_s[a, c] of group j."""

    def __init__(self, problem: Problem, sources: int, batch: slice) -> None:
        g, k = problem.groups, problem.block
        shape = (batch.stop - batch.start, g, sources, k, k)
        self.batch = batch
        self.keep = KEEP[problem.dtype.itemsize]
        self.now = np.zeros(shape, dtype=problem.dtype)
        self.next = np.zeros_like(self.now)
        self.exponent = np.zeros(shape[:3], dtype=np.int32)
        self.squares = np.zeros(shape[:3], dtype=problem.dtype)

    def start(self, source: int) -> None:
        """P(k, k) = I."""
        k = self.now.shape[-1]
        self.now[:, :, source] = np.eye(k, dtype=self.now.dtype)
        self.squares[:, :, source] = k

    def advance(self, jacobians: ScaledJacobians, t: int, active: slice) -> None:
        """Multiply the active sources by the Jacobian of step t."""
        if active.start == active.stop:
            return
        step = jacobians.blocks[t - 1, self.batch].swapaxes(-1, -2)
        old, new = self.now[:, :, active], self.next[:, :, active]
        b, g, s, k, _ = old.shape
        if k == 1:
            np.multiply(old, step[:, :, None], out=new)
        else:
            np.matmul(old.reshape(b, g, s * k, k), step, out=new.reshape(b, g, s * k, k))
        self.now, self.next = self.next, self.now
        if jacobians.exponent is not None:
            self.exponent[:, :, active] += jacobians.exponent[t - 1, self.batch][..., None]
        self._keep_in_range(active)

    def _keep_in_range(self, active: slice) -> None:
        now = self.now[:, :, active]
        flat = now.reshape(*now.shape[:3], -1)
        squares = np.vecdot(flat, flat)
        shift = shift_of(np.sqrt(squares), self.keep)
        if shift.any():
            now[...] = np.ldexp(now, -shift[..., None, None])
            squares = np.vecdot(flat, flat)
            self.exponent[:, :, active] += shift
        self.squares[:, :, active] = squares

    def products(self, active: slice) -> tuple[Scaled, Scaled]:
        """The products (source, batch, g, k, k) and their Frobenius norms (source, batch, g)."""
        product = self.now[:, :, active].transpose(2, 0, 1, 4, 3)
        exponent = self.exponent[:, :, active].transpose(2, 0, 1)
        norm = np.sqrt(self.squares[:, :, active].astype(np.float64)).transpose(2, 0, 1)
        return Scaled(product, exponent[..., None, None]), Scaled(norm, exponent)


def walk_rows(
    jacobians: ScaledJacobians,
    problem: Problem,
    direct: Array,
    reach: Array | None,
    batch: slice,
    emit: Callable[[LossRows], None],
) -> None:
    """dL_t/ds_k = q_t P(t, k) for all recorded pairs of some batch elements, from the last k back."""
    times, sources = problem.pairs.resolved(problem.steps)
    wanted = {int(k): i for i, k in enumerate(sources)}
    g, k = problem.groups, problem.block
    count = batch.stop - batch.start
    rows = direct[times, batch].reshape(len(times), count, k, g).transpose(1, 3, 0, 2).copy()
    exponent = np.zeros(rows.shape[:3], dtype=np.int32)
    keep = KEEP[rows.itemsize]
    for source in range(int(times[-1]), int(sources[0]) - 1, -1):
        active = slice(*np.searchsorted(times, [source, source + problem.lags + 1]))
        if source in wanted and active.start < active.stop:
            piece = Scaled(rows[:, :, active], exponent[:, :, active, None])
            if reach is not None:
                beyond = np.concatenate([[0], reach])[times[active]] > source
                piece = Scaled(piece.mantissa * ~beyond[:, None], piece.exponent)
            emit(_loss_rows(piece, problem, times, active, source, wanted[source], batch))
        moving = slice(int(np.searchsorted(times, source)), active.stop)
        if source and moving.start < moving.stop:
            here = rows[:, :, moving]
            here[...] = np.matmul(here, jacobians.blocks[source - 1, batch])
            if jacobians.exponent is not None:
                exponent[:, :, moving] += jacobians.exponent[source - 1, batch][..., None]
            shift = shift_of(np.abs(here).max(axis=-1), keep)
            if shift.any():
                here[...] = np.ldexp(here, -shift[..., None])
                exponent[:, :, moving] += shift


def _loss_rows(
    piece: Scaled, problem: Problem, times: Array, active: slice, source: int, row: int, batch: slice
) -> LossRows:
    rows = Scaled(piece.mantissa.transpose(2, 0, 1, 3), piece.exponent.transpose(2, 0, 1, 3))
    outer, inner = problem.pair_dims
    if inner == "lag":
        return LossRows(rows, {"source": row, "lag": times[active] - source, "batch": batch})
    return LossRows(rows, {outer: active, inner: row, "batch": batch})

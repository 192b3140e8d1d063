"""Jacobian products P(t, k) = J_t ... J_{k+1}, tile by tile, and losses pulled back through them.

A tile is a range of sources for some batch elements, small enough to stay in cache while it moves
through time. What leaves the range of the dtype moves into exponents, exactly.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gradsim.contracts.pieces import LossRows, ProductNorms, Products, Region, local
from gradsim.contracts.problem import Problem
from gradsim.engine.jacobians import ScaledJacobians
from gradsim.engine.layout import Tile
from gradsim.engine.stack import Stack, stack_of
from gradsim.numerics.scaled import Scaled, combine, norm
from gradsim.types import Array


class NormTable:
    """The norms of the products of several tiles, filled as the tiles move through time."""

    def __init__(self, problem: Problem, tile: Tile) -> None:
        self.bounds = {"source": tile.sources, "batch": tile.batch}
        self.dims = (*problem.pair_dims, "batch")
        sizes = {**problem.sizes(), **{d: b.stop - b.start for d, b in self.bounds.items()}}
        shape = tuple(sizes[d] for d in self.dims)
        self.squares = np.full(shape, np.nan)  # where there is no product: "not computed" is NaN
        self.exponent = np.zeros(shape, dtype=np.int32)

    def put(self, region: Region, squares: Array, exponent: Array | None) -> None:
        """Squared norms (source, batch) and their exponents."""
        at = tuple(local(region[d], self.bounds[d].start if d in self.bounds else 0) for d in self.dims)
        self.squares[at] = squares
        if exponent is not None:
            self.exponent[at] = exponent

    def piece(self) -> ProductNorms:
        """All norms of the tiles."""
        norms = Scaled(np.sqrt(self.squares), self.exponent)
        return ProductNorms(norms.value, norms.log10, self.bounds)


def walk_products(
    jacobians: ScaledJacobians,
    problem: Problem,
    tile: Tile,
    reach: Array | None,
    norms: NormTable | None,
    emit: Callable[[Products], None] | None,
) -> None:
    """Multiply one tile through time; fill in its norms, hand on every recorded (t, sources)."""
    times, sources = problem.resolved
    sources = sources[tile.sources]
    rows = {int(t): i for i, t in enumerate(times)}
    ends = problem.ends[tile.sources]
    stack = stack_of(jacobians, problem, len(sources), tile.batch)
    # Sources low..high are on their way: begun, and not yet at their longest recorded lag.
    low = high = 0
    for t in range(int(sources[0]), int(ends.max()) + 1):
        while ends[low] < t:
            low += 1
        if low < high:
            stack.advance(t, low, high)
        if high < len(sources) and sources[high] == t:
            stack.start(high)
            high += 1
        if low < high and t in rows:
            here = sources[low:high]
            chosen = _chosen(problem, t - here)
            region = _place(problem, rows[t], t - here, tile, low, chosen)
            kept = None if reach is None else here[chosen] >= reach[t]
            if len(here[chosen]):
                _record(stack, problem, low, high, chosen, region, kept, norms, emit)


def _chosen(problem: Problem, lags: Array) -> slice | Array:
    """Which of these lags are recorded."""
    if problem.pairs.lags is None:
        return slice(None)
    return np.flatnonzero(problem.lag_rows[lags] >= 0)


def _record(
    stack: Stack,
    problem: Problem,
    low: int,
    high: int,
    chosen: slice | Array,
    region: Region,
    kept: Array | None,
    norms: NormTable | None,
    emit: Callable[[Products], None] | None,
) -> None:
    partial = problem.pairs.partial
    if norms is not None and not partial:
        squares, exponent = stack.norms(low, high)
        squares, exponent = squares[chosen], None if exponent is None else exponent[chosen]
        norms.put(region, squares if kept is None else squares * kept[:, None], exponent)
    if emit is not None or partial:
        product = _part(stack.products(low, high)[chosen], problem)
        if kept is not None:
            product = Scaled(product.mantissa * kept[:, None, None, None, None], product.exponent)
        if norms is not None and partial:
            size = combine(norm(product, (-2, -1)), axis=-1)
            norms.put(region, size.mantissa**2, size.exponent)
        if emit is not None:
            emit(Products(product, region, problem))


def _part(product: Scaled, problem: Problem) -> Scaled:
    """What is recorded of products (source, batch, g, k, k)."""
    if not problem.pairs.partial:
        return product
    rows, columns = problem.product_rows
    return Scaled(product.mantissa[..., rows[:, None], columns], product.exponent)


def _place(
    problem: Problem, row: int, lags: Array, tile: Tile, low: int, chosen: slice | Array
) -> dict[str, slice | int | Array]:
    first, last = tile.sources.start + low, tile.sources.start + low + len(lags)
    outer, inner = problem.pair_dims
    if inner == "lag":
        at = problem.lag_rows[lags[chosen]]
        return {"source": np.arange(first, last)[chosen], "lag": at, "batch": tile.batch}
    return {outer: row, "source": slice(first, last), "batch": tile.batch}


def walk_rows(
    jacobians: ScaledJacobians,
    problem: Problem,
    direct: Array,
    reach: Array | None,
    batch: slice,
    emit: Callable[[LossRows], None],
) -> None:
    """dL_t/ds_k = q_t P(t, k) for all recorded pairs of some batch elements, from the last k back."""
    times, sources = problem.resolved
    wanted = {int(k): i for i, k in enumerate(sources)}
    g, k = problem.groups, problem.block
    count = batch.stop - batch.start
    start = direct[times, batch].reshape(len(times), count, k, g).transpose(1, 3, 0, 2)
    rows = Scaled(start.copy(), np.zeros((*start.shape[:3], 1), dtype=np.int32))
    for source in range(int(times[-1]), int(sources[0]) - 1, -1):
        active = slice(*np.searchsorted(times, [source, source + problem.lags + 1]))
        if source in wanted and active.start < active.stop:
            piece = rows[:, :, active]
            if reach is not None:
                beyond = reach[times[active]] > source
                piece = Scaled(piece.mantissa * ~beyond[:, None], piece.exponent)
            emit(_loss_rows(piece, problem, times[active] - source, active, wanted[source], batch))
        # Losses at times before the source have not started, and those that are beyond all lags have ended.
        moving = slice(int(np.searchsorted(times, source)), active.stop)
        if source > sources[0] and moving.start < moving.stop:
            _pull_back(jacobians, source, batch, rows[:, :, moving])


def _pull_back(jacobians: ScaledJacobians, step: int, batch: slice, rows: Scaled) -> None:
    """Multiply rows (batch, g, time, k) by the Jacobian of a step, in place."""
    blocks, out = jacobians.at(step, batch)
    rows.mantissa[...] = np.matmul(rows.mantissa, blocks)
    if out is not None:
        rows.exponent[...] += out[..., None, None]
    rows.settle()


def _loss_rows(
    piece: Scaled, problem: Problem, lags: Array, active: slice, row: int, batch: slice
) -> LossRows:
    rows = Scaled(piece.mantissa.transpose(2, 0, 1, 3), piece.exponent.transpose(2, 0, 1, 3))
    outer, inner = problem.pair_dims
    if inner == "lag":
        chosen = _chosen(problem, lags)
        at = problem.lag_rows[lags[chosen]]
        return LossRows(rows[chosen], {"source": row, "lag": at, "batch": batch})
    return LossRows(rows, {outer: active, inner: row, "batch": batch})

"""The stages that start from step Jacobians: products, their norms, exponents, rows of the loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from gradsim.data.sink import Block, Sink
from gradsim.engine.cuts import parts, within
from gradsim.engine.jacobians import ScaledJacobians
from gradsim.engine.layout import Tile, board_shape, cut, tile_shape
from gradsim.engine.layout import whole as whole_of
from gradsim.engine.lyapunov import LyapunovSum
from gradsim.engine.norms import all_norms
from gradsim.engine.plan import Plan
from gradsim.engine.products import NormBoard, walk_products, walk_rows
from gradsim.engine.streams import FROM_JACOBIANS, PRODUCTS
from gradsim.feed import Feed, TileBlocks
from gradsim.mitigation import BackwardJacobian
from gradsim.progress import Advance
from gradsim.recorder import Exponents, Jacobians, LossRows, ProductNorms, Products, steps_region
from gradsim.scaled import Scaled
from gradsim.types import Array
from gradsim.unrolled import Unrolled


class Flow(Protocol):
    """Step Jacobians, raw or as changed by the mitigations."""

    effective: bool

    def jacobians(self, steps: range, taken: Unrolled | None) -> BackwardJacobian:
        """Those of some steps that have been taken, and how far the losses at these steps reach."""


@dataclass(frozen=True)
class Whole:
    """The step Jacobians of a whole run: blocks (step, batch, g, k, k), reach (step,) or None for 0."""

    blocks: Array
    reach: Array | None


class JacobianStages:
    """The same for the raw and the effective flow of one run."""

    def __init__(self, plan: Plan, sink: Sink, feed: Feed, advance: Advance) -> None:
        self.plan, self.problem = plan, plan.problem
        self.sink, self.feed, self.advance = sink, feed, advance
        self.flops = plan.flops()
        columns = self.problem.sizes()["source"] * self.problem.batch * max(1, len(plan.walked))
        self._column_flops = self.flops["products"] / columns

    def record(self, flow: Flow, sweep: Iterable[tuple[range, Unrolled | None]]) -> Whole | None:
        """Record what is asked for of single Jacobians; keep them all if something needs that.

        `sweep` gives the granules of the run, from the first to the last.
        """
        asked = {s for s in FROM_JACOBIANS if self.plan.asks(s, effective=flow.effective)}
        keep = self.plan.keeps_jacobians(effective=flow.effective)
        p = self.problem
        blocks = np.empty((p.steps, p.batch, p.groups, p.block, p.block), dtype=p.dtype) if keep else None
        reach = np.zeros(p.steps, dtype=np.int64)
        exponents = LyapunovSum(p.batch, p.groups, p.block) if Exponents in asked else None
        for granule, taken in sweep:
            if not (asked or keep):
                continue
            for steps in parts(granule, p):
                made = flow.jacobians(steps, taken and within(taken, granule, steps))
                rows = steps_region(steps)["step"]
                reach[rows] = made.reach
                if blocks is not None:
                    blocks[rows] = made.blocks
                if Jacobians in asked:
                    cut = made.reach >= np.array(steps)
                    here = (
                        np.where(cut[:, None, None, None, None], 0, made.blocks) if cut.any() else made.blocks
                    )
                    self.feed.stretch(Jacobians(steps, here), flow.effective)
                if exponents is not None:
                    exponents.add(made.blocks, self.feed.workers.run)
                self.advance("step Jacobians", self.flops["step Jacobians"] * len(steps) / p.steps)
        if exponents is not None:
            values = exponents.exponents()
            if reach[-1] > 0:
                values = np.full_like(values, -np.inf)  # the last loss does not reach the start
            self.feed.piece(Exponents(values), flow.effective)
        if blocks is None:
            return None
        blocks.flags.writeable = False
        return Whole(blocks, reach if reach.any() else None)

    def products(self, whole: Whole, effective: bool, direct: Array | None) -> None:
        """Make and record what is asked for of products; `direct` is q_t = dL_t/ds_t at all times."""
        asked = {s for s in (*PRODUCTS, LossRows) if self.plan.asks(s, effective=effective)}
        if not asked:
            return
        scaled = ScaledJacobians.of(whole.blocks)
        if ProductNorms in asked and self.plan.halved:
            asked.remove(ProductNorms)
            size, count = self.plan.halved, self.problem.batch
            batches = [slice(b, min(b + size, count)) for b in range(0, count, size)]
            self.feed.workers.run([self._norms_job(scaled, whole.reach, effective, b) for b in batches])
        if asked & {*PRODUCTS}:
            boards = cut(whole_of(self.problem), board_shape(self.problem))
            norms = ProductNorms in asked
            self.feed.workers.run(
                [self._products_job(scaled, whole.reach, effective, board, norms) for board in boards]
            )
        if LossRows in asked and direct is not None:
            self.feed.workers.run(
                [self._rows_job(scaled, whole.reach, effective, direct, b) for b in range(self.problem.batch)]
            )

    def _norms_job(
        self, jacobians: ScaledJacobians, reach: Array | None, effective: bool, batch: slice
    ) -> Callable[[], None]:
        def job() -> None:
            squares, exponents = all_norms(jacobians, batch, self.feed.workers.check)
            if reach is not None:
                beyond = np.arange(self.problem.steps + 1) < np.concatenate([[0], reach])[:, None]
                squares = np.where(beyond[..., None], 0 * squares, squares)
            piece = ProductNorms(Scaled(np.sqrt(squares), exponents), {"batch": batch})
            self.feed.piece(piece, effective, {"batch": batch})
            share = (batch.stop - batch.start) / self.problem.batch / self.plan.runs_of(ProductNorms)
            self.advance("norms", self.flops["norms"] * share)

        return job

    def _products_job(
        self,
        jacobians: ScaledJacobians,
        reach: Array | None,
        effective: bool,
        area: Tile,
        with_norms: bool,
    ) -> Callable[[], None]:
        asks = self.plan.asks
        tiles = cut(area, tile_shape(self.problem))

        def job() -> None:
            board = NormBoard(self.problem, area) if with_norms else None
            for tile in tiles:
                blocks = TileBlocks(self.sink, self.problem, tile)

                def emit(piece: Products, blocks: TileBlocks = blocks) -> None:
                    self.feed.into(blocks.block_for(piece), piece, effective)

                wanted = emit if asks(Products, effective=effective) else None
                walk_products(jacobians, self.problem, tile, reach, board, wanted)
                blocks.finish()
                self.feed.workers.check()
                share = (tile.sources.stop - tile.sources.start) * (tile.batch.stop - tile.batch.start)
                self.advance("products", self._column_flops * share)
            if board is not None:
                self.feed.piece(board.piece(), effective, board.bounds)

        return job

    def _rows_job(
        self, jacobians: ScaledJacobians, reach: Array | None, effective: bool, direct: Array, b: int
    ) -> Callable[[], None]:
        def job() -> None:
            batch = slice(b, b + 1)
            with Block(self.sink, {"batch": batch}) as block:

                def emit(piece: LossRows) -> None:
                    self.feed.into(block, piece, effective)

                walk_rows(jacobians, self.problem, direct, reach, batch, emit)
            share = self.problem.batch * self.plan.runs_of(LossRows)
            self.advance("loss rows", self.flops["loss rows"] / share)

        return job

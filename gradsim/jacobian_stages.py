"""The stages that start from step Jacobians: products, their norms, exponents, rows of the loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gradsim.data.sink import Block, Sink
from gradsim.engine import backward, lyapunov
from gradsim.engine.jacobians import ScaledJacobians
from gradsim.engine.layout import Tile, board_shape, cut, step_blocks, tile_shape, whole
from gradsim.engine.norms import all_norms
from gradsim.engine.plan import FROM_JACOBIANS, PRODUCTS, Plan
from gradsim.engine.products import NormBoard, walk_products, walk_rows
from gradsim.feed import Feed, TileBlocks
from gradsim.progress import Advance
from gradsim.recorder import Exponents, Jacobians, LossRows, ProductNorms, Products, steps_region
from gradsim.scaled import Scaled
from gradsim.types import Array


@dataclass(frozen=True)
class Flow:
    """What carries adjoints back, raw or effective: step Jacobians, reach of the losses, pull."""

    effective: bool
    jacobians: Array | None
    reach: Array | None
    pull: backward.Pull
    change: backward.Change | None = None


class JacobianStages:
    """The same for the raw and the effective flow of one run."""

    def __init__(self, plan: Plan, sink: Sink, feed: Feed, advance: Advance) -> None:
        self.plan, self.problem = plan, plan.problem
        self.sink, self.feed, self.advance = sink, feed, advance
        self.flops = plan.flops()
        columns = self.problem.sizes()["source"] * self.problem.batch * max(1, len(plan.walked))
        self._column_flops = self.flops["products"] / columns

    def record(self, flow: Flow, direct: Array) -> None:
        """Make and record what is asked for of this flow; `direct` is q_t = dL_t/ds_t."""
        if flow.jacobians is None:
            return
        asked = {s for s in FROM_JACOBIANS if self.plan.asks(s, effective=flow.effective)}
        if Jacobians in asked:
            self._record_jacobians(flow, flow.jacobians)
        if Exponents in asked:
            values = lyapunov.exponents(flow.jacobians)
            if flow.reach is not None and flow.reach[-1] > 0:
                values = np.full_like(values, -np.inf)  # the last loss does not reach the start
            self.feed.piece(Exponents(values), flow.effective)
        if asked & {*PRODUCTS, LossRows}:
            scaled = ScaledJacobians.of(flow.jacobians)
            if ProductNorms in asked and self.plan.halved:
                asked.remove(ProductNorms)
                size, count = self.plan.halved, self.problem.batch
                parts = [slice(b, min(b + size, count)) for b in range(0, count, size)]
                self.feed.in_parallel([self._norms_job(scaled, flow, part) for part in parts])
            if asked & {*PRODUCTS}:
                boards = cut(whole(self.problem), board_shape(self.problem))
                norms = ProductNorms in asked
                self.feed.in_parallel([self._products_job(scaled, flow, board, norms) for board in boards])
            if LossRows in asked:
                self.feed.in_parallel(
                    [self._rows_job(scaled, flow, direct, b) for b in range(self.problem.batch)]
                )

    def _record_jacobians(self, flow: Flow, blocks: Array) -> None:
        for steps in step_blocks(self.problem):
            region = steps_region(steps)["step"]
            here = blocks[region]
            if flow.reach is not None:
                cut = flow.reach[region] >= np.array(steps)
                here = np.where(cut[:, None, None, None, None], 0, here)
            self.feed.piece(Jacobians(steps, here), flow.effective, steps_region(steps))

    def _norms_job(self, jacobians: ScaledJacobians, flow: Flow, batch: slice) -> Callable[[], None]:
        def job() -> None:
            squares, exponents = all_norms(jacobians, batch, self.feed.check)
            if flow.reach is not None:
                beyond = np.arange(self.problem.steps + 1) < np.concatenate([[0], flow.reach])[:, None]
                squares = np.where(beyond[..., None], 0 * squares, squares)
            piece = ProductNorms(Scaled(np.sqrt(squares), exponents), {"batch": batch})
            self.feed.piece(piece, flow.effective, {"batch": batch})
            share = (batch.stop - batch.start) / self.problem.batch / self.plan.runs_of(ProductNorms)
            self.advance("norms", self.flops["norms"] * share)

        return job

    def _products_job(
        self, jacobians: ScaledJacobians, flow: Flow, area: Tile, with_norms: bool
    ) -> Callable[[], None]:
        asks, effective = self.plan.asks, flow.effective
        tiles = cut(area, tile_shape(self.problem))

        def job() -> None:
            board = NormBoard(self.problem, area) if with_norms else None
            for tile in tiles:
                blocks = TileBlocks(self.sink, self.problem, tile)

                def emit(piece: Products, blocks: TileBlocks = blocks) -> None:
                    self.feed.into(blocks.block_for(piece), piece, effective)

                wanted = emit if asks(Products, effective=effective) else None
                walk_products(jacobians, self.problem, tile, flow.reach, board, wanted)
                blocks.finish()
                self.feed.check()
                share = (tile.sources.stop - tile.sources.start) * (tile.batch.stop - tile.batch.start)
                self.advance("products", self._column_flops * share)
            if board is not None:
                self.feed.piece(board.piece(), effective, board.bounds)

        return job

    def _rows_job(self, jacobians: ScaledJacobians, flow: Flow, direct: Array, b: int) -> Callable[[], None]:
        def job() -> None:
            batch = slice(b, b + 1)
            with Block(self.sink, {"batch": batch}) as block:

                def emit(piece: LossRows) -> None:
                    self.feed.into(block, piece, flow.effective)

                walk_rows(jacobians, self.problem, direct, flow.reach, batch, emit)
            share = self.problem.batch * self.plan.runs_of(LossRows)
            self.advance("loss rows", self.flops["loss rows"] / share)

        return job

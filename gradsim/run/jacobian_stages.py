"""The stages that start from step Jacobians: products, their norms, exponents, rows of the loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from gradsim.contracts.mitigation import BackwardJacobian
from gradsim.contracts.recorder import Exponents, Jacobians, LossRows, ProductNorms, Products, steps_region
from gradsim.contracts.trajectory import Unrolled
from gradsim.data.sink import Block, Sink
from gradsim.engine.jacobians import ScaledJacobians
from gradsim.engine.layout import Tile, board_shape, cut, tile_shape
from gradsim.engine.lyapunov import LyapunovSum
from gradsim.engine.norms.tree import all_norms
from gradsim.engine.products import NormBoard, walk_products, walk_rows
from gradsim.engine.segments import parts, within
from gradsim.engine.streams import FROM_JACOBIANS, PRODUCTS
from gradsim.machine.progress import Advance
from gradsim.numerics.scaled import Scaled
from gradsim.plan.panels import Panel
from gradsim.plan.plan import Plan
from gradsim.run.recording import Feed, TileBlocks
from gradsim.types import Array


class Flow(Protocol):
    """Step Jacobians, raw or as changed by the mitigations."""

    effective: bool

    def jacobians(self, steps: range, taken: Unrolled | None) -> BackwardJacobian:
        """Those of some steps that have been taken, and how far the losses at these steps reach."""


@dataclass(frozen=True)
class Kept:
    """The step Jacobians of a panel: blocks (step, batch, g, k, k); and the reach (T,) or None for 0."""

    panel: Panel
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

    def record(
        self, flow: Flow, sweep: Iterable[tuple[range, Unrolled | None]], panel: Panel, first: bool = True
    ) -> Kept | None:
        """Keep the Jacobians of a panel if something needs that; the first time, record single ones.

        `sweep` gives the granules of the run, from the first to the last.
        """
        p = self.problem
        asked = {s for s in FROM_JACOBIANS if self.plan.asks(s, effective=flow.effective)}
        keep = self.plan.keeps_jacobians(effective=flow.effective)
        jacobians, exponents = first and Jacobians in asked, None
        if first and Exponents in asked:
            exponents = LyapunovSum(p.batch, p.groups, p.block)
        batch, start = panel.area.batch, panel.steps.start
        shape = len(panel.steps), batch.stop - batch.start, p.groups, p.block, p.block
        blocks = np.empty(shape if keep else 0, dtype=p.dtype)
        reach = np.zeros(p.steps, dtype=np.int64)
        for granule, taken in sweep:
            if not (asked or keep):
                continue
            for steps in parts(granule, p):
                made = flow.jacobians(steps, taken and within(taken, granule, steps))
                reach[steps_region(steps)["step"]] = made.reach
                here = range(max(steps.start, start), min(steps.stop, panel.steps.stop))
                if keep and here:
                    rows = slice(here.start - steps.start, here.stop - steps.start)
                    blocks[here.start - start : here.stop - start] = made.blocks[rows, batch]
                if jacobians:
                    beyond = made.reach >= np.array(steps)
                    shown = np.where(beyond[:, None, None, None, None], 0, made.blocks)
                    self.feed.stretch(Jacobians(steps, shown), flow.effective)
                if exponents is not None:
                    exponents.add(made.blocks, self.feed.workers.run)
                if first:
                    self.advance("step Jacobians", self.flops["step Jacobians"] * len(steps) / p.steps)
        if exponents is not None:
            values = exponents.exponents()
            if reach[-1] > 0:
                values = np.full_like(values, -np.inf)  # the last loss does not reach the start
            self.feed.piece(Exponents(values), flow.effective)
        blocks.flags.writeable = False
        return Kept(panel, blocks, reach if reach.any() else None) if keep else None

    def products(self, kept: Kept, effective: bool, direct: Array | None) -> None:
        """Make and record the products of a panel; `direct` is q_t = dL_t/ds_t at all times."""
        asked = {s for s in (*PRODUCTS, LossRows) if self.plan.asks(s, effective=effective)}
        area, reach = kept.panel.area, kept.reach
        scaled = ScaledJacobians(kept.blocks, kept.panel.steps.start, area.batch.start)
        if ProductNorms in asked and self.plan.halved:
            asked.remove(ProductNorms)
            batches = [tile.batch for tile in cut(area, (area.sources.stop, self.plan.halved))]
            self.feed.workers.run([self._norms_job(scaled, reach, effective, b) for b in batches])
        if asked & {*PRODUCTS}:
            norms = ProductNorms in asked
            boards = cut(area, board_shape(self.problem))
            self.feed.workers.run([self._products_job(scaled, reach, effective, b, norms) for b in boards])
        if LossRows in asked and direct is not None:
            elements = range(area.batch.start, area.batch.stop)
            self.feed.workers.run([self._rows_job(scaled, reach, effective, direct, b) for b in elements])

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

"""The stages that start from step Jacobians: products, their norms, exponents, rows of the loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import numpy as np

from gradsim.contracts.jacobians import Jacobians
from gradsim.contracts.pieces import Exponents, LossRows, ProductNorms, Products
from gradsim.contracts.trajectory import Trajectory, step_rows
from gradsim.data.sink import Block, Sink
from gradsim.engine.jacobians import Drift, ScaledJacobians
from gradsim.engine.layout import Tile, cut, job_shape, parts, tile_shape
from gradsim.engine.lyapunov import LyapunovSum
from gradsim.engine.norms.pairs import Room, norm_jobs
from gradsim.engine.products import NormTable, walk_products, walk_rows
from gradsim.engine.segments import jacobian_steps
from gradsim.engine.streams import FROM_JACOBIANS, PRODUCTS
from gradsim.machine.progress import Advance
from gradsim.machine.workers import Job
from gradsim.plan.plan import Plan
from gradsim.plan.rounds import Round
from gradsim.run.flow import Flow
from gradsim.run.recording import Recording, TileBlocks
from gradsim.types import Array


class JacobianStages:
    """Makes and records it all, for the raw and the effective flow of one run alike."""

    def __init__(
        self, plan: Plan, rounds: Sequence[Round], sink: Sink, recording: Recording, advance: Advance
    ) -> None:
        self.plan, self.problem, self.rounds = plan, plan.problem, rounds
        self.sink, self.recording, self.advance = sink, recording, advance
        self._columns = self.problem.sizes()["source"] * self.problem.batch * max(1, len(plan.walked))
        # All that some round takes.
        self._steps = range(min(r.steps.start for r in rounds), max(r.steps.stop for r in rounds))
        self._drift: Drift | None = None

    def record(
        self, flow: Flow, sweep: Iterable[Trajectory], this: Round, first: bool = True
    ) -> Jacobians | None:
        """Keep the Jacobians of a round if something needs that; the first time, record single ones.

        `sweep` gives the segments of the run, from the first to the last. If products are made in several
        rounds, the first sweep finds what to scale their steps by, so that no number depends on the rounds.
        """
        p = self.problem
        asked = {s for s in FROM_JACOBIANS if self.plan.asks(s, effective=flow.effective)}
        keep = self.plan.keeps_jacobians(effective=flow.effective)
        single, exponents = first and Jacobians in asked, None
        if first and Exponents in asked:
            exponents = LyapunovSum(p.batch, p.groups, p.block)
        batch, start = this.tile.batch, this.steps.start
        shape = len(this.steps), batch.stop - batch.start, p.groups, p.block, p.block
        blocks = np.empty(shape if keep else 0, dtype=p.dtype)
        reach = np.zeros(p.steps, dtype=np.int64)
        if first:
            walked = asked & {*PRODUCTS, LossRows} - ({ProductNorms} if self.plan.halved else set())
            self._drift = Drift() if walked and len(self.rounds) > 1 else None
        for segment in sweep:
            if not (asked or keep):
                continue
            for steps in jacobian_steps(segment.steps, p):
                made = flow.jacobians(segment[steps])  # not made yet: the reach alone may be all
                reach[step_rows(steps)] = made.reach
                if keep and (here := _common(steps, this.steps)):
                    rows = slice(here.start - steps.start, here.stop - steps.start)
                    blocks[here.start - start : here.stop - start] = made.blocks[rows, batch]
                if first and self._drift is not None and (needed := _common(steps, self._steps)):
                    rows = slice(needed.start - steps.start, needed.stop - steps.start)
                    self._drift.add(needed.start, made.blocks[rows])
                if single:
                    self.recording.along_time(made.shown, flow.effective)
                if exponents is not None:
                    exponents.add(made.blocks, self.recording.workers.run)
                if first:
                    self.advance("step Jacobians", len(steps) / p.steps)
        if exponents is not None:
            values = exponents.exponents()
            if reach[-1] > 0:
                values = np.full_like(values, -np.inf)  # the last loss does not reach the start
            self.recording.piece(Exponents(values), flow.effective)
        blocks.flags.writeable = False
        return Jacobians(this.steps, blocks, reach[step_rows(this.steps)]) if keep else None

    def products(self, kept: Jacobians, this: Round, effective: bool, direct: Array | None) -> None:
        """Make and record the products of a round; `direct` is q_t = dL_t/ds_t at all times."""
        asked = {s for s in (*PRODUCTS, LossRows) if self.plan.asks(s, effective=effective)}
        tile, reach = this.tile, self._reach(kept)
        scaled = ScaledJacobians(kept.blocks, kept.steps.start, tile.batch.start, self._drift)
        # Norms of all pairs need no products; whatever else is asked of products walks through them.
        if ProductNorms in asked and self.plan.halved:
            asked.remove(ProductNorms)
            self._norms(scaled, reach, effective, tile.batch)
        if asked & {*PRODUCTS}:
            norms = ProductNorms in asked
            jobs = cut(tile, job_shape(self.problem))
            self.recording.workers.run([self._products_job(scaled, reach, effective, j, norms) for j in jobs])
        if LossRows in asked and direct is not None:
            elements = range(tile.batch.start, tile.batch.stop)
            self.recording.workers.run(
                [self._rows_job(scaled, reach, effective, direct, b) for b in elements]
            )

    def _reach(self, kept: Jacobians) -> Array | None:
        """The earliest state that the loss at each time reaches, (time,); None if all reach all the way."""
        if not kept.reach.any():
            return None
        reach = np.zeros(self.problem.steps + 1, dtype=np.int64)
        reach[kept.steps.start : kept.steps.stop] = kept.reach
        return reach

    def _norms(self, jacobians: ScaledJacobians, reach: Array | None, effective: bool, batch: slice) -> None:
        """Make and record the norms of all pairs of some batch elements, by halving."""
        times, workers = self.problem.steps + 1, self.recording.workers
        runs = self.problem.batch * self.plan.runs_of(ProductNorms)

        def done(elements: float) -> None:
            self.advance("norms", elements / runs)

        def made(part: slice, run: Callable[[Sequence[Job]], None]) -> ProductNorms:
            norms, logs = (np.empty((times, times, part.stop - part.start)) for _ in range(2))
            room = Room(jacobians.raw[:, jacobians.own(part)], norms, logs)
            for jobs in norm_jobs(room, self.plan.halved, workers.check, done):
                run(jobs)
            if reach is not None:
                beyond = np.arange(times) < reach[:, None]
                norms[beyond], logs[beyond] = 0, -np.inf
            return ProductNorms(norms, logs, {"batch": part})

        def record(part: slice) -> None:
            self.recording.piece(made(part, workers.in_turn), effective, {"batch": part})

        if len(self.rounds) == 1 and self.plan.norms_at_once(effective):
            self.recording.whole(made(batch, workers.run), effective)
        else:
            workers.run([partial(record, part) for part in parts(batch, self.plan.halved)])

    def _products_job(
        self,
        jacobians: ScaledJacobians,
        reach: Array | None,
        effective: bool,
        whole: Tile,
        with_norms: bool,
    ) -> Callable[[], None]:
        asks = self.plan.asks
        tiles = cut(whole, tile_shape(self.problem))

        def job() -> None:
            table = NormTable(self.problem, whole) if with_norms else None
            for tile in tiles:
                blocks = TileBlocks(self.sink, self.problem, tile)

                def emit(piece: Products, blocks: TileBlocks = blocks) -> None:
                    self.recording.into(blocks.block_for(piece), piece, effective)

                wanted = emit if asks(Products, effective=effective) else None
                walk_products(jacobians, self.problem, tile, reach, table, wanted)
                blocks.finish()
                self.recording.workers.check()
                share = (tile.sources.stop - tile.sources.start) * (tile.batch.stop - tile.batch.start)
                self.advance("products", share / self._columns)
            if table is not None:
                self.recording.piece(table.piece(), effective, table.bounds)

        return job

    def _rows_job(
        self, jacobians: ScaledJacobians, reach: Array | None, effective: bool, direct: Array, b: int
    ) -> Callable[[], None]:
        def job() -> None:
            batch = slice(b, b + 1)
            with Block(self.sink, {"batch": batch}) as block:

                def emit(piece: LossRows) -> None:
                    self.recording.into(block, piece, effective)

                walk_rows(jacobians, self.problem, direct, reach, batch, emit)
            share = self.problem.batch * self.plan.runs_of(LossRows)
            self.advance("loss rows", 1 / share)

        return job


def _common(a: range, b: range) -> range:
    """The steps that are in both."""
    return range(max(a.start, b.start), min(a.stop, b.stop))

"""One run: the stages of the engine in order, each handing its pieces to the recorders that asked."""

from __future__ import annotations

import threading
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, CancelledError, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradsim.cell import Cell
from gradsim.data.sink import Block, Bounds, Sink
from gradsim.engine import backward, derivatives, lyapunov, products
from gradsim.engine.layout import block_length, time_chunk
from gradsim.engine.loss import evaluate
from gradsim.engine.plan import Plan
from gradsim.engine.unroll import unroll
from gradsim.errors import NonFiniteError, OutOfRangeWarning, PluginError
from gradsim.mitigation import BackwardJacobian, Draws, Pass, Penalty
from gradsim.progress import Advance
from gradsim.recorder import (
    Adjoints,
    Contributions,
    Exponents,
    Forward,
    Gradient,
    Jacobians,
    LossRows,
    LossTerms,
    Piece,
    Problem,
    Products,
)
from gradsim.registry import RunHooks
from gradsim.scaled import Scaled
from gradsim.task import Episode, Task
from gradsim.types import Array, Params, StepData

_CHECKED_POSITIONS = 4


@dataclass(frozen=True)
class Setup:
    """Everything that decides the numbers of a run; nothing has been computed yet."""

    cell: Cell
    params: Params
    readout: Params
    inputs: Array
    initial_state: Array
    step_data: StepData
    task: Task | None
    episode: Episode | None
    hooks: RunHooks
    draws: Draws
    measured: Sequence[str]
    checking: np.random.Generator


@dataclass(frozen=True)
class Flow:
    """What carries adjoints back, raw or effective: step Jacobians, reach of the losses, pull."""

    effective: bool
    jacobians: Array | None
    reach: Array | None
    pull: backward.Pull
    change: backward.Change | None


class Run:
    """A run in progress; `execute` does it all."""

    def __init__(self, setup: Setup, plan: Plan, sink: Sink, advance: Advance, threads: int) -> None:
        self.setup, self.plan, self.sink = setup, plan, sink
        self.problem: Problem = plan.problem
        self.advance, self.threads = advance, threads
        self.flops = plan.flops()
        self.out_of_range: Counter[str] = Counter()
        self.loss = self.penalty = 0.0
        self._stop, self._lock = threading.Event(), threading.Lock()

    def execute(self) -> None:
        """Do the stages that some recorder asked for."""
        s = self.setup
        self.trajectory = unroll(s.cell, s.params, s.inputs, s.initial_state, s.step_data)
        self._check_derivatives()
        self._done("forward")
        self._feed(Forward(self.trajectory.states))
        self.evaluation = evaluate(s.cell, self.trajectory.states, s.task, s.episode, s.readout)
        self.loss = float(self.evaluation.terms.sum() / self.problem.batch)
        self._feed(LossTerms(self.evaluation.terms))
        self._raw()
        if self.plan.asks(*_TWINS, effective=True):
            self._effective()
        self._warn()

    # Raw: the dynamics itself, outside every hook.

    def _raw(self) -> None:
        pull = backward.pull_with_cell(self.setup.cell, self.setup.params, self.trajectory)
        jacobians = self._step_jacobians() if self.plan.needs_jacobians else None
        self.raw = Flow(False, jacobians, None, pull, None)
        self._from_jacobians(self.raw)
        self.raw_adjoints: Adjoints | None = None
        for_penalty = self.setup.hooks.uses("gradsim_penalty", "adjoint")
        penalised = for_penalty and self.plan.asks(*_BACKWARD, effective=True)
        if self.plan.asks(*_BACKWARD, effective=False) or penalised:
            self.raw_adjoints = backward.backward(pull, self.evaluation.direct)
            self._backward(self.raw, self.raw_adjoints)

    def _step_jacobians(self) -> Array:
        s, p = self.setup, self.problem
        shape = (p.steps, p.batch, p.groups, p.block, p.block)
        blocks = np.empty(shape, dtype=p.dtype)
        length = block_length(p)
        for start in range(1, p.steps + 1, length):
            steps = range(start, min(start + length, p.steps + 1))
            state, inputs, data = self.trajectory.at(steps)
            blocks[start - 1 : steps.stop - 1] = s.cell.step_jacobian(s.params, state, inputs, **data)
            self.advance("step Jacobians", self.flops["step Jacobians"] * len(steps) / p.steps)
        if not np.isfinite(blocks).all():
            t, b = (int(i) for i in np.argwhere(~np.isfinite(blocks))[0][:2])
            raise NonFiniteError(
                f"{s.cell!r}: the step Jacobian is not finite for the first time at step {t + 1}, batch {b}"
            )
        blocks.flags.writeable = False
        return blocks

    # Effective: as changed by the mitigations.

    def _effective(self) -> None:
        s = self.setup
        self._pass = Pass(
            s.cell, s.params, self.trajectory.states, self.trajectory.inputs, self.trajectory.step_data
        )
        flow = self._effective_flow()
        self._from_jacobians(flow)
        if not self.plan.asks(*_BACKWARD, effective=True):
            return
        penalty = self._penalty()
        direct = self.evaluation.direct
        if penalty.state_gradient is not None:
            direct = direct + penalty.state_gradient.astype(direct.dtype)
        adjoints = backward.backward(flow.pull, direct, flow.reach, flow.change)
        self._backward(flow, adjoints, penalty)

    def _effective_flow(self) -> Flow:
        s = self.setup
        jacobians, reach, pull = self.raw.jacobians, None, self.raw.pull
        if self.plan.changes_jacobians and self.raw.jacobians is not None:
            changed = s.hooks(
                "gradsim_backward_jacobian",
                run=self._pass,
                steps=range(1, self.problem.steps + 1),
                jacobian=self.raw.jacobians,
                measured=self._measured(),
                draws=s.draws,
            )
            jacobians, reach = _checked_flow(changed, self.raw.jacobians)
            pull = backward.pull_with_jacobians(jacobians)
        change = self._change if s.hooks.uses("gradsim_backward_step") else None
        return Flow(True, jacobians, reach, pull, change)

    def _change(self, time: int, adjoint: Array) -> Array:
        adjoint.flags.writeable = False
        s = self.setup
        changed = s.hooks("gradsim_backward_step", run=self._pass, time=time, adjoint=adjoint, draws=s.draws)
        if np.shape(changed) != adjoint.shape:
            raise PluginError(
                f"gradsim_backward_step returned shape {np.shape(changed)} for an adjoint of shape "
                f"{adjoint.shape}"
            )
        return np.asarray(changed, dtype=adjoint.dtype)

    def _measured(self) -> dict[str, Array]:
        return {
            variable.name: self.sink.read(variable.name)
            for recorder, variable in self.plan.variables()
            if recorder.full_name in self.setup.measured
        }

    def _penalty(self) -> Penalty:
        s = self.setup
        adjoint = self.raw_adjoints.adjoint.value if self.raw_adjoints else None
        penalty = s.hooks("gradsim_penalty", run=self._pass, adjoint=adjoint, jacobian=self.raw.jacobians)
        for name, value in penalty.gradient.items():
            if name not in s.params or np.shape(value) != s.params[name].shape:
                raise PluginError(
                    f"gradsim_penalty gives a gradient for {name!r} of shape {np.shape(value)}; "
                    f"parameters are { {n: p.shape for n, p in s.params.items()} }"
                )
        self.penalty = float(penalty.value)
        return penalty  # type: ignore[no-any-return]

    # Stages that raw and effective share.

    def _from_jacobians(self, flow: Flow) -> None:
        if flow.jacobians is None:
            return
        p, asks = self.problem, self.plan.asks
        blocks = flow.jacobians
        if flow.reach is not None:
            cut = flow.reach > np.arange(p.steps)
            blocks = np.where(cut[:, None, None, None, None], 0, blocks)
        if asks(Jacobians, effective=flow.effective):
            length = block_length(p)
            for start in range(1, p.steps + 1, length):
                steps = range(start, min(start + length, p.steps + 1))
                self._feed(
                    Jacobians(steps, blocks[start - 1 : steps.stop - 1]),
                    flow.effective,
                    {"step": slice(start - 1, steps.stop - 1)},
                )
        if asks(Exponents, effective=flow.effective):
            values = lyapunov.exponents(flow.jacobians)
            if flow.reach is not None and flow.reach[-1] > 0:
                values = np.full_like(values, -np.inf)
            self._feed(Exponents(values), flow.effective)
        if asks(Products, LossRows, effective=flow.effective):
            jacobians = products.ScaledJacobians.of(flow.jacobians)
            if asks(Products, effective=flow.effective):
                self._in_parallel([self._product_job(jacobians, flow, tile) for tile in products.tiles(p)])
            if asks(LossRows, effective=flow.effective):
                self._in_parallel([self._rows_job(jacobians, flow, b) for b in range(p.batch)])

    def _product_job(
        self, jacobians: products.ScaledJacobians, flow: Flow, tile: products.Tile
    ) -> Callable[[], None]:
        share = self.flops["products"] / len(products.tiles(self.problem)) / (1 + self.plan.both(Products))

        def job() -> None:
            blocks = _TileBlocks(self, tile)
            for_block = blocks.block_for

            def emit(piece: Products) -> None:
                self._feed_into(for_block(piece), piece, flow.effective)

            products.walk_products(jacobians, self.problem, tile, flow.reach, emit)
            blocks.finish()
            self.advance("products", share)

        return job

    def _rows_job(self, jacobians: products.ScaledJacobians, flow: Flow, b: int) -> Callable[[], None]:
        def job() -> None:
            with Block(self.sink, {"batch": slice(b, b + 1)}) as block:
                products.walk_rows(
                    jacobians,
                    self.problem,
                    self.evaluation.direct,
                    flow.reach,
                    slice(b, b + 1),
                    lambda piece: self._feed_into(block, piece, flow.effective),
                )
            self.advance("loss rows", self.flops["loss rows"] / self.problem.batch)

        return job

    def _backward(self, flow: Flow, adjoints: Adjoints, penalty: Penalty | None = None) -> None:
        s, asks = self.setup, self.plan.asks
        self._feed(adjoints, flow.effective)
        if asks(Contributions, effective=flow.effective):
            for piece in backward.contributions(s.cell, s.params, self.trajectory, adjoints.adjoint):
                readout = self.evaluation.readout_contributions(piece.steps)
                whole = Contributions(piece.steps, {**piece.parts, **readout.parts})
                self._feed(
                    whole, flow.effective, {"step": slice(piece.steps.start - 1, piece.steps.stop - 1)}
                )
        if asks(Gradient, effective=flow.effective):
            self._feed(self._gradient(adjoints, penalty), flow.effective)
        self._done("backward")

    def _gradient(self, adjoints: Adjoints, penalty: Penalty | None) -> Gradient:
        s = self.setup
        scaled = backward.gradient(s.cell, s.params, self.trajectory, adjoints.adjoint)
        readout = self.evaluation.readout_contributions(range(1, self.problem.steps + 1)).parts
        values = {n: g.value for n, g in scaled.items()} | {
            n: g.value.sum(axis=0) for n, g in readout.items()
        }
        if penalty is None:
            return Gradient(values, 1.0)
        values = {n: g + penalty.gradient.get(n, 0) for n, g in values.items()}
        for array in values.values():
            array.flags.writeable = False
        changed = s.hooks("gradsim_backward", run=self._pass, gradient=values, draws=s.draws)
        for name, value in values.items():
            if name not in changed or np.shape(changed[name]) != value.shape:
                raise PluginError(
                    f"gradsim_backward should return a gradient for {name!r} of shape {value.shape}"
                )
        sizes = [
            np.sqrt(sum(float(np.sum(np.square(g, dtype=np.float64))) for g in d.values()))
            for d in (changed, values)
        ]
        return Gradient(changed, float(sizes[0] / sizes[1]) if sizes[1] else 1.0)

    # Feeding recorders.

    def _feed(self, piece: Piece, effective: bool = False, bounds: Bounds | None = None) -> None:
        if self.plan.asks(type(piece), effective=effective):
            with Block(self.sink, bounds or {}) as block:
                self._feed_into(block, piece, effective)

    def _feed_into(self, block: Block, piece: Piece, effective: bool) -> None:
        if self._stop.is_set():
            raise CancelledError
        for recorder in self.plan.recorders:
            if recorder.stream is type(piece) and recorder.effective == effective:
                prefix = "effective_" if effective else ""
                for name, values in recorder.compute(piece).items():
                    block.write(prefix + name, piece.region, self._plain(prefix + name, values))

    def _plain(self, name: str, values: Array | Scaled) -> Array:
        if not isinstance(values, Scaled):
            return values
        plain = values.value
        if lost := int((np.isnan(plain) & ~np.isnan(values.mantissa)).sum()):
            with self._lock:
                self.out_of_range[name] += lost
        return plain

    def _in_parallel(self, jobs: Sequence[Callable[[], None]]) -> None:
        """Do independent jobs on threads; stop them all at the first error or Ctrl-C."""
        if self.threads == 1:
            for job in jobs:
                job()
            return
        with ThreadPoolExecutor(self.threads) as pool:
            futures = [pool.submit(job) for job in jobs]
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
                for future in futures:
                    if future.done():
                        future.result()
            finally:
                if any(not f.done() for f in futures):
                    self._stop.set()
                for future in futures:
                    future.cancel()

    def _check_derivatives(self) -> None:
        """Free derivatives are checked where this run goes; analytic ones by the conformance kit."""
        s = self.setup
        methods = [m for m in derivatives.METHODS if not s.cell.analytic(m)]
        if not methods:
            return
        rng = s.checking
        t = np.sort(rng.integers(self.problem.steps, size=_CHECKED_POSITIONS))
        b = rng.integers(self.problem.batch, size=_CHECKED_POSITIONS)
        state, inputs, data = self.trajectory.at(range(1, self.problem.steps + 1))
        point = derivatives.Point.of(
            s.params, state[t, b], inputs[t, b], {n: x[t, b] for n, x in data.items()}
        )
        derivatives.check(s.cell, point, rng, methods)

    def _done(self, stage: str) -> None:
        self.advance(stage, self.flops[stage])

    def _warn(self) -> None:
        if self.out_of_range:
            lost = (
                f"{name} ({count} of {np.prod(self.sink.shape(name), dtype=int)}, {self.sink.dtype(name)})"
                for name, count in sorted(self.out_of_range.items())
            )
            warnings.warn(
                f"values that leave the range of their dtype are NaN: {', '.join(lost)}; the log10 twin of "
                "a norm holds them, and dtype='float64' is wider than float32",
                OutOfRangeWarning,
                stacklevel=5,
            )


class _TileBlocks:
    """The blocks that one tile fills one after the other, as its products move through time."""

    def __init__(self, run: Run, tile: products.Tile) -> None:
        self.run, self.tile = run, tile
        self.outer = run.problem.pair_dims[0]
        self.length = time_chunk(run.problem) if self.outer != "source" else 0
        self.current: Block | None = None
        self.index = -1

    def block_for(self, piece: Products) -> Block:
        """The block in which this piece lies; the one before is written when it is left."""
        index = int(piece.region[self.outer]) // self.length if self.length else 0  # type: ignore[arg-type]
        if self.current is None or index != self.index:
            self.finish()
            bounds = {"source": self.tile.sources, "batch": self.tile.batch}
            if self.length:
                size = self.run.sink.sizes[self.outer]
                bounds[self.outer] = slice(index * self.length, min((index + 1) * self.length, size))
            self.current, self.index = Block(self.run.sink, bounds), index
        return self.current

    def finish(self) -> None:
        """Write what is open."""
        if self.current is not None:
            self.current.__exit__(None, None, None)
            self.current = None


_BACKWARD = (Adjoints, Contributions, Gradient)
_TWINS = (*_BACKWARD, Jacobians, Products, LossRows, Exponents)


def _checked_flow(changed: Any, raw: Array) -> tuple[Array, Array | None]:
    if not isinstance(changed, BackwardJacobian):
        raise PluginError(
            f"gradsim_backward_jacobian should return a BackwardJacobian, not {type(changed).__name__}; "
            "use dataclasses.replace on what yield gave"
        )
    if changed.blocks.shape != raw.shape or changed.reach.shape != raw.shape[:1]:
        raise PluginError(
            f"gradsim_backward_jacobian returned blocks {changed.blocks.shape} and reach "
            f"{changed.reach.shape} "
            f"where {raw.shape} and {raw.shape[:1]} are needed"
        )
    blocks = changed.blocks.astype(raw.dtype, copy=False)
    if not np.isfinite(blocks).all():
        raise NonFiniteError("gradsim_backward_jacobian returned Jacobians that are not finite")
    return blocks, changed.reach if changed.reach.any() else None

"""One run: the stages of the engine in order, raw and then as changed by the mitigations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gradsim.cell import Cell
from gradsim.data.sink import Sink
from gradsim.effective import Mitigated
from gradsim.engine import backward, derivatives
from gradsim.engine.layout import step_blocks
from gradsim.engine.loss import evaluate
from gradsim.engine.plan import BACKWARD, FROM_JACOBIANS, Plan
from gradsim.engine.unroll import unroll
from gradsim.errors import NonFiniteError
from gradsim.feed import Feed
from gradsim.jacobian_stages import Flow, JacobianStages
from gradsim.mitigation import Draws, Pass, Penalty
from gradsim.progress import Advance
from gradsim.recorder import (
    Adjoints,
    Contributions,
    Forward,
    Gradient,
    LossTerms,
    steps_region,
)
from gradsim.registry import RunHooks
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


class Run:
    """A run in progress; `execute` does it all. `loss` and `penalty` are its results besides the data."""

    def __init__(self, setup: Setup, plan: Plan, sink: Sink, advance: Advance, threads: int) -> None:
        self.setup, self.plan, self.sink = setup, plan, sink
        self.problem = plan.problem
        self.feed = Feed(plan, sink, threads)
        self.advance = advance
        self.flops = plan.flops()
        self.stages = JacobianStages(plan, sink, self.feed, advance)
        self.loss = self.penalty = 0.0

    def execute(self) -> None:
        """Do the stages that some recorder asked for."""
        self._forward()
        raw = self._raw_flow()
        self.stages.record(raw, self.evaluation.direct)
        adjoints = self._raw_adjoints(raw)
        if self.plan.asks(*BACKWARD, *FROM_JACOBIANS, effective=True):
            self._effective(raw, adjoints)
        self.feed.warn()

    def _forward(self) -> None:
        s = self.setup
        self.trajectory = unroll(s.cell, s.params, s.inputs, s.initial_state, s.step_data)
        self._check_derivatives()
        self.feed.piece(Forward(self.trajectory.states))
        self.evaluation = evaluate(s.cell, self.trajectory.states, s.task, s.episode, s.readout)
        self.loss = float(self.evaluation.terms.sum() / self.problem.batch)
        self.feed.piece(LossTerms(self.evaluation.terms))
        self._done("forward")

    def _check_derivatives(self) -> None:
        """Free derivatives are checked where this run goes; analytic ones by the conformance kit."""
        s = self.setup
        methods = [m for m in derivatives.METHODS if not s.cell.analytic(m)]
        if not methods:
            return
        t = np.sort(s.checking.integers(self.problem.steps, size=_CHECKED_POSITIONS))
        b = s.checking.integers(self.problem.batch, size=_CHECKED_POSITIONS)
        state, inputs, data = self.trajectory.at(range(1, self.problem.steps + 1))
        here = {n: x[t, b] for n, x in data.items()}
        point = derivatives.Point.of(s.params, state[t, b], inputs[t, b], here)
        derivatives.check(s.cell, point, s.checking, methods)

    # Raw: the dynamics itself, outside every hook.

    def _raw_flow(self) -> Flow:
        pull = backward.pull_with_cell(self.setup.cell, self.setup.params, self.trajectory)
        jacobians = self._step_jacobians() if self.plan.needs_jacobians else None
        return Flow(False, jacobians, None, pull)

    def _raw_adjoints(self, raw: Flow) -> Adjoints | None:
        if not (self.plan.asks(*BACKWARD, effective=False) or self.plan.penalty_needs_adjoint):
            return None
        adjoints = backward.backward(raw.pull, self.evaluation.direct)
        self._backward(raw, adjoints)
        return adjoints

    def _step_jacobians(self) -> Array:
        s, p = self.setup, self.problem
        blocks = np.empty((p.steps, p.batch, p.groups, p.block, p.block), dtype=p.dtype)
        for steps in step_blocks(self.problem):
            state, inputs, data = self.trajectory.at(steps)
            made = s.cell.step_jacobian(s.params, state, inputs, **data)
            if not np.isfinite(made).all():
                t, b = (int(i) for i in np.argwhere(~np.isfinite(made))[0][:2])
                where = f"step {steps.start + t}, batch {b}"
                raise NonFiniteError(f"{s.cell!r}: the step Jacobian is not finite, first at {where}")
            blocks[steps_region(steps)["step"]] = made
            self.advance("step Jacobians", self.flops["step Jacobians"] * len(steps) / p.steps)
        blocks.flags.writeable = False
        return blocks

    # Effective: as changed by the mitigations.

    def _effective(self, raw: Flow, raw_adjoints: Adjoints | None) -> None:
        s, t = self.setup, self.trajectory
        mitigated = Mitigated(s.hooks, Pass(s.cell, s.params, t.states, t.inputs, t.step_data), s.draws)
        flow = self._effective_flow(raw, mitigated)
        self.stages.record(flow, self.evaluation.direct)
        if self.plan.asks(*BACKWARD, effective=True):
            adjoint = raw_adjoints.adjoint.value if raw_adjoints else None
            penalty = mitigated.penalty(adjoint, raw.jacobians, self._measured())
            self.penalty = float(penalty.value)
            direct = self.evaluation.direct
            if penalty.state_gradient is not None:
                direct = direct + penalty.state_gradient.astype(direct.dtype)
            adjoints = backward.backward(flow.pull, direct, flow.reach, flow.change)
            self._backward(flow, adjoints, mitigated, penalty)

    def _effective_flow(self, raw: Flow, mitigated: Mitigated) -> Flow:
        change = mitigated.adjoint if self.setup.hooks.uses("gradsim_backward_step") else None
        if raw.jacobians is None or not self.plan.changes_jacobians:
            return Flow(True, raw.jacobians, None, raw.pull, change)
        changed = mitigated.jacobians(raw.jacobians, self._measured())
        reach = changed.reach if changed.reach.any() else None
        return Flow(True, changed.blocks, reach, backward.pull_with_jacobians(changed.blocks), change)

    def _measured(self) -> dict[str, Array]:
        return {
            variable.name: self.sink.read(variable.name)
            for recorder, variable in self.plan.variables()
            if recorder.full_name in self.setup.measured
        }

    def _backward(
        self,
        flow: Flow,
        adjoints: Adjoints,
        mitigated: Mitigated | None = None,
        penalty: Penalty | None = None,
    ) -> None:
        s, asks = self.setup, self.plan.asks
        self.feed.piece(adjoints, flow.effective)
        if asks(Contributions, effective=flow.effective):
            for piece in backward.contributions(s.cell, s.params, self.trajectory, adjoints.adjoint):
                readout = self.evaluation.readout_contributions(piece.steps)
                whole = Contributions(piece.steps, {**piece.parts, **readout.parts})
                self.feed.piece(whole, flow.effective, steps_region(piece.steps))
        if asks(Gradient, effective=flow.effective):
            values = self._gradient(adjoints)
            if mitigated and penalty:
                values = {n: g + penalty.gradient.get(n, 0) for n, g in values.items()}
            gradient = mitigated.gradient(values) if mitigated else Gradient(values, 1.0)
            self.feed.piece(gradient, flow.effective)
        self.advance("backward", self.flops["backward"] / self.plan.runs_of(*BACKWARD))

    def _gradient(self, adjoints: Adjoints) -> Params:
        s = self.setup
        scaled = backward.gradient(s.cell, s.params, self.trajectory, adjoints.adjoint)
        readout = self.evaluation.readout_contributions(range(1, self.problem.steps + 1)).parts
        own = {n: g.value for n, g in scaled.items()}
        return own | {n: g.value.sum(axis=0) for n, g in readout.items()}

    def _done(self, stage: str) -> None:
        self.advance(stage, self.flops[stage])

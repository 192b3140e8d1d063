"""One run: the stages of the engine in order, raw and then as changed by the mitigations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from gradsim.contracts.mitigation import Pass, Penalty
from gradsim.contracts.recorder import (
    Adjoints,
    Contributions,
    Forward,
    Gradient,
    LossRows,
    LossTerms,
    steps_region,
    times_region,
)
from gradsim.contracts.trajectory import Unrolled
from gradsim.data.sink import Sink
from gradsim.engine import derivatives
from gradsim.engine.backward import Return
from gradsim.engine.forward import Start, Tape, probe
from gradsim.engine.loss import Loss
from gradsim.engine.segments import granules
from gradsim.engine.streams import BACKWARD, FROM_JACOBIANS
from gradsim.engine.stretch import GradientSum
from gradsim.machine.progress import Advance
from gradsim.plan.panels import panels
from gradsim.plan.plan import Plan
from gradsim.run.flow import Effective, Raw
from gradsim.run.jacobian_stages import JacobianStages, Kept
from gradsim.run.mitigated import Mitigated
from gradsim.run.recording import Feed
from gradsim.run.setup import Setup
from gradsim.types import Array

_CHECKED_POSITIONS = 4


class Run:
    """A run in progress; `execute` does it all.

    `loss`, `penalty` and `last_state` (batch, m) are its results besides the data.
    """

    def __init__(
        self, setup: Setup, plan: Plan, feed: Feed, sink: Sink, advance: Advance, memory: float | None
    ) -> None:
        s = self.setup = setup
        self.plan, self.sink, self.feed, self.advance = plan, sink, feed, advance
        p = self.problem = plan.problem
        self.flops = plan.flops()
        self.stages = JacobianStages(plan, sink, feed, advance)
        start = Start(s.cell, s.params, s.initial_state, s.inputs, s.step_data)
        self.tape = Tape(start, granules(p), plan.schedule(memory), feed.workers.run)
        self.panels = panels(plan, memory)
        self.losses = Loss(s.cell, s.task, s.episode, s.readout, p.steps)
        self.penalty = 0.0
        self.last_state = s.initial_state
        vectors = p.steps + 1, p.batch, p.cell.state_size
        self._states: Array | None = None
        self._direct = np.zeros(vectors, dtype=p.dtype) if plan.asks(LossRows) else None

    @property
    def loss(self) -> float:
        """The loss, averaged over the batch."""
        return self.losses.total

    def check(self) -> None:
        """See that the cell keeps its contract, where this run starts."""
        probe(self.tape.start)
        self._check_derivatives()

    def execute(self) -> None:
        """Do the stages that some recorder asked for."""
        self.advance("start", 0.0)
        raw = Raw(self.setup.cell, self.setup.params)
        kept = self._products(raw, self._forward())
        adjoint = None
        if self.plan.asks(*BACKWARD, effective=False) or self.plan.penalty_needs_adjoint:
            adjoint = self._backward(raw)
        if self.plan.asks(*BACKWARD, *FROM_JACOBIANS, effective=True):
            self._effective(raw, kept, adjoint)

    def _products(self, flow: Raw | Effective, sweep: Iterable[tuple[range, Unrolled | None]]) -> Kept | None:
        """Record what starts from step Jacobians, panel by panel; those of the run if one panel has all."""
        kept = None
        for i, panel in enumerate(self.panels):
            kept = self.stages.record(flow, sweep, panel, first=i == 0)
            if kept is None:
                return None
            self.stages.products(kept, flow.effective, self._direct)
            sweep = self.tape.forward()
        whole = len(self.panels) == 1 and len(self.panels[0].steps) == self.problem.steps
        return kept if whole else None

    def _forward(self) -> Iterator[tuple[range, Unrolled]]:
        """Take all granules, and record what is of the forward pass."""
        for steps, taken in self.tape.forward():
            after = taken.states[1:]
            times = times_region(steps)
            states = taken.states if steps.start == 1 else after
            self.feed.stretch(Forward(states, times))
            self.feed.stretch(LossTerms(self.losses.terms(steps, after), steps_region(steps)))
            self._keep(times["time"], states)
            self.last_state = states[-1]
            if self._direct is not None:
                self._direct[steps.start : steps.stop] = self.losses.direct(steps, after)[1:]
            self.advance("forward", self.flops["forward"] * len(steps) / self.problem.steps)
            yield steps, taken

    def _keep(self, times: slice, states: Array) -> None:
        if self.plan.needs_states:
            if self._states is None:
                shape = self.problem.steps + 1, *states.shape[1:]
                self._states = states if len(states) == shape[0] else np.empty(shape, dtype=states.dtype)
            if self._states is not states:
                self._states[times] = states

    def _check_derivatives(self) -> None:
        """Free derivatives are checked where this run goes; analytic ones by the conformance kit."""
        s, p = self.setup, self.problem
        methods = [m for m in derivatives.METHODS if not s.cell.analytic(m)]
        if not methods:
            return
        near = range(1, granules(p)[0].stop)
        taken = self.tape.start.take(near, s.initial_state, self.feed.workers.run)
        rng = s.streams.generator("check")
        t = np.sort(rng.integers(len(near), size=_CHECKED_POSITIONS))
        b = rng.integers(p.batch, size=_CHECKED_POSITIONS)
        here = {n: x[t, b] for n, x in taken.step_data.items()}
        point = derivatives.Point.of(s.params, taken.states[t, b], taken.inputs[t, b], here)
        derivatives.check(s.cell, point, rng, methods)

    def _backward(
        self,
        flow: Raw | Effective,
        mitigated: Mitigated | None = None,
        penalty: Penalty | None = None,
    ) -> Array | None:
        """Walk back and record; the whole adjoint if a penalty needs it."""
        p, asks = self.problem, self.plan.asks
        state_gradient = None if penalty is None else penalty.state_gradient
        back = Return(p.batch, p.cell.state_size, p.dtype, flow.change)
        total = GradientSum()
        keep = mitigated is None and self.plan.penalty_needs_adjoint
        whole = np.empty((p.steps + 1, p.batch, p.cell.state_size), dtype=p.dtype) if keep else None
        for granule, taken in self.tape.backward():
            direct = self.losses.direct(granule, taken.states[1:])
            if state_gradient is not None:
                direct[1:] += state_gradient[granule.start : granule.stop].astype(p.dtype)
            for stretch in flow.backward(back, granule, taken, direct):
                steps, states = stretch.steps, stretch.taken.states[1:]
                adjoint, factor = stretch.adjoint, stretch.factor
                if steps.start == 1:
                    first = direct[0] if state_gradient is None else state_gradient[0]
                    adjoint, factor = stretch.after(*back.start(first.astype(p.dtype)))
                times = times_region(steps)
                self.feed.stretch(Adjoints(adjoint, factor, times), flow.effective)
                if whole is not None:
                    whole[times["time"]] = adjoint.value
                if asks(Contributions, effective=flow.effective):
                    parts = stretch.contributions() | self.losses.readout_contributions(steps, states)
                    self.feed.stretch(Contributions(steps, parts), flow.effective)
                if asks(Gradient, effective=flow.effective):
                    total.add(stretch.gradient() | self.losses.readout_gradient(steps, states))
                share = len(steps) / p.steps / self.plan.runs_of(*BACKWARD)
                self.advance("backward", self.flops["backward"] * share)
        if asks(Gradient, effective=flow.effective):
            values = total.values()
            if mitigated and penalty:
                values = {n: g + penalty.gradient.get(n, 0) for n, g in values.items()}
            gradient = mitigated.gradient(values) if mitigated else Gradient(values, 1.0)
            self.feed.piece(gradient, flow.effective)
        return whole

    # Effective: as changed by the mitigations.

    def _effective(self, raw: Raw, kept: Kept | None, adjoint: Array | None) -> None:
        s, t = self.setup, self.tape.start
        states = t.state[None] if self._states is None else self._states  # if no hook asks for them
        mitigated = Mitigated(s.hooks, Pass(s.cell, s.params, states, t.inputs, t.step_data), s.draws)
        measured = self._measured()
        change = mitigated.adjoint if s.hooks.uses("gradsim_backward_step") else None
        changed = self.plan.changes_jacobians
        flow = Effective(self.problem, raw, kept, mitigated if changed else None, measured, change)
        if self.plan.asks(*FROM_JACOBIANS, effective=True):
            self._products(
                flow, self.tape.forward() if kept is None else ((g, None) for g in self.tape.granules)
            )
        if self.plan.asks(*BACKWARD, effective=True):
            penalty = mitigated.penalty(adjoint, None if kept is None else kept.blocks, measured)
            self.penalty = float(penalty.value)
            self._backward(flow, mitigated, penalty)

    def _measured(self) -> dict[str, Array]:
        self.feed.settle()
        return {
            variable.name: self.sink.read(variable.name)
            for recorder, variable in self.plan.variables()
            if recorder.full_name in self.setup.measured
        }

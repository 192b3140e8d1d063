"""One run: the stages of the engine in order, raw and then as changed by the mitigations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from gradsim.contracts.jacobians import Jacobians
from gradsim.contracts.mitigation import Measured
from gradsim.contracts.pieces import (
    Adjoints,
    Both,
    Contributions,
    Forward,
    FullAdjoints,
    Gradient,
    GradientByLag,
    LossTerms,
)
from gradsim.contracts.trajectory import Trajectory, time_rows
from gradsim.data.schema import frame
from gradsim.data.sink import MemorySink, Sink
from gradsim.engine.backward import Backward
from gradsim.engine.carried import Carried, GradientSum, combined, joined
from gradsim.engine.forward import Tape
from gradsim.engine.lags import gradients_by_lag, stacked
from gradsim.engine.loss import Loss
from gradsim.engine.segments import segments
from gradsim.engine.streams import BACKWARD, FROM_JACOBIANS
from gradsim.machine.progress import Advance, unseen
from gradsim.numerics.locked import all_locked, locked
from gradsim.numerics.scaled import Scaled
from gradsim.plan.plan import Plan
from gradsim.run.checking import check_start, check_steps
from gradsim.run.flow import Flow, Mitigated, Raw
from gradsim.run.jacobian_stages import JacobianStages
from gradsim.run.recording import Recording
from gradsim.run.setup import Setup
from gradsim.types import Array


class Run:
    """A run in progress; `execute` does it all.

    `advance` is told which share of a stage is done. `loss`, `penalty` and `last_state` (batch, m) are the
    results besides the data; `unchecked` are the derivatives that could not be checked where it goes.
    """

    def __init__(
        self,
        setup: Setup,
        plan: Plan,
        recording: Recording,
        sink: Sink,
        advance: Advance,
        memory: float | None,
        tape: Tape | None = None,
    ) -> None:
        s = self.setup = setup
        self.plan, self.sink, self.recording, self.advance = plan, sink, recording, advance
        self.memory = memory
        p = self.problem = plan.problem
        self.tape = tape or Tape(s.start, segments(p), plan.schedule(memory), recording.workers.run)
        self.rounds = plan.rounds(memory)
        self.stages = JacobianStages(plan, self.rounds, sink, recording, advance)
        self.losses = Loss(s.cell, s.params, s.readout, s.inputs, s.task, s.episode)
        self.penalty = 0.0
        self.unchecked: list[str] = []
        self._checking = False
        self._gradients: list[Gradient] = []
        self._by_lag: list[GradientByLag] = []
        self.last_state = s.initial_state
        vectors = p.steps + 1, p.batch, p.cell.state_size
        self._states: Array | None = None
        self._direct = np.zeros(vectors, dtype=p.dtype) if plan.needs_direct else None

    @property
    def recomputing(self) -> dict[str, int]:
        """How many states are kept at one time for the way back, and how many steps were taken again."""
        again = self.tape.taken - self.problem.steps
        return {"snapshots": self.tape.schedule.snapshots(), "recomputed_steps": again}

    @property
    def loss(self) -> float:
        """The loss, averaged over the batch."""
        return self.losses.total

    def check(self) -> None:
        """See that the cell keeps its contract where this run goes, and the task its own."""
        self.losses.check = True
        check_start(self.tape.start, self.setup)
        self._checking = True  # the rest where the run goes

    def execute(self) -> None:
        """Do the stages that some recorder asked for."""
        self.advance("start", 0.0)
        self.recording.begin()
        raw, plan = Raw(), self.plan
        # The forward pass is a generator that the first consumer of Jacobians drives, segment by segment.
        raw.kept = self._products(raw, self._forward())
        self._lags(raw, raw.kept)
        wants_raw = plan.asks(*BACKWARD, effective=False)
        if plan.asks(*BACKWARD, *FROM_JACOBIANS, effective=True):
            self._effective(raw, wants_raw)
        elif wants_raw:
            self._backward([raw])
        for pieces in (self._gradients, self._by_lag):
            if len(pieces) == 2:
                self.recording.piece(Both(*pieces))
        self.recording.end()

    def _products(self, flow: Flow, sweep: Iterable[Trajectory]) -> Jacobians | None:
        """Record what starts from step Jacobians, round by round; all Jacobians, if one round has them."""
        kept = None
        # Jacobians of one round at a time, with the run taken again for each.
        for i, this in enumerate(self.rounds):
            kept = self.stages.record(flow, sweep, this, first=i == 0)
            if kept is None:
                return None
            self.stages.products(kept, this, flow.effective, self._direct)
            sweep = self.tape.forward()
        whole = len(self.rounds) == 1 and len(self.rounds[0].steps) == self.problem.steps
        return kept if whole else None

    def _forward(self) -> Iterator[Trajectory]:
        """Take all segments, and record what is of the forward pass."""
        for taken in self.tape.forward():
            steps = taken.steps
            if self._checking:
                self.advance("forward", 0.0)
                self.unchecked = check_steps(taken, self.setup, self.plan)
                self._checking = False
                self.advance("start", 0.0)
            forward = Forward(taken)
            self.recording.along_time(forward)
            self.recording.along_time(LossTerms(taken, self.losses.terms(steps, taken.after)))
            self._keep(time_rows(steps), forward.states)
            self.last_state = taken.states[-1]
            if self._direct is not None:
                self._direct[steps.start : steps.stop] = self.losses.direct(steps, taken.after)[1:]
            self.advance("forward", len(steps) / self.problem.steps)
            yield taken

    def _keep(self, times: slice, states: Array) -> None:
        if self.plan.needs_states:
            if self._states is None:
                shape = self.problem.steps + 1, *states.shape[1:]
                # Of a run of one segment its own array will do.
                self._states = states if len(states) == shape[0] else np.empty(shape, dtype=states.dtype)
            if self._states is not states:
                self._states[times] = states

    # Backward.

    def _backward(self, flows: list[Flow], keep: bool = False, silent: bool = False) -> Array | None:
        """Walk back once, all flows side by side, and record; the whole adjoint of the first, if asked."""
        p = self.problem
        walks = [_Walk(self, flow, silent) for flow in flows]
        whole = np.empty((p.steps + 1, p.batch, p.cell.state_size), dtype=p.dtype) if keep else None
        both = len(walks) == 2
        together = self.plan.together if both else set()
        for taken in self.tape.backward():
            direct = self.losses.direct(taken.steps, taken.after)
            for i, walk in enumerate(walks):
                # A penalty is added in place: what is needed again is copied before.
                last = i == len(walks) - 1
                for adjoints in walk.through(taken, direct if last else direct.copy()):
                    if whole is not None and i == 0:
                        whole[adjoints.region["time"]] = adjoints.adjoint.value
            for stream in together.intersection(*(walk.pieces for walk in walks)):
                self.recording.along_time(Both(*(walk.pieces[stream] for walk in walks)))
            share = len(taken.steps) / p.steps / self.plan.ways_back
            self.advance("backward", share * len(flows))
        self._gradients += [walk.gradient() for walk in walks if walk.wants_gradient]
        return whole

    # Effective: as changed by the mitigations.

    def _effective(self, raw: Raw, wants_raw: bool) -> None:
        s, plan = self.setup, self.plan
        flow = Mitigated(self.problem, raw, s, self._whole, self._measured())
        adjoint, kept = None, raw.kept
        if plan.penalty_needs_adjoint:
            # The penalty decides what the effective pass starts from, so the raw one comes first.
            adjoint = self._backward([raw], keep=True, silent=wants_raw and bool(plan.together))
            wants_raw = wants_raw and bool(plan.together)
        if plan.asks(*FROM_JACOBIANS, effective=True):
            # Where the raw Jacobians are there and no hook looks at states, nothing need be taken again.
            again = self.tape.forward() if raw.kept is None or plan.shows_states else self.tape.untaken()
            kept = self._products(flow, again)
        if plan.goes_back:
            flow.find_penalty(adjoint, raw.kept)
            self.penalty = float(flow.penalty.value)
        if plan.flops()["mitigations"] and not plan.has_rule:
            self.advance("mitigations", 1.0)
        self._lags(flow, kept)
        if plan.has_rule:
            if wants_raw:
                self._backward([raw])
            self._by_rule(flow)
        elif plan.asks(*BACKWARD, effective=True):
            self._backward([raw, flow] if wants_raw else [flow])
        elif wants_raw:
            self._backward([raw])

    @property
    def _whole(self) -> Trajectory:
        """The whole run, with its states where they are needed at one time."""
        start = self.setup.start
        return start if self._states is None else start.with_states(locked(self._states))

    def _lags(self, flow: Flow, jacobians: Jacobians | None) -> None:
        """Record the gradient by lag, if somebody asks for that."""
        if not self.plan.asks(GradientByLag, effective=flow.effective):
            return
        assert self._direct is not None
        assert jacobians is not None
        p, whole, ranges = self.problem, self._whole, segments(self.problem)
        direct = flow.direct(whole.steps, self._direct.copy())
        found, lags, readout = [], p.resolved_lags.tolist(), GradientSum()
        for steps in ranges:
            readout.add(self.losses.gradient(steps, whole[steps].after))
        at_once = readout.parts()
        later = {n: Scaled(np.zeros_like(part.mantissa), part.exponent) for n, part in at_once.items()}
        for lag, parts in gradients_by_lag(whole, jacobians, direct, ranges, lags):
            total = GradientSum()
            total.add(parts)
            total.add(later if lag else at_once)
            found.append(flow.of_lag(lag, total.parts()))
            self.advance("lags", 1 / len(lags) / self.plan.runs_of(GradientByLag))
        piece = GradientByLag(stacked(found))
        self._by_lag.append(piece)
        self.recording.piece(piece, flow.effective)

    def _by_rule(self, flow: Mitigated) -> None:
        """Let a rule make the gradient of the cell; readout and output need no way back through time."""
        assert self._direct is not None
        direct = self._direct.copy()
        direct = flow.direct(range(1, self.problem.steps + 1), direct)
        direct[0] = flow.direct_at_start(direct[0])
        total, found = GradientSum(), flow.by_rule(direct, self.losses.errors)
        total.add({n: Scaled(g, np.zeros((), dtype=np.int32)) for n, g in found.items()})
        for taken in self.tape.forward():
            total.add(self.losses.gradient(taken.steps, taken.after))
        self._gradients.append(flow.gradient(total.parts()))
        self.recording.piece(self._gradients[-1], effective=True)
        self.advance("mitigations", 1.0)

    def _measured(self) -> Measured:
        """What mitigations require, each measured on its own pairs of the raw run."""
        found = {}
        for mitigation, plan in self.plan.measuring.items():
            sink = recorded(self.setup, plan, self.recording.workers.threads, self.memory, self.tape)
            found[mitigation] = all_locked({name: sink.read(name) for name in sink.variables})
        return found


def recorded(
    setup: Setup, plan: Plan, threads: int, memory: float | None, tape: Tape | None = None
) -> MemorySink:
    """What the recorders of a plan make of one run; of steps that are on a tape, if one is given."""
    sink = MemorySink(frame(plan.problem), [v for _, v in plan.variables()])
    with Recording(plan, sink, threads) as recording:
        Run(setup, plan, recording, sink, unseen, memory, tape).execute()
    return sink


class _Walk:
    """One flow on its way back, with what is recorded of it."""

    def __init__(self, run: Run, flow: Flow, silent: bool) -> None:
        p, plan = run.problem, run.plan
        self.run, self.flow, self.effective, self.silent = run, flow, flow.effective, silent
        self.back = Backward(p.batch, p.cell.state_size, p.dtype, flow.change)
        self.total = GradientSum()
        self.pieces: dict[type, Adjoints | Contributions] = {}
        self._wants_contributions = not silent and plan.asks(Contributions, effective=flow.effective)
        self._wants_full = plan.asks(FullAdjoints, effective=flow.effective)
        self.wants_gradient = not silent and plan.asks(Gradient, effective=flow.effective)
        self._sums_contributions = flow.effective and run.setup.hooks.uses("gradsim_contributions")

    def through(self, taken: Trajectory, direct: Array) -> Iterator[Adjoints]:
        """Go through a segment and record; the adjoints of its steps, the last ones first."""
        flow, recording = self.flow, self.run.recording
        direct = flow.direct(taken.steps, direct)
        made: list[Adjoints] = []
        parts: list[Contributions] = []
        for carried in flow.backward(self.back, taken, direct):
            adjoint, factor = carried.adjoint, carried.factor
            if carried.trajectory.first == 1:
                first = self.back.start(carried.trajectory, flow.direct_at_start(direct[0]))
                adjoint, factor = carried.starting(*first)
            adjoints = Adjoints(carried.trajectory, adjoint[:], factor)  # views, which are locked
            if not self.silent:
                recording.along_time(adjoints, flow.effective)
                if self._wants_full:
                    here = carried.trajectory.steps, carried.trajectory.after
                    besides = self.run.losses.inputs_slopes(*here), self.run.losses.apart(*here)
                    full = FullAdjoints(carried.trajectory, adjoints.adjoint, factor, *besides)
                    recording.along_time(full, flow.effective)
            contributions = self._contributions(carried)
            if contributions is not None:
                recording.along_time(contributions, flow.effective)
                parts.append(contributions)
            made.append(adjoints)
            yield adjoints
        if self.run.plan.together:
            self.pieces = {Adjoints: joined(made, taken)}
            if parts:
                self.pieces[Contributions] = joined(parts, taken)

    def _contributions(self, carried: Carried) -> Contributions | None:
        """What these steps add to the gradient, by step if somebody asks for that."""
        losses, here = self.run.losses, carried.trajectory
        given = by_step = None
        if self._wants_contributions or (self.wants_gradient and self._sums_contributions):
            given = combined(carried.contributions(), losses.contributions(here.steps, here.after))
            by_step = self.flow.contributions(here, given)
        if self.wants_gradient:
            if by_step is not None and self._sums_contributions and by_step is not given:
                self.total.add({n: _summed(part) for n, part in by_step.items()})
            else:
                self.total.add(carried.gradient())
                self.total.add(losses.gradient(here.steps, here.after))
        return Contributions(here, by_step) if self._wants_contributions and by_step is not None else None

    def gradient(self) -> Gradient:
        """The gradient of the run, recorded."""
        gradient = self.flow.gradient(self.total.parts())
        self.run.recording.piece(gradient, self.effective)
        return gradient


def _summed(part: Scaled) -> Scaled:
    """Over steps, with one exponent."""
    there = part.common(None)
    return Scaled(there.mantissa.sum(axis=0), there.exponent)

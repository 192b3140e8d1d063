"""What a run will cost, before it starts."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import psutil

from gradsim.contracts import registry
from gradsim.contracts.hooks import RunHooks
from gradsim.contracts.mitigation import Mitigation
from gradsim.contracts.plugin import calling
from gradsim.contracts.problem import Pairs, Problem
from gradsim.contracts.recorder import Recorder, with_own_dims
from gradsim.engine.layout import whole
from gradsim.engine.revolve import Schedule, Snapshots, chosen
from gradsim.engine.segments import segment_length, segments
from gradsim.engine.streams import BACKWARD
from gradsim.errors import BudgetError, InputError, PluginError, shown
from gradsim.machine import accelerator
from gradsim.machine.disk import human
from gradsim.plan import bytes as sizes
from gradsim.plan import flops as costs
from gradsim.plan.chunks import chunks
from gradsim.plan.needs import Needs
from gradsim.plan.rounds import Round, jacobian_bytes, rounds

_TAPE_BYTES = 64 * 2**20
"""Steps beyond this are taken again on the way back, unless a budget is given."""

_TAPE = "what is kept of states"
"""The part of memory that a choice of snapshots takes."""

_BY_LAG = ("gradients by lag", "lags at work")
"""The parts that grow with the lags that are named."""

_LITTLE_BYTES = 16 * 2**20
"""What any process can have: to ask how much memory there is takes as long as to plan a small run."""


def _available(needed: int) -> float:
    """The memory that is available; without a look where little is needed."""
    return math.inf if needed <= _LITTLE_BYTES else float(psutil.virtual_memory().available)


@dataclass(frozen=True)
class Plan(Needs):
    """What a run needs, and what that costs: bytes of memory and of data, operations by stage."""

    snapshots: Snapshots | None = None
    """Of states, for the way back, as chosen; else as many as a budget leaves room for."""

    # Asked for several times a run; see `Needs`.

    @cached_property
    def _memory(self) -> dict[str, int]:
        found = sizes.least(self)
        found |= {f"required by {m.name}": plan.memory_bytes for m, plan in self.measuring.items()}
        if self.snapshots is not None:
            found[_TAPE] = self._tape_bytes(None)
        return {name: size for name, size in found.items() if size}

    @cached_property
    def _flops(self) -> dict[str, float]:
        return costs.flops(self)

    @cached_property
    def _chunks(self) -> dict[str, dict[str, int]]:
        return chunks(self)

    @cached_property
    def measuring(self) -> dict[Mitigation, Plan]:
        """What is measured for mitigations, of the raw run and on pairs of their own."""
        if not self.measures:
            return {}
        return {m: self._measuring(m) for m in self.hooks.mitigations if m.requires}

    @property
    def mitigating(self) -> float:
        """The operations of mitigations, with those of what is measured for them."""
        return super().mitigating + sum(sum(plan.flops().values()) for plan in self.measuring.values())

    def _measuring(self, mitigation: Mitigation) -> Plan:
        recorders = [registry.recorder(name) for name in mitigation.requires]
        with calling(mitigation, "required_pairs"):
            pairs = mitigation.required_pairs
        if not isinstance(pairs, Pairs):
            raise PluginError(
                f"{mitigation!r}: required_pairs is {shown(pairs)}; it should be a gradsim.Pairs"
            )
        problem = replace(self.problem, pairs=pairs, own_dims={})
        try:
            return Plan(with_own_dims(problem, recorders), recorders, RunHooks(()), True)
        except InputError as error:
            raise PluginError(f"{mitigation!r}: required_pairs: {error}") from error

    @property
    def data_bytes(self) -> int:
        """The dataset, uncompressed."""
        return sum(v.bytes(self.problem) for _, v in self.variables())

    def memory(self) -> dict[str, int]:
        """The bytes of each part that the run needs in memory; of the tape only what was chosen."""
        return self._memory

    @property
    def _state_bytes(self) -> int:
        return self.problem.batch * self.problem.cell.state_size * self.problem.dtype.itemsize

    def schedule(self, memory: float | None) -> Schedule:
        """Which steps are kept for the way back, in what a budget leaves for it."""
        if memory not in self._schedules:
            self._schedules[memory] = self._schedule(memory)
        return self._schedules[memory]

    @cached_property
    def _schedules(self) -> dict[float | None, Schedule]:
        return {}

    def _schedule(self, memory: float | None) -> Schedule:
        # In units of a snapshot, which is one state of the whole batch.
        p, state = self.problem, self._state_bytes
        saved = p.batch * p.cell.saved_size * p.dtype.itemsize
        count, cost = len(segments(p)), -(-segment_length(p) * (state + saved) // state)
        if self.snapshots is not None:
            return chosen(self.snapshots, count, cost)
        room: float = 0
        if self.asks(*BACKWARD):
            room = _TAPE_BYTES if memory is None else max(0, memory - self.memory_bytes)
            if memory is not None and self.keeps_jacobians(False):
                room = max(0, room - self.jacobian_bytes(memory))
        return Schedule(count, cost, int(room // state))

    def recomputed_steps(self, memory: float | None) -> int:
        """How many steps are taken again within a budget."""
        schedule = self.schedule(memory)
        if not schedule.recomputed():
            return 0
        measured = sum(
            self.problem.steps + costs.recomputed_steps(plan, schedule, len(plan.rounds(memory)))
            for plan in self.measuring.values()
        )
        return measured + costs.recomputed_steps(self, schedule, len(self.rounds(memory)))

    def _tape_bytes(self, memory: float | None) -> int:
        """What is kept for the way back, at most."""
        schedule = self.schedule(memory)
        return min(schedule.room, schedule.count * schedule.cost) * self._state_bytes

    @property
    def memory_bytes(self) -> int:
        """What the run needs in memory at least."""
        return sum(self.memory().values())

    def expected_bytes(self, memory: float | None) -> int:
        """What the run will need at its peak within a budget."""
        more = self.kept_jacobians * (self.jacobian_bytes(memory) - self.jacobian_bytes(0))
        tape = self._tape_bytes(memory) if self.snapshots is None else 0  # else it is among the least
        return self.memory_bytes + more + tape

    def _room(self, memory: float | None) -> float:
        """What a budget leaves for the Jacobians of one round: their least, and half of what is to spare.

        The other half is for the tape, which needs it where there is a way back.
        """
        if not (sets := self.kept_jacobians):
            return math.inf
        if memory is None:
            p = self.problem
            everything = Round(whole(p), range(1, p.steps + 1)).bytes(p)
            return _available(2 * sets * everything) / 2 / sets
        spare = max(0, memory - self.memory_bytes) / 2
        return (spare + self.memory().get("step Jacobians", 0)) / sets

    def rounds(self, memory: float | None) -> list[Round]:
        """What is made at one time of products, within a budget."""
        return rounds(self, self._room(memory))

    def jacobian_bytes(self, memory: float | None) -> int:
        """What the Jacobians of one round take within a budget, if any are kept."""
        return jacobian_bytes(self, self._room(memory))

    def flops(self) -> dict[str, float]:
        """Floating-point operations by stage."""
        return self._flops

    def work(self, memory: float | None) -> dict[str, float]:
        """What the time of each stage is proportional to, within a budget."""
        again = self.recomputed_steps(memory)
        return costs.work(self, again, len(self.rounds(memory)), self.data_bytes)

    def chunks(self) -> dict[str, dict[str, int]]:
        """The chunks of each variable, by dim."""
        return self._chunks

    def refuse_beyond(self, memory: float | None, disk: float | None) -> None:
        """Raise BudgetError if the run does not fit, and say what reduces it."""
        available = _available(self.memory_bytes) if memory is None else memory
        if self.memory_bytes > available:
            raise BudgetError(
                f"this run needs at least {human(self.memory_bytes)} of memory and {human(available)} is "
                f"available: {self._advice(self.memory())}"
            )
        if disk is not None and self.data_bytes > disk:
            written = {v.name: v.bytes(self.problem) for _, v in self.variables()}
            raise BudgetError(
                f"this run writes {human(self.data_bytes)} (before compression) and {human(disk)} of disk "
                f"is free: {self._advice(written)}"
            )

    def _advice(self, taken: dict[str, int]) -> str:
        top = max(taken, key=lambda name: taken[name])
        fix = "reduce the steps, the batch or the state"
        if any(v.name == top for _, v in self.variables()):
            fix = (
                "narrow the pairs (max_lag, lags, sources, times, blocks_out, blocks_in), record norms "
                "instead of products, or reduce the steps or the batch"
            )
            fix += ", or write to disk (store=, --out)" * self.in_memory
        elif top in _BY_LAG:
            fix = "name few lags (max_lag, lags), or reduce the steps, the batch or the state"
        elif top == _TAPE:
            fix += ", or choose other snapshots"
        elif top.startswith("what "):
            fix += ", or leave out what carries so much"
        return f"{top} alone takes {human(taken[top])}; {fix}"


def planned(
    problem: Problem,
    recorders: Sequence[Recorder],
    hooks: RunHooks,
    in_memory: bool,
    snapshots: Snapshots | None,
) -> Plan:
    """The plan of a run, and the dims that its recorders bring along.

    Without mitigations, that of an earlier run of the same cell in the same sizes, if there was one: to ask
    what a small run costs takes as long as the run.
    """
    if hooks.mitigations:
        return Plan(with_own_dims(problem, recorders), recorders, hooks, in_memory, snapshots=snapshots)
    return _planned(_Run(problem, tuple(recorders), hooks, in_memory), snapshots)


class _Run:
    """What a plan is made of; equal to others that make the same."""

    def __init__(
        self, problem: Problem, recorders: tuple[Recorder, ...], hooks: RunHooks, in_memory: bool
    ) -> None:
        self.problem, self.recorders, self.hooks, self.in_memory = problem, recorders, hooks, in_memory
        p = problem
        sizes = p.steps, p.batch, p.dtype, p.pairs, *p.param_shapes.items()
        # Of what is kept, no other object has the identity.
        self._key = id(p.cell), sizes, recorders, in_memory, accelerator.enabled()

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Run) and self._key == other._key


@functools.lru_cache(maxsize=8)
def _planned(run: _Run, snapshots: Snapshots | None) -> Plan:
    problem = with_own_dims(run.problem, run.recorders)
    return Plan(problem, run.recorders, run.hooks, run.in_memory, snapshots=snapshots)

"""What a run will cost, before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import psutil

from gradsim.contracts import registry
from gradsim.contracts.hooks import RunHooks
from gradsim.contracts.mitigation import Mitigation
from gradsim.contracts.problem import Problem
from gradsim.contracts.recorder import Gradient, LossRows, ProductNorms, Products, Recorder, Variable
from gradsim.engine import layout
from gradsim.engine.revolve import Schedule
from gradsim.engine.segments import granule_length, granules
from gradsim.engine.streams import BACKWARD, FROM_JACOBIANS, PRODUCTS
from gradsim.errors import BudgetError
from gradsim.machine.disk import human
from gradsim.plan import bytes as parts
from gradsim.plan import flops as costs
from gradsim.plan.bytes import STRETCH_BYTES, WORK_BYTES
from gradsim.plan.panels import jacobian_bytes

_TAPE_BYTES = 64 * 2**20
"""Steps beyond this are taken again on the way back, unless a budget is given."""


@dataclass(frozen=True)
class Plan:
    """The cost of a run: bytes kept in memory, bytes of data, floating-point operations by stage."""

    problem: Problem
    recorders: Sequence[Recorder]
    hooks: RunHooks
    in_memory: bool
    tiled: bool = False
    """Whether norms are made by tiles also where halving would do: for a short trial of a long run."""

    def variables(self) -> list[tuple[Recorder, Variable]]:
        """Every variable that will be written, named in full."""
        return self._variables

    # Asked for several times a run; and a small run takes no longer than to say what it will take.

    @cached_property
    def _variables(self) -> list[tuple[Recorder, Variable]]:
        return [(r, v) for r in self.recorders for v in r.declared(self.problem)]

    @cached_property
    def _asked(self) -> set[tuple[type, bool]]:
        return {(r.stream, way) for r in self.recorders for way in r.flows}

    @cached_property
    def _memory(self) -> dict[str, int]:
        work = parts.at_work(self)
        stage = max(work, key=lambda name: work[name])
        found = parts.kept(self) | {f"{stage} at work": work[stage], "work": WORK_BYTES}
        found |= {f"required by {m.name}": plan.memory_bytes for m, plan in self.measuring.items()}
        return {name: size for name, size in found.items() if size}

    @cached_property
    def _flops(self) -> dict[str, float]:
        return costs.flops(self)

    def asks(self, *streams: type, effective: bool | None = None) -> bool:
        """Whether a recorder wants one of these streams."""
        ways = (False, True) if effective is None else (effective,)
        return any((stream, way) in self._asked for stream in streams for way in ways)

    def runs_of(self, *streams: type) -> int:
        """How often these streams are made: raw, effective, or both."""
        return max(1, sum(self.asks(*streams, effective=e) for e in (False, True)))

    @property
    def penalty_needs_adjoint(self) -> bool:
        """Whether a penalty that will be asked for reads the raw adjoint."""
        asked = self.asks(*BACKWARD, effective=True)
        return asked and self.hooks.uses("gradsim_penalty", "adjoint")

    def keeps_jacobians(self, effective: bool) -> bool:
        """Whether step Jacobians must be kept: for products, or for a penalty."""
        if self.asks(*PRODUCTS, LossRows, effective=effective):
            return True
        return self.penalty_needs_jacobians and not effective

    @property
    def penalty_needs_jacobians(self) -> bool:
        """Whether a penalty that will be asked for reads all raw step Jacobians."""
        return self.asks(*BACKWARD, effective=True) and self.hooks.uses("gradsim_penalty", "jacobians")

    @property
    def differentiates_jacobians(self) -> bool:
        """Whether there is a penalty on Jacobians or on what they do to adjoints."""
        read = any(self.hooks.uses("gradsim_penalty", name) for name in ("adjoint", "jacobians"))
        return read and self.asks(*BACKWARD, effective=True)

    @property
    def makes_jacobians(self) -> bool:
        """Whether step Jacobians are made at all."""
        asked = self.asks(*BACKWARD, effective=True)
        return self.asks(*FROM_JACOBIANS) or (asked and self.changes_jacobians) or self.keeps_jacobians(False)

    @property
    def needs_states(self) -> bool:
        """Whether a mitigation may read all states at one time."""
        whole = ("gradsim_penalty", "gradsim_rule", "gradsim_gradient")
        asked = self.asks(*BACKWARD, effective=True)
        return asked and any(self.hooks.uses(hook, "trajectory") for hook in whole)

    @property
    def shows_states(self) -> bool:
        """Whether a mitigation reads states where it changes Jacobians."""
        return self.hooks.uses("gradsim_jacobians", "trajectory")

    @property
    def needs_direct(self) -> bool:
        """Whether the derivatives of all losses are needed at one time."""
        rule = self.hooks.uses("gradsim_rule") and self.asks(Gradient, effective=True)
        return self.asks(LossRows) or rule

    @property
    def together(self) -> set[type]:
        """The streams of which somebody wants the raw and the effective piece at one time."""
        return {r.stream for r in self.recorders if r.both}

    @cached_property
    def measuring(self) -> dict[Mitigation, Plan]:
        """What is measured for mitigations, of the raw run and on pairs of their own."""
        if not self.asks(*BACKWARD, *FROM_JACOBIANS, effective=True):
            return {}
        return {m: self._measuring(m) for m in self.hooks.mitigations if m.requires}

    def _measuring(self, mitigation: Mitigation) -> Plan:
        problem = replace(self.problem, pairs=mitigation.required_pairs, own_dims={})
        return Plan(problem, [registry.recorder(name) for name in mitigation.requires], RunHooks(()), True)

    @property
    def changes_jacobians(self) -> bool:
        """Whether a mitigation changes the Jacobians of the backward pass."""
        return self.hooks.uses("gradsim_jacobians")

    @property
    def data_bytes(self) -> int:
        """The dataset, uncompressed."""
        return sum(v.bytes(self.problem) for _, v in self.variables())

    def memory(self) -> dict[str, int]:
        """The bytes of each part that the run needs in memory, besides the tape."""
        return self._memory

    @property
    def _state_bytes(self) -> int:
        return self.problem.batch * self.problem.cell.state_size * self.problem.dtype.itemsize

    def schedule(self, memory: float | None) -> Schedule:
        """Which steps are kept for the way back, in what a budget leaves for it."""
        p, state = self.problem, self._state_bytes
        room: float = 0
        if self.asks(*BACKWARD):
            room = _TAPE_BYTES if memory is None else max(0, memory - self.memory_bytes)
            if memory is not None and self.keeps_jacobians(False):
                room = max(0, room - jacobian_bytes(self, memory))
        saved = p.batch * p.cell.saved_size * p.dtype.itemsize
        cost = -(-granule_length(p) * (state + saved) // state)
        return Schedule(len(granules(p)), cost, int(room // state))

    def tape_bytes(self, memory: float | None) -> int:
        """What is kept for the way back, at most."""
        schedule = self.schedule(memory)
        return min(schedule.room, schedule.count * schedule.cost) * self._state_bytes

    @property
    def memory_bytes(self) -> int:
        """What the run needs in memory at least."""
        return sum(self.memory().values())

    def expected_bytes(self, memory: float | None) -> int:
        """What the run will need at its peak within a budget."""
        least = self.memory()
        copies = least.get("step Jacobians", 0) // max(1, jacobian_bytes(self, 0))
        more = copies * (jacobian_bytes(self, memory) - jacobian_bytes(self, 0))
        return sum(least.values()) + more + self.tape_bytes(memory)

    @property
    def halved(self) -> int:
        """How many batch elements at a time have their norms made by halving; 0: by tiles, if at all."""
        return layout.halves(self.problem) if self.asks(ProductNorms) and not self.tiled else 0

    @property
    def walked(self) -> list[bool]:
        """For which of raw and effective the products are made one by one."""
        streams = (Products,) if self.halved else PRODUCTS
        return [e for e in (False, True) if self.asks(*streams, effective=e)]

    def flops(self) -> dict[str, float]:
        """Floating-point operations by stage."""
        return self._flops

    def work(self, memory: float | None) -> dict[str, float]:
        """What the time of each stage is proportional to, within a budget."""
        return costs.work(self, memory)

    def chunks(self) -> dict[str, dict[str, int]]:
        """The chunks of each variable: what its stage fills in one block is a union of whole chunks."""
        p = self.problem
        sources, batch = layout.tile_shape(p)
        in_time = {} if p.pair_dims[0] == "source" else {p.pair_dims[0]: layout.time_chunk(p)}
        every_pair = {d: p.sizes()[d] for d in p.pair_dims}
        board_sources, board_batch = layout.board_shape(p)
        norms = {**every_pair, "source": board_sources, "batch": board_batch}
        if self.halved:
            norms = {**every_pair, "batch": self.halved}
        by_stream: dict[type, dict[str, int]] = {
            Products: {"source": sources, "batch": batch, "lag": p.lags + 1, **in_time},
            ProductNorms: norms,
            LossRows: {"batch": 1},
        }
        return {v.name: by_stream.get(r.stream) or self._along_time(v) for r, v in self.variables()}

    def _along_time(self, variable: Variable) -> dict[str, int]:
        """Chunks of what comes stretch by stretch; none of its own for what comes at once."""
        if not variable.dims or variable.dims[0] not in ("time", "step"):
            return {}
        length = self.problem.sizes()[variable.dims[0]]
        return {
            variable.dims[0]: int(np.clip(STRETCH_BYTES * length // variable.bytes(self.problem), 1, length))
        }

    def refuse_beyond(self, memory: float | None, disk: float | None) -> None:
        """Raise BudgetError if the run does not fit, and say what reduces it."""
        available = psutil.virtual_memory().available if memory is None else memory
        if self.memory_bytes > available:
            raise BudgetError(
                f"this run needs at least {human(self.memory_bytes)} of memory and {human(available)} is "
                f"available: {self._advice(self.memory())}"
            )
        if disk is not None and self.data_bytes > disk:
            sizes = {v.name: v.bytes(self.problem) for _, v in self.variables()}
            raise BudgetError(
                f"this run writes {human(self.data_bytes)} (before compression) and {human(disk)} of disk "
                f"is free: {self._advice(sizes)}"
            )

    def _advice(self, sizes: dict[str, int]) -> str:
        top = max(sizes, key=lambda name: sizes[name])
        fix = "reduce the steps, the batch or the state"
        if any(v.name == top for _, v in self.variables()):
            fix = (
                "narrow the pairs (max_lag, lags, sources, times), record norms instead of products, or "
                "reduce the steps or the batch"
            )
            fix += ", or write to disk (store=, --out)" * self.in_memory
        return f"{top} alone takes {human(sizes[top])}; {fix}"

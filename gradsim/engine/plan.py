"""What a run will cost, before it starts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import psutil

from gradsim.engine import layout
from gradsim.engine.checkpoint import Schedule
from gradsim.engine.cuts import granule_length, granules, jacobian_length
from gradsim.errors import BudgetError
from gradsim.recorder import (
    Adjoints,
    Contributions,
    Exponents,
    Gradient,
    Jacobians,
    LossRows,
    Problem,
    ProductNorms,
    Products,
    Recorder,
    Variable,
)
from gradsim.registry import RUN_HOOKS, RunHooks

_WORK_BYTES = 32 * 2**20
"""What tracing and tiles may take besides the arrays that are kept."""

_TAPE_BYTES = 64 * 2**20
"""Steps beyond this are taken again on the way back, unless a budget is given."""

_STRETCH_BYTES = 4 * 2**20
"""A chunk of what is written along time."""

BACKWARD = (Adjoints, Contributions, Gradient)
FROM_JACOBIANS = (Jacobians, ProductNorms, Products, LossRows, Exponents)
PRODUCTS = (ProductNorms, Products)


@dataclass(frozen=True)
class Plan:
    """The cost of a run: bytes kept in memory, bytes of data, floating-point operations by stage."""

    problem: Problem
    recorders: Sequence[Recorder]
    hooks: RunHooks
    in_memory: bool

    def variables(self) -> list[tuple[Recorder, Variable]]:
        """Every variable that will be written, named in full."""
        return [(r, v) for r in self.recorders for v in r.declared(self.problem)]

    def asks(self, *streams: type, effective: bool | None = None) -> bool:
        """Whether a recorder wants one of these streams."""
        return any(r.stream in streams and effective in (None, r.effective) for r in self.recorders)

    def runs_of(self, *streams: type) -> int:
        """How often these streams are made: raw, effective, or both."""
        return max(1, sum(self.asks(*streams, effective=e) for e in (False, True)))

    @property
    def penalty_needs_adjoint(self) -> bool:
        """Whether a penalty that will be asked for reads the raw adjoint."""
        asked = self.asks(*BACKWARD, effective=True)
        return asked and self.hooks.uses("gradsim_penalty", "adjoint")

    def keeps_jacobians(self, effective: bool) -> bool:
        """Whether all step Jacobians must be kept: for products, or for a penalty."""
        if self.asks(*PRODUCTS, LossRows, effective=effective):
            return True
        asked = self.asks(*BACKWARD, effective=True) and not effective
        return asked and self.hooks.uses("gradsim_penalty", "jacobian")

    @property
    def makes_jacobians(self) -> bool:
        """Whether step Jacobians are made at all."""
        asked = self.asks(*BACKWARD, effective=True)
        return self.asks(*FROM_JACOBIANS) or (asked and self.changes_jacobians) or self.keeps_jacobians(False)

    @property
    def needs_states(self) -> bool:
        """Whether a mitigation may read all states."""
        return self.asks(*BACKWARD, *FROM_JACOBIANS, effective=True) and any(
            self.hooks.uses(hook, "run") for hook in RUN_HOOKS
        )

    @property
    def changes_jacobians(self) -> bool:
        """Whether a mitigation changes the Jacobians of the backward pass."""
        return self.hooks.uses("gradsim_backward_jacobian")

    @property
    def data_bytes(self) -> int:
        """The dataset, uncompressed."""
        return sum(v.bytes(self.problem) for _, v in self.variables())

    def memory(self) -> dict[str, int]:
        """The bytes of each part that is kept in memory, besides the tape."""
        p = self.problem
        m, length = p.cell.state_size, granule_length(p)
        state = p.batch * m * p.dtype.itemsize
        whole = (p.steps + 1) * state
        params = sum(math.prod(s) for s in p.param_shapes.values()) * p.dtype.itemsize
        kept = self.keeps_jacobians(False) + (
            self.keeps_jacobians(True) and (self.changes_jacobians or not self.keeps_jacobians(False))
        )
        granule = length * (6 * state + 2 * p.batch * p.cell.saved_size * p.dtype.itemsize)
        dataset = {v.name: v.bytes(p) for _, v in self.variables() if self.in_memory}
        found = {
            "inputs": p.steps * p.batch * (p.cell.input_size * p.dtype.itemsize + 8),
            "states": whole * self.needs_states,
            "losses by state": whole * self.asks(LossRows),
            "adjoints": whole * self.penalty_needs_adjoint,
            "step Jacobians": p.steps * state * p.block * kept,
            "Jacobians at work": 3 * jacobian_length(p) * state * p.block * self.makes_jacobians,
            "contributions at work": 2 * length * params * self.asks(Contributions),
            "steps at work": granule,
            "norms of two jobs": 2 * 12 * (p.steps + 1) ** 2 * self.halved,
            "work": _WORK_BYTES,
            **dataset,
        }
        return {name: size for name, size in found.items() if size}

    def schedule(self, memory: float | None) -> Schedule:
        """Which steps are kept for the way back, in what a budget leaves for it."""
        p = self.problem
        room: float = 0
        if self.asks(*BACKWARD):
            room = _TAPE_BYTES if memory is None else max(0, memory - self.memory_bytes)
        state = p.batch * p.cell.state_size * p.dtype.itemsize
        saved = p.batch * p.cell.saved_size * p.dtype.itemsize
        cost = -(-granule_length(p) * (state + saved) // state)
        return Schedule(len(granules(p)), cost, int(room // state))

    @property
    def memory_bytes(self) -> int:
        """What the run needs in memory at least."""
        return sum(self.memory().values())

    @property
    def halved(self) -> int:
        """How many batch elements at a time have their norms made by halving; 0: by tiles, if at all."""
        return layout.halves(self.problem) if self.asks(ProductNorms) else 0

    @property
    def walked(self) -> list[bool]:
        """For which of raw and effective the products are made one by one."""
        streams = (Products,) if self.halved else PRODUCTS
        return [e for e in (False, True) if self.asks(*streams, effective=e)]

    def flops(self) -> dict[str, float]:
        """Floating-point operations by stage."""
        p = self.problem
        m, k = p.cell.state_size, p.block
        passes = [e for e in (False, True) if self.asks(*BACKWARD, effective=e)]
        weights = 2 * sum(math.prod(s) for s in p.param_shapes.values())
        levels = 4 + 2 * max(0.0, math.log2(p.steps / 8))
        halving = p.steps * levels * 2 * m * k * k + p.pair_count * 2 * m * k
        return {
            "forward": float(p.steps * p.batch * weights),
            "step Jacobians": float(p.steps * p.batch * 3 * m * k * self.makes_jacobians),
            "norms": float(bool(self.halved) * self.runs_of(ProductNorms) * p.batch * halving),
            "products": float(len(self.walked) * p.product_count * p.batch * 2 * m * k * k),
            "loss rows": float(p.product_count * p.batch * 2 * m * k * self.asks(LossRows)),
            "backward": float(len(passes) * p.steps * p.batch * 2 * weights),
            "recorders": sum(r.flops(p) for r in self.recorders),
        }

    def chunks(self) -> dict[str, dict[str, int]]:
        """The chunks of each variable: what its stage fills in one block is a union of whole chunks."""
        p = self.problem
        sources, batch = layout.tile_shape(p)
        in_time = {} if p.pair_dims[0] == "source" else {p.pair_dims[0]: layout.time_chunk(p)}
        every_pair = {d: p.sizes()[d] for d in p.pair_dims}
        board_sources, board_batch = layout.board_shape(p)
        norms = {**every_pair, "source": board_sources, "batch": board_batch}
        if at_once := layout.halves(p):
            norms = {**every_pair, "batch": at_once}
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
            variable.dims[0]: int(np.clip(_STRETCH_BYTES * length // variable.bytes(self.problem), 1, length))
        }

    def refuse_beyond(self, memory: float | None, disk: float | None) -> None:
        """Raise BudgetError if the run does not fit, and say what reduces it."""
        available = psutil.virtual_memory().available if memory is None else memory
        if self.memory_bytes > available:
            raise BudgetError(
                f"this run needs at least {human(self.memory_bytes)} of memory and {human(available)} is "
                f"available: "
                f"{self._advice(self.memory())}"
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
                "narrow the pairs (max_lag, sources, times), record norms instead of products, or reduce "
                "the steps or the batch"
            )
            fix += ", or write to disk (store=, --out)" * self.in_memory
        return f"{top} alone takes {human(sizes[top])}; {fix}"


def human(size: float) -> str:
    """A number of bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"

"""What a run will cost, before it starts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

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
from gradsim.registry import RunHooks

_WORK_BYTES = 128 * 2**20
"""What tracing, tiles and one block of contributions may take besides the arrays that are kept."""

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

    @property
    def needs_jacobians(self) -> bool:
        """Whether step Jacobians must be kept: products, or a changed backward pass, need them."""
        for_hooks = self.changes_jacobians or self.hooks.uses("gradsim_penalty", "jacobian")
        return self.asks(*FROM_JACOBIANS) or (for_hooks and self.asks(*BACKWARD, effective=True))

    @property
    def changes_jacobians(self) -> bool:
        """Whether a mitigation changes the Jacobians of the backward pass."""
        return self.hooks.uses("gradsim_backward_jacobian")

    @property
    def data_bytes(self) -> int:
        """The dataset, uncompressed."""
        return sum(v.bytes(self.problem) for _, v in self.variables())

    def memory(self) -> dict[str, int]:
        """The bytes of each part that is kept in memory."""
        p = self.problem
        m = p.cell.state_size
        vectors = 2 * m + p.cell.input_size + 2 * m * self.asks(*BACKWARD)
        matrices = m * p.block * self.needs_jacobians * (2 if self.changes_jacobians else 1)
        each = (p.steps + 1) * p.batch * p.dtype.itemsize
        dataset = {v.name: v.bytes(p) for _, v in self.variables() if self.in_memory}
        return {"states": each * vectors, "step Jacobians": each * matrices, "work": _WORK_BYTES, **dataset}

    @property
    def memory_bytes(self) -> int:
        """What the run keeps in memory at its peak."""
        return sum(self.memory().values())

    def flops(self) -> dict[str, float]:
        """Floating-point operations by stage."""
        p = self.problem
        m, k = p.cell.state_size, p.block
        runs = [e for e in (False, True) if self.asks(*PRODUCTS, effective=e)]
        passes = [e for e in (False, True) if self.asks(*BACKWARD, effective=e)]
        weights = 2 * sum(math.prod(s) for s in p.param_shapes.values())
        return {
            "forward": float(p.steps * p.batch * weights),
            "step Jacobians": float(p.steps * p.batch * 3 * m * k * self.needs_jacobians),
            "products": float(len(runs) * p.product_count * p.batch * 2 * m * k * k),
            "loss rows": float(p.product_count * p.batch * 2 * m * k * self.asks(LossRows)),
            "backward": float(len(passes) * p.steps * p.batch * 2 * weights),
            "recorders": sum(r.flops(p) for r in self.recorders),
        }

    def refuse_beyond(self, memory: float | None, disk: float | None) -> None:
        """Raise BudgetError if the run does not fit, and say what reduces it."""
        available = psutil.virtual_memory().available if memory is None else memory
        if self.memory_bytes > available:
            raise BudgetError(
                f"this run needs {human(self.memory_bytes)} of memory and {human(available)} is available: "
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

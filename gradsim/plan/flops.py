"""Operations of a run by stage, and what the time of a stage is proportional to."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from gradsim.contracts.recorder import LossRows, ProductNorms, Products
from gradsim.engine import layout
from gradsim.engine.streams import BACKWARD, FORWARD, FROM_JACOBIANS, SINGLE
from gradsim.plan.panels import panels

if TYPE_CHECKING:
    from gradsim.plan.plan import Plan

_CALL = 2e5
"""What one step of Python costs, in operations."""

_ROW = 20
"""What it costs to record an element of a row, in operations."""

_VARIABLE = 5e5
"""What it costs to write anything of a variable, in bytes."""

_PAIR = 100
"""What it costs to record a number of each pair (t, k), in operations."""


def flops(plan: Plan) -> dict[str, float]:
    """Floating-point operations by stage, those of its recorders included."""
    p = plan.problem
    m, k = p.cell.state_size, p.block
    weights = 2 * sum(math.prod(s) for s in p.param_shapes.values())
    levels = 4 + 2 * max(0.0, math.log2(p.steps / 8))
    halving = p.steps * levels * 2 * m * k * k + p.pair_count * 2 * m * k
    norms = bool(plan.halved) * plan.runs_of(ProductNorms) * p.batch * halving
    products = len(plan.walked) * p.product_count * p.batch * 2 * m * k * k
    rows = plan.asks(LossRows) * plan.runs_of(LossRows) * p.product_count * p.batch * 2 * m * k
    jacobians = plan.makes_jacobians * p.steps * p.batch * 3 * m * k
    backward = plan.asks(*BACKWARD) * plan.runs_of(*BACKWARD) * p.steps * p.batch * 2 * weights
    return {
        "forward": p.steps * p.batch * weights + _recording(plan, *FORWARD),
        "step Jacobians": jacobians + _recording(plan, *SINGLE),
        "norms": norms + bool(plan.halved) * _recording(plan, ProductNorms),
        "products": products + _recording(plan, *(Products,) if plan.halved else (Products, ProductNorms)),
        "loss rows": rows + _recording(plan, LossRows),
        "backward": backward + _recording(plan, *BACKWARD),
    }


def work(plan: Plan, memory: float | None) -> dict[str, float]:
    """What the time of each stage is proportional to; the unit is about an operation.

    Operations, and what else grows differently from them as a run gets longer: steps that Python takes and
    numbers that are recorded. What is done again, for want of memory, counts as often as it is done.
    """
    p, counted, schedule = plan.problem, flops(plan), plan.schedule(memory)
    sweeps = _sweeps(plan, memory)
    pairs = p.pair_count * p.batch
    rows = _CALL * p.steps * p.batch + (_PAIR + _ROW * p.cell.state_size) * pairs
    more = {
        "forward": counted["forward"] * taken_again(plan, memory) / schedule.count,
        "step Jacobians": counted["step Jacobians"] * (sum(sweeps) - 1),
        "norms": _PAIR * pairs * bool(plan.halved) * plan.runs_of(ProductNorms),
        "products": len(plan.walked) * (_CALL * _tile_steps(plan) + _PAIR * pairs),
        "loss rows": plan.asks(LossRows) * plan.runs_of(LossRows) * rows,
    }
    written = float(plan.data_bytes + _VARIABLE * len(plan.variables()))
    return {s: units + more.get(s, 0) for s, units in counted.items()} | {"writing": written}


def taken_again(plan: Plan, memory: float | None) -> int:
    """Segments that are taken again: for more step Jacobians, and on the way back."""
    schedule = plan.schedule(memory)
    if schedule.ahead(schedule.count, 0) == 0:
        return 0
    first, second = _sweeps(plan, memory)
    kept = first == 1 and plan.keeps_jacobians(effective=False) and not plan.shows_states
    changed = second - (second > 0 and kept)
    again = schedule.count * (max(0, first - 1) + changed)
    if plan.penalty_needs_adjoint:  # a raw way back of its own, before the one of everything
        again += schedule.recomputed() + schedule.count * (not changed)
    return again + schedule.recomputed() * plan.asks(*BACKWARD)


def _sweeps(plan: Plan, memory: float | None) -> list[int]:
    """How often the run is gone through for step Jacobians: raw, which is the way forward, and effective."""
    count = len(panels(plan, memory)) if plan.keeps_jacobians(False) or plan.keeps_jacobians(True) else 1
    effective = plan.asks(*FROM_JACOBIANS, effective=True)
    return [
        count if plan.keeps_jacobians(False) else 1,
        effective * (count if plan.keeps_jacobians(True) else 1),
    ]


def _recording(plan: Plan, *streams: type) -> float:
    return sum(r.flops(plan.problem) for r in plan.recorders if r.stream in streams)


def _tile_steps(plan: Plan) -> float:
    """Steps of all tiles, each of which Python takes."""
    p = plan.problem
    sources, batch = layout.tile_shape(p)
    sources = min(sources, p.sizes()["source"])
    return math.ceil(p.batch / batch) * (p.product_count / sources + p.sizes()["source"])

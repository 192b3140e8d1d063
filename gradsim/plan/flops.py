"""Operations of a run by stage, and what the time of a stage is proportional to."""

from __future__ import annotations

import math

from gradsim.contracts.pieces import GradientByLag, LossRows, ProductNorms, Products
from gradsim.engine import layout
from gradsim.engine.revolve import Schedule
from gradsim.engine.segments import segment_length
from gradsim.engine.streams import BACKWARD, FORWARD, FROM_JACOBIANS, SINGLE
from gradsim.plan.needs import Needs

_CALL = 2e5
"""What one step of Python costs, in operations."""

_ROW = 20
"""What it costs to record an element of a row, in operations."""

_VARIABLE = 5e5
"""What it costs to write anything of a variable, in bytes."""

_PAIR = 100
"""What it costs to record a number of each pair (t, k), in operations."""


def flops(needs: Needs) -> dict[str, float]:
    """Floating-point operations by stage, those of its recorders included."""
    p = needs.problem
    m, k = p.cell.state_size, p.block
    weights = 2 * sum(math.prod(s) for s in p.param_shapes.values())
    levels = 4 + 2 * max(0.0, math.log2(p.steps / 8))
    halving = p.steps * levels * 2 * m * k * k + p.pair_count * 2 * m * k
    norms = bool(needs.halved) * needs.runs_of(ProductNorms) * p.batch * halving
    products = len(needs.walked) * p.product_count * p.batch * 2 * m * k * k
    rows = needs.asks(LossRows) * needs.runs_of(LossRows) * p.product_count * p.batch * 2 * m * k
    carried, pulled = (p.lags + 1) * (p.steps - p.lags / 2), float((p.steps - p.resolved_lags).sum())
    by_lag = needs.asks(GradientByLag) * needs.runs_of(GradientByLag) * p.batch
    jacobians = needs.makes_jacobians * p.steps * p.batch * 3 * m * k
    backward = needs.ways_back * p.steps * p.batch * 2 * weights
    return {
        "forward": p.steps * p.batch * weights + _recording(needs, *FORWARD),
        "step Jacobians": jacobians + _recording(needs, *SINGLE),
        "norms": norms + bool(needs.halved) * _recording(needs, ProductNorms),
        "products": products + _recording(needs, *(Products,) if needs.halved else (Products, ProductNorms)),
        "loss rows": rows + _recording(needs, LossRows),
        "lags": by_lag * (carried * 2 * m * k + pulled * 2 * weights) + _recording(needs, GradientByLag),
        "backward": backward + _recording(needs, *BACKWARD),
        "mitigations": needs.mitigating,
    }


def work(needs: Needs, again: int, rounds: int, written: int) -> dict[str, float]:
    """What the time of each stage is proportional to; the unit is about an operation.

    Operations, and what else grows differently from them as a run gets longer: steps that Python takes and
    numbers that are recorded. What is done again, for want of memory, counts as often as it is done: steps
    that are taken `again`, and step Jacobians for every one of `rounds`. `written`: bytes of data.
    """
    p, counted = needs.problem, flops(needs)
    pairs = p.pair_count * p.batch
    rows = _CALL * p.steps * p.batch + (_PAIR + _ROW * p.cell.state_size) * pairs
    more = {
        "forward": counted["forward"] * again / p.steps,
        "step Jacobians": counted["step Jacobians"] * (sum(_sweeps(needs, rounds)) - 1),
        "norms": _PAIR * pairs * bool(needs.halved) * needs.runs_of(ProductNorms),
        "products": len(needs.walked) * (_CALL * _tile_steps(needs) + _PAIR * pairs),
        "loss rows": needs.asks(LossRows) * needs.runs_of(LossRows) * rows,
        "lags": _CALL * needs.asks(GradientByLag) * needs.runs_of(GradientByLag) * (p.lags + 1),
        "mitigations": _CALL * p.steps * (needs.measures and needs.has_rule),
    }
    writing = float(written + _VARIABLE * len(needs.variables()))
    return {s: units + more.get(s, 0) for s, units in counted.items()} | {"writing": writing}


def recomputed_steps(needs: Needs, schedule: Schedule, rounds: int) -> int:
    """Steps that are taken again where not all are kept: for more step Jacobians, and on the way back."""
    first, second = _sweeps(needs, rounds)
    kept = first == 1 and needs.keeps_jacobians(effective=False) and not needs.shows_states
    changed = second - (second > 0 and kept)
    rule = needs.measures and needs.has_rule
    sweeps = max(0, first - 1) + changed + rule  # which goes forward, for the gradient of the readout
    ways = needs.asks(*BACKWARD, effective=False if rule else None) + needs.penalty_needs_adjoint
    if needs.penalty_needs_adjoint:  # a raw way back of its own, before the one of everything
        sweeps += not changed
    return sweeps * needs.problem.steps + ways * schedule.recomputed() * segment_length(needs.problem)


def _sweeps(needs: Needs, rounds: int) -> list[int]:
    """How often the run is gone through for step Jacobians: raw, which is the way forward, and effective."""
    effective = needs.asks(*FROM_JACOBIANS, effective=True)
    return [
        rounds if needs.keeps_jacobians(False) else 1,
        effective * (rounds if needs.keeps_jacobians(True) else 1),
    ]


def _recording(needs: Needs, *streams: type) -> float:
    return sum(cost for r, cost in needs.costs().items() if r.stream in streams)


def _tile_steps(needs: Needs) -> float:
    """Steps of all tiles, each of which Python takes."""
    p = needs.problem
    sources, batch = layout.tile_shape(p)
    sources = min(sources, p.sizes()["source"])
    return math.ceil(p.batch / batch) * (p.product_count / sources + p.sizes()["source"])

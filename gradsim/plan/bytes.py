"""What a run keeps in memory, and what each stage takes besides while it is at work.

The numbers of copies are those of NumPy's intermediate results, found by measuring.
"""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING

from gradsim.contracts.recorder import Contributions, Exponents, LossRows, ProductNorms, Products
from gradsim.engine import layout
from gradsim.engine.segments import granule_length, jacobian_length
from gradsim.engine.streams import ALONG_TIME, BACKWARD
from gradsim.plan.panels import jacobian_bytes

if TYPE_CHECKING:
    from gradsim.plan.plan import Plan

WORK_BYTES = 8 * 2**20
"""What any run takes: thread stacks, buffers, small arrays."""

STRETCH_BYTES = 4 * 2**20
"""A chunk of what is written along time."""

_TRACE_BYTES = 32 * 2**20
"""What a free derivative traces at a time."""

_PENALTY_COPIES = 80
"""Arrays like all states that a penalty on Jacobians makes, when it is differentiated."""

_WINDOW = 32
"""Steps of which Lyapunov exponents take products at once."""


def kept(plan: Plan) -> dict[str, int]:
    """The bytes of each array that stays, besides the tape."""
    p = plan.problem
    item = p.dtype.itemsize
    state = p.batch * p.cell.state_size * item
    whole = (p.steps + 1) * state
    matrices = plan.keeps_jacobians(False) + (
        plan.keeps_jacobians(True) and (plan.changes_jacobians or not plan.keeps_jacobians(False))
    )
    sizes = {v.name: v.bytes(p) for _, v in plan.variables()}
    chunks = [min(sizes[v.name], STRETCH_BYTES) for r, v in plan.variables() if r.stream in ALONG_TIME]
    found = {
        "inputs": p.steps * p.batch * (p.cell.input_size * item + 16),
        "states": whole * plan.needs_states,
        "losses by state": whole * plan.needs_direct,
        "adjoints": whole * plan.penalty_needs_adjoint,
        "step Jacobians": matrices and jacobian_bytes(plan, 0) * matrices,
        "open chunks": 2 * sum(chunks) * (not plan.in_memory),
    }
    return found | (sizes if plan.in_memory else {})


def at_work(plan: Plan) -> dict[str, int]:
    """The bytes of each stage while it is at work."""
    p = plan.problem
    length, item = granule_length(p), p.dtype.itemsize
    state, saved = (p.batch * size * item for size in (p.cell.state_size, p.cell.saved_size))
    params = sum(math.prod(s) for s in p.param_shapes.values()) * item
    matrices = 2 * jacobian_length(p) * state * p.block
    traced = 0 if p.cell.analytic("step_jacobian") else _TRACE_BYTES
    back = length * (8 * state + 2 * saved + 3 * params * plan.asks(Contributions))
    return {
        "forward": length * (6 * state + 2 * saved),
        "Jacobians": plan.makes_jacobians * (matrices + traced) + plan.asks(Exponents) * _exponents(plan),
        "norms": _norms(plan) if plan.halved else 0,
        "products": _products(plan) if plan.walked else 0,
        "loss rows": plan.asks(LossRows) * _rows(plan),
        "backward": plan.asks(*BACKWARD) * (back + plan.changes_jacobians * matrices),
        "penalty": plan.differentiates_jacobians * _PENALTY_COPIES * p.steps * state,
    }


def _jobs(count: int) -> int:
    return min(count, os.cpu_count() or 1)


def _exponents(plan: Plan) -> int:
    p = plan.problem
    return 4 * min(_WINDOW, jacobian_length(p)) * p.batch * p.cell.state_size * p.block * 8


def _recorded(plan: Plan, pairs: int) -> int:
    """Norms and their logarithms on the way to the sink."""
    return pairs * (32 if plan.in_memory else 48)


def _norms(plan: Plan) -> int:
    p = plan.problem
    pairs = plan.halved * (p.steps + 1) ** 2
    each = max(layout.halving_bytes(p), 12 * pairs + _recorded(plan, pairs))  # one after the other
    return _jobs(math.ceil(p.batch / plan.halved)) * each


def _products(plan: Plan) -> int:
    p, sizes = plan.problem, plan.problem.sizes()
    area, tile = layout.board_shape(p), layout.tile_shape(p)
    rows = sizes[next(d for d in p.pair_dims if d != "source")]
    count = math.ceil(sizes["source"] / area[0]) * math.ceil(p.batch / area[1])
    board = math.prod(area) * rows
    matrices = math.prod(tile) * p.cell.state_size * p.block * p.dtype.itemsize
    each = (12 * board + _recorded(plan, board)) * plan.asks(ProductNorms) + 4 * matrices
    written = layout.time_chunk(p) * matrices * plan.asks(Products) * (not plan.in_memory)
    return _jobs(count) * (each + 3 * written)


def _rows(plan: Plan) -> int:
    p = plan.problem
    one = (p.steps + 1) * p.cell.state_size * 8
    pairs = math.prod(p.sizes()[d] for d in p.pair_dims)
    return _jobs(p.batch) * (6 * one + 32 * pairs * (not plan.in_memory))

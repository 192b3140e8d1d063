"""What a run keeps in memory, and what each stage takes besides while it is at work.

The numbers of copies are those of NumPy's intermediate results, found by measuring.
"""

from __future__ import annotations

import functools
import math
import os

from gradsim.contracts.pieces import Contributions, Exponents, GradientByLag, LossRows, ProductNorms, Products
from gradsim.contracts.plugin import number_of
from gradsim.engine import layout
from gradsim.engine.lyapunov import WINDOW
from gradsim.engine.segments import jacobian_length, segment_length
from gradsim.engine.streams import BACKWARD
from gradsim.machine import accelerator
from gradsim.plan.chunks import open_bytes
from gradsim.plan.needs import Needs
from gradsim.plan.rounds import jacobian_bytes

_WORK_BYTES = 8 * 2**20
"""What any run takes: thread stacks, buffers, small arrays."""

_TRACE_BYTES = 32 * 2**20
"""What a free derivative traces at a time."""

_PENALTY_COPIES = 6
"""Arrays like all states that a penalty on what becomes of them makes, when it is differentiated."""

_JACOBIAN_COPIES = 2
"""Arrays like all step Jacobians that a penalty on them makes."""

_PIECES_BYTES = 8 * 2**20
"""What it takes to differentiate Jacobians, or what they do to adjoints, piece by piece."""

_OUTPUT_COPIES = 12
"""Arrays like the states of a segment that an output which is no block of the state makes."""


def least(needs: Needs) -> dict[str, int]:
    """The bytes of each thing that must fit into memory at one time, besides the tape: of the stages only
    the one that takes most, as they follow each other.
    """
    work = at_work(needs)
    stage = max(work, key=lambda name: work[name])
    return kept(needs) | {f"{stage} at work": work[stage], "work": _WORK_BYTES}


def kept(needs: Needs) -> dict[str, int]:
    """The bytes of each array that stays, besides the tape."""
    p = needs.problem
    item = p.dtype.itemsize
    state = p.batch * p.cell.state_size * item
    whole = (p.steps + 1) * state
    sizes = {v.name: v.bytes(p) for _, v in needs.variables()}
    found = {
        "inputs": p.steps * p.batch * (p.cell.input_size * item + 16),
        "states": whole * needs.needs_states,
        "losses by state": whole * needs.needs_direct,
        "adjoints": whole * needs.penalty_needs_adjoint,
        "step Jacobians": needs.kept_jacobians * jacobian_bytes(needs, room=0),
        "gradients by lag": needs.asks(GradientByLag) * needs.runs_of(GradientByLag) * _by_lag(needs),
        "open chunks": open_bytes(needs),
    }
    carried = {r.full_name: r.carried(p) for r in needs.recorders}
    if needs.measures:
        carried |= {m.name: math.ceil(number_of(m, "carry_bytes", p)) for m in needs.hooks.mitigations}
    carries = {f"what {name} carries": size for name, size in carried.items() if size}
    return found | carries | (sizes if needs.in_memory else {})


def at_work(needs: Needs) -> dict[str, int]:
    """The bytes of each stage while it is at work."""
    p = needs.problem
    length, item = segment_length(p), p.dtype.itemsize
    state, saved = (p.batch * size * item for size in (p.cell.state_size, p.cell.saved_size))
    params = sum(math.prod(s) for s in p.param_shapes.values()) * item
    matrices = 2 * jacobian_length(p) * state * p.block
    traced = 0 if p.cell.analytic("step_jacobian") else _TRACE_BYTES
    seen = p.cell.own_output * _OUTPUT_COPIES * p.batch * max(p.cell.state_size, p.cell.output_size) * item
    by_step = (3 + p.cell.own_output) * params * needs.asks(Contributions)
    back = length * (8 * state + seen + 2 * saved + by_step)
    return {
        "forward": length * (6 * state + seen + 2 * saved),
        "Jacobians": needs.makes_jacobians * (matrices + traced) + needs.asks(Exponents) * _exponents(needs),
        "norms": _norms(needs) if needs.halved else 0,
        "products": _products(needs) if needs.walked else 0,
        "loss rows": _rows(needs) if needs.asks(LossRows) else 0,
        "lags": needs.asks(GradientByLag) * (back + 4 * (p.steps + 1) * state + _by_lag(needs)),
        "backward": needs.asks(*BACKWARD) * (back + needs.changes_jacobians * matrices),
        "penalty": _penalty(needs),
    }


def _by_lag(needs: Needs) -> int:
    """The gradients of all recorded lags."""
    p = needs.problem
    return sum(math.prod(s) for s in p.param_shapes.values()) * p.sizes()["lag"] * p.dtype.itemsize


def _penalty(needs: Needs) -> int:
    """What a penalty makes of states and Jacobians when it is differentiated."""
    p = needs.problem
    states = p.steps * p.batch * p.cell.state_size * p.dtype.itemsize
    copies = needs.penalty_sees_states * _PENALTY_COPIES
    copies += needs.penalty_needs_jacobians * _JACOBIAN_COPIES * p.block
    return copies * states + (_PIECES_BYTES if copies else 0)


@functools.cache
def _cores() -> int:
    return os.cpu_count() or 1


def _jobs(count: int) -> int:
    return min(count, _cores())


def _exponents(needs: Needs) -> int:
    p = needs.problem
    return 4 * min(WINDOW, jacobian_length(p)) * p.batch * p.cell.state_size * p.block * 8


def _recorded(needs: Needs, pairs: int) -> int:
    """Norms and their logarithms on the way to the sink."""
    return pairs * (32 if needs.in_memory else 48)


def _norms(needs: Needs) -> int:
    """What makes norms, and then what they and their logarithms are on the way to the sink."""
    p = needs.problem
    pairs, jobs = needs.halved * (p.steps + 1) ** 2, _jobs(math.ceil(p.batch / needs.halved))
    quotients = layout.cumulating_bytes(p, jobs) if p.block <= 2 and accelerator.enabled() else 0
    joined = layout.joining_bytes(p, jobs) if p.block > 1 or not quotients else 0
    return max(quotients, joined, jobs * pairs * (18 if needs.in_memory else 64))


def _products(needs: Needs) -> int:
    p, sizes = needs.problem, needs.problem.sizes()
    job, tile = layout.job_shape(p), layout.tile_shape(p)
    rows = sizes[next(d for d in p.pair_dims if d != "source")]
    count = math.ceil(sizes["source"] / job[0]) * math.ceil(p.batch / job[1])
    norms = math.prod(job) * rows
    matrices = math.prod(tile) * p.cell.state_size * p.block * p.dtype.itemsize
    each = (12 * norms + _recorded(needs, norms)) * needs.asks(ProductNorms) + 4 * matrices
    written = layout.time_chunk(p) * matrices * needs.asks(Products) * (not needs.in_memory)
    return _jobs(count) * (each + 3 * written)


def _rows(needs: Needs) -> int:
    p = needs.problem
    one = (p.steps + 1) * p.cell.state_size * 8
    pairs = math.prod(p.sizes()[d] for d in p.pair_dims)
    return _jobs(p.batch) * (6 * one + 32 * pairs * (not needs.in_memory))

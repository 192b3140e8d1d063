"""How the variables of a run are cut into chunks: what a stage fills in one go is a union of whole ones."""

from __future__ import annotations

from gradsim.contracts.pieces import LossRows, ProductNorms, Products
from gradsim.contracts.recorder import Variable
from gradsim.engine import layout
from gradsim.engine.streams import ALONG_TIME
from gradsim.plan.needs import Needs

_BYTES = 4 * 2**20
"""A chunk of what is written along time: large enough for a disk, small beside what a run keeps."""


def chunks(needs: Needs) -> dict[str, dict[str, int]]:
    """The chunks of each variable, by dim; whole where a dim is missing."""
    p = needs.problem
    sources, batch = layout.tile_shape(p)
    in_time = {} if p.pair_dims[0] == "source" else {p.pair_dims[0]: layout.time_chunk(p)}
    every_pair = {d: p.sizes()[d] for d in p.pair_dims}
    job_sources, job_batch = layout.job_shape(p)
    norms = {**every_pair, "source": job_sources, "batch": job_batch}
    if needs.halved:
        norms = {**every_pair, "batch": needs.halved}
    by_stream: dict[type, dict[str, int]] = {
        Products: {"source": sources, "batch": batch, "lag": p.lags + 1, **in_time},
        ProductNorms: norms,
        LossRows: {"batch": 1},
    }
    return {v.name: by_stream.get(r.stream) or _along_time(needs, v) for r, v in needs.variables()}


def _along_time(needs: Needs, variable: Variable) -> dict[str, int]:
    """Chunks of what comes a few steps at a time; none of its own for what comes at once."""
    if not variable.dims or variable.dims[0] not in ("time", "step"):
        return {}
    length = needs.problem.sizes()[variable.dims[0]]
    return {variable.dims[0]: min(max(1, _BYTES * length // variable.bytes(needs.problem)), length)}


def open_bytes(needs: Needs) -> int:
    """What is held of chunks along time that are not full yet: up to two of each variable."""
    if needs.in_memory:
        return 0
    along_time = (v for r, v in needs.variables() if r.stream in ALONG_TIME)
    return 2 * sum(min(v.bytes(needs.problem), _BYTES) for v in along_time)

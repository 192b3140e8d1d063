"""The norms of all pairs of a run, by the way that suits its blocks, in jobs for several threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from gradsim.engine.layout import cumulated, parts
from gradsim.engine.norms.diagonal import Diagonal
from gradsim.engine.norms.tree import all_norms
from gradsim.machine import accelerator
from gradsim.machine.workers import Job
from gradsim.types import Array


def norm_jobs(
    blocks: Array,
    norms: Array,
    logs: Array,
    each: int,
    check: Callable[[], None] = lambda: None,
    done: Callable[[float], None] = lambda elements: None,
) -> Iterator[list[Job]]:
    """Jobs that write the norms of all P(t, k) and their log10, (time, source, batch); NaN for t < k.

    One list after the other; those of a list may run at one time. `blocks`: step Jacobians (step, batch, g,
    k, k), of which `each` elements at a time are joined by halving. Jobs call `check`, which may raise to
    leave, and say of how many batch elements they are `done`.
    """

    def joined(part: slice) -> None:
        all_norms(blocks[:, part], norms[..., part], logs[..., part], check)
        done(part.stop - part.start)

    steps, batch, groups, k, _ = blocks.shape
    kernels = accelerator.kernels("gradsim.engine.norms.diagonal_kernels") if k <= 2 else None
    if kernels is None:
        yield [partial(joined, part) for part in parts(slice(0, batch), each)]
        return
    for some in parts(slice(0, batch), cumulated(steps, batch, groups, each)):
        diagonal = Diagonal(kernels, blocks[:, some], norms[..., some], logs[..., some])
        yield diagonal.begun()
        if diagonal.fits.any():
            yield diagonal.filled(done)
        # Blocks of two that do not only rotate: element by element, as these may differ in that.
        yield [
            partial(joined, slice(some.start + b, some.start + b + 1)) for b in np.flatnonzero(~diagonal.fits)
        ]

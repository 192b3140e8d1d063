"""Clip the adjoint at the edges of chunks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Mitigation, hookimpl
from gradsim.types import PositiveFloat, PositiveInt, Probability
from gradsim_mitigations.clipping import shortened, sizes


@dataclass(frozen=True, eq=False)
class ClipChunkEdges(Mitigation):
    """Every k1 steps drop, shrink and cap the adjoint, block by block: a softer `truncate` with k1 = k2.

    At the times t = k1, 2 k1, ... < T, for each block v of the adjoint a_t of each batch element: v <- 0
    where ||v||_2 > threshold, and else v <- shrink v, rescaled to norm max_norm where that exceeds it. The
    loss at t itself is part of a_t. Not linear in the adjoint: there is no effective product.

    Yao (2022), Clip rnn gradients in a chunk-wise manner, pull request 560 of k2-fsa/icefall, for h and c of
    an LSTM, with shrink = 0.9; a reviewer there would take 0.5 for chunks of 10 steps. Known here from its
    discussion; that norms are those of batch elements is our reading.
    """

    name = "clip_chunk_edges"
    idle = {"threshold": 1e30, "shrink": 1.0, "max_norm": 1e30}

    k1: PositiveInt = 20
    threshold: PositiveFloat = 10.0
    shrink: Probability = 0.9
    max_norm: PositiveFloat = 1.0

    def draw(self, steps):
        return {"last": np.array(steps)}

    @hookimpl(wrapper=True)
    def gradsim_adjoint(self, trajectory, time, draws):
        adjoint = yield
        if not time or time % self.k1 or time >= draws[self]["last"]:
            return adjoint
        return np.concatenate([self._clipped(v) for v in trajectory.cell.split(adjoint)], axis=-1)

    def _clipped(self, block):
        size = sizes(block, -1)
        kept = shortened(self.shrink * block, self.shrink * size, self.max_norm)
        return np.where(size > self.threshold, 0, kept)

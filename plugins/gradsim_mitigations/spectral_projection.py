"""Singular values that are cut after each update."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import hookimpl
from gradsim.contracts.validation import refuse_reversed
from gradsim.types import NonNegativeFloat, PositiveFloat
from gradsim_mitigations.acting import OnWeights


@dataclass(frozen=True, eq=False)
class SpectralProjection(OnWeights):
    """After each update cut the singular values of each block W (n, n) to [least, limit].

    W = A diag(sigma) B^T <- A diag(clip(sigma, least, limit)) B^T is the nearest such matrix. With least =
    1 - m and limit = 1 + m it is a margin around the orthogonal matrices, and with both 1 the nearest
    orthogonal one. Nothing is changed where all singular values lie inside.

    Yoshida & Miyato (2017), Spectral norm regularization for improving the generalizability of deep learning,
    has a penalty on what is cut here; Zhang, Lei & Dhillon (2018), Stabilizing gradients for deep neural
    networks via efficient SVD parameterization, keep singular values of recurrent weights in such a range.
    """

    name = "spectral_projection"
    idle = {"limit": 1e30, "least": 0.0}

    limit: PositiveFloat = 1.0
    least: NonNegativeFloat = 0.0

    def __post_init__(self):
        super().__post_init__()
        refuse_reversed(self, "least", "limit")

    @hookimpl(wrapper=True)
    def gradsim_update(self, cell):
        params = yield
        return self.each_block(self._cut, cell, params)

    def _cut(self, w):
        left, sizes, right = np.linalg.svd(w)
        inside = (sizes >= self.least) & (sizes <= self.limit)
        cut = (left * np.clip(sizes, self.least, self.limit)[..., None, :]) @ right
        return np.where(inside.all(axis=-1)[..., None, None], w, cut)

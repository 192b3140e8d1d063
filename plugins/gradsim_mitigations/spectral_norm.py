"""Weights that are divided by their largest singular value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Cell, Derived, detach, hookimpl
from gradsim.types import PositiveFloat
from gradsim_mitigations.acting import OnWeights, by_square


@dataclass(frozen=True, eq=False)
class Normalised(Derived):
    """The cell that `SpectralNorm` makes: with limit W / sigma_max(W) in place of W."""

    name = "normalised"

    cell: Cell
    names: tuple[str, ...]
    limit: PositiveFloat

    def derive(self, own, inner, xp):
        return {n: by_square(lambda w: self._normalised(w, xp), inner[n], xp) for n in self.names}

    def _normalised(self, w, xp):
        left, _, right = xp.linalg.svd(detach(w), full_matrices=False)
        size = xp.sum(detach(left[:, :1] * right[:1, :]) * w)  # sigma_max, and its derivative
        return w * (self.limit / xp.where(size > 0, size, 1.0))


@dataclass(frozen=True, eq=False)
class SpectralNorm(OnWeights):
    """Let the cell see limit W / sigma_max(W) in place of each block W (n, n), whose gradient goes through.

    The derivative of sigma_max is u v^T, of the singular vectors that belong to it, so that the gradient is
    (limit / sigma_max) (G - (sum of G * W) / sigma_max u v^T), with G that of what the cell sees: W never
    grows along itself. A vanilla RNN with |phi'| <= 1 and limit <= 1 has no product of Jacobians that
    explodes. To cut W itself after each update see `spectral_projection`.

    Miyato, Kataoka, Koyama & Yoshida (2018), Spectral normalization for generative adversarial networks,
    eq. 8; with exact singular vectors in place of a power iteration.
    """

    name = "spectral_norm"

    limit: PositiveFloat = 1.0

    @hookimpl(wrapper=True)
    def gradsim_cell(self):
        cell = yield
        self.refuse_params(cell, cell.init_params(np.random.default_rng(0)))
        return Normalised(cell, self.acts_on(cell), self.limit)

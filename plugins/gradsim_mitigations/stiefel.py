"""Updates that keep weights orthogonal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import hookimpl
from gradsim_mitigations.acting import OnWeights, squares


@dataclass(frozen=True, eq=False)
class Stiefel(OnWeights):
    """Start each block W (n, n) orthogonal, and take each update of it along the orthogonal matrices.

    W <- (I + A / 2)^-1 (I - A / 2) W with A = D W^T - W D^T, where D is what the optimizer takes from W. The
    first factor is a Cayley transform and orthogonal, so that W stays as orthogonal as it was, to rounding.
    With plain gradient descent D = rate * G, and this is the step of the paper along the Stiefel manifold;
    any other optimizer gives its own direction. W starts at the nearest orthogonal matrix to what the cell
    draws; parameters that a run is given are taken as they are.

    Wisdom, Powers, Hershey, Le Roux & Atlas (2016), Full-capacity unitary recurrent neural networks; after
    Tagare (2011), Notes on optimization on Stiefel manifolds.
    """

    name = "stiefel"

    @hookimpl(wrapper=True)
    def gradsim_params(self, cell):
        params = yield
        self.refuse_params(cell, params)
        return self.each_block(_nearest, cell, params)

    @hookimpl(wrapper=True)
    def gradsim_update(self, cell, before):
        params = yield

        def along(name, new):
            w = squares(before[name])
            lost = (w - new) @ w.swapaxes(-1, -2)
            half, unit = 0.5 * (lost - lost.swapaxes(-1, -2)), np.eye(w.shape[-1], dtype=w.dtype)
            return np.linalg.solve(unit + half, (unit - half) @ w)

        moved = {n: along(n, squares(params[n])).reshape(params[n].shape) for n in self.acts_on(cell)}
        return params | moved


def _nearest(w):
    left, _, right = np.linalg.svd(w)
    return left @ right

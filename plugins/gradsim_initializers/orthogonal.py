"""Orthogonal weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Initializer


@dataclass(frozen=True, eq=False)
class Orthogonal(Initializer):
    """Q with orthonormal columns, or rows where there are fewer rows; uniform (Haar) over all such Q.

    A square Q keeps the length of every vector, and so does a product of them: P(t, k) of a linear network
    has the gain 1 at every lag. As eigenvalues: independent, uniform on the unit circle.

    Saxe, McClelland & Ganguli (2014), Exact solutions to the nonlinear dynamics of learning in deep
    linear neural networks; uniform Q as Mezzadri (2007), How to generate random matrices from the
    classical compact groups.
    """

    name = "orthogonal"

    def weight(self, rng, shape):
        r, n, columns = shape
        drawn = rng.standard_normal((r, max(n, columns), min(n, columns)))
        q, upper = np.linalg.qr(drawn)
        q *= np.sign(np.diagonal(upper, axis1=-2, axis2=-1))[:, None, :]
        return q if n >= columns else q.swapaxes(-1, -2)

    def eigenvalues(self, rng, n):
        return np.exp(2j * np.pi * rng.uniform(size=n))

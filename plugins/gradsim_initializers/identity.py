"""The identity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Initializer


@dataclass(frozen=True, eq=False)
class Identity(Initializer):
    """1 where row and column are the same, and 0 elsewhere; all eigenvalues are 1.

    With units that are linear where they are active, such as relu, the state, and the gradient, is kept.

    Le, Jaitly & Hinton (2015), A simple way to initialize recurrent networks of rectified linear units.
    """

    name = "identity"

    def weight(self, rng, shape):
        return np.broadcast_to(np.eye(*shape[1:]), shape).copy()

    def eigenvalues(self, rng, n):
        return np.ones(n, dtype=complex)

"""Eigenvalues of diagonal state spaces that remember by orthogonal polynomials."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from gradsim import Initializer
from gradsim.types import PositiveFloat


@dataclass(frozen=True, eq=False)
class HiPPO(Initializer):
    """lambda_k = exp(step A_k), with A_k = -1/2 + i pi k, or of the law that is asked for.

    k = 0 .. n - 1. `law`: "linear" is S4D-Lin; "inverse" is S4D-Inv, with
    A_k = -1/2 + i (n / pi) (n / (2k + 1) - 1). Both stand in for the eigenvalues of HiPPO-LegS. `step` is the
    time step: |lambda| = exp(-step / 2).

    Gu, Gupta, Goel & Re (2022), On the parameterization and initialization of diagonal state space models.
    """

    name = "hippo"

    law: Literal["linear", "inverse"] = "linear"
    step: PositiveFloat = 0.01

    def eigenvalues(self, rng, n):
        return np.exp(self.step * self.rates(rng, n))

    def rates(self, rng, n):
        """A, whatever the step."""
        k = np.arange(n)
        turns = np.pi * k if self.law == "linear" else n / np.pi * (n / (2 * k + 1) - 1)
        return -0.5 + 1j * turns

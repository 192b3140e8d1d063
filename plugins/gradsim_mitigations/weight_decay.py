"""Weight decay."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Penalty, hookimpl
from gradsim.types import NonNegativeFloat
from gradsim_mitigations.acting import OnParams


@dataclass(frozen=True, eq=False)
class WeightDecay(OnParams):
    """Add (l2 / 2) sum w^2 + l1 sum |w| to the loss.

    `names` says which parameters; by default all with two or more axes, the readout's included, which
    leaves biases alone. The derivative of |w| at 0 is taken as 0.

    Krogh & Hertz (1991), A simple weight decay can improve generalization (l2); Tibshirani (1996), Regression
    shrinkage and selection via the lasso (l1).
    """

    name = "weight_decay"
    idle = {"l2": 0.0, "l1": 0.0}

    l2: NonNegativeFloat = 1e-4
    l1: NonNegativeFloat = 0.0

    @hookimpl(wrapper=True)
    def gradsim_penalty(self, params):
        penalty = yield
        weights = {n: params[n] for n in self.acts_on({n: p.shape for n, p in params.items()})}
        value = sum(0.5 * self.l2 * np.sum(w * w) + self.l1 * np.sum(np.abs(w)) for w in weights.values())
        gradient = {n: self.l2 * w + self.l1 * np.sign(w) for n, w in weights.items()}
        return penalty + Penalty(float(value), gradient)

"""Truncation whose window changes over a training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Mitigation, hookimpl
from gradsim.types import PositiveInt


@dataclass(frozen=True, eq=False)
class TruncateAnnealed(Mitigation):
    """Carry each loss back through the last k steps, and let k go from `first` to `last` over a training.

    The loss at step s acts on the states s - k + 1, ..., s: `truncate` with k1 = 1 and k2 = k. At update u of
    U it is k = first + (last - first) (u - 1) / (U - 1), rounded; outside a training it is `first`. A growing
    window learns what is near before what is far, and spares a young network gradients that explode.
    """

    name = "truncate_annealed"
    idle = {"first": 10**9, "last": 10**9}

    first: PositiveInt = 1
    last: PositiveInt = 100

    @hookimpl(wrapper=True)
    def gradsim_jacobians(self, moment):
        jacobians = yield
        share = max(moment.update - 1, 0) / max(moment.updates - 1, 1)
        window = round(self.first + share * (self.last - self.first))
        return jacobians.reaching(np.array(jacobians.steps) - window + 1)

"""Gate biases for memories of many lengths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Gt

from gradsim import Initializer
from gradsim.errors import InputError


@dataclass(frozen=True, eq=False)
class Chrono(Initializer):
    """b = log u for gates that keep the state, -log u for those that admit something new, 0 elsewhere.

    u: uniform between 1 and longest - 1, one for each unit. A gate with the bias log u keeps the state for
    about 1 + u steps: f = u / (1 + u).

    Tallec & Ollivier (2018), Can recurrent neural networks warp time?, section 2.
    """

    name = "chrono"

    longest: Annotated[float, Gt(2)] = 100.0

    def bias(self, rng, shape, keeps):
        if keeps is None:
            return np.zeros(shape)
        if not any(keeps):
            raise InputError(f"{self!r}: the cell has no gate that keeps the state; leave it out")
        return np.multiply.outer(keeps, np.log(rng.uniform(1, self.longest - 1, shape[1])))

"""Biases of gates that keep the state."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Initializer
from gradsim.errors import InputError


@dataclass(frozen=True, eq=False)
class Forget(Initializer):
    """`value` for gates that keep the state, and 0 elsewhere.

    A gate with the bias b keeps f = 1 / (1 + exp(-b)) of the state at each step where it sees nothing else:
    0.731 at b = 1, of which half is left after log 2 / -log f = 2.2 steps. In a cell whose only such gate
    admits something new instead, that one has -`value`.

    Gers, Schmidhuber & Cummins (2000), Learning to forget: continual prediction with LSTM, section 4;
    Jozefowicz, Zaremba & Sutskever (2015), An empirical exploration of recurrent network architectures, who
    recommend 1.
    """

    name = "forget"

    value: float = 1.0

    def bias(self, rng, shape, keeps):
        if keeps is None:
            return np.zeros(shape)
        if not any(keeps):
            raise InputError(f"{self!r}: the cell has no gate that keeps the state; leave it out")
        sign = 1 if 1 in keeps else -1
        return np.outer([sign * self.value * (k == sign) for k in keeps], np.ones(shape[1]))

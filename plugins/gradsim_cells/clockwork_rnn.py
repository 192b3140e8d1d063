"""The clockwork recurrent network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim.errors import InputError
from gradsim.types import PositiveInt
from gradsim_cells.derived_weights import DerivedDense


@dataclass(frozen=True, eq=False)
class ClockworkRNN(DerivedDense):
    """h_t = tanh(W x_t + U h_{t-1} + b) for the modules whose period divides t - 1, h_{t-1} for the others.

    h: state (hidden_size = n), in as many modules as there are `periods`, one after the other and of one
    size as far as n allows. x: input. W (n, input_size) ~ N(0, 1 / input_size), U (n, n) ~ N(0, 1 / n),
    b (n) = 0. A module sees those of the same and of longer periods; the rest of U is not used, so that with
    rising periods it is block upper triangular.

    Rows of J_t are those of the identity where a module rests: the gradient of a module of period p passes
    one factor in p steps. The paper counts t from where the steps begin; here all modules act at the first.

    Koutnik, Greff, Gomez & Schmidhuber (2014), A clockwork RNN, section 3.
    """

    name = "clockwork_rnn"

    periods: tuple[PositiveInt, ...] = (1, 2, 4, 8)

    def __post_init__(self):
        super().__post_init__()
        if not 0 < len(self.periods) <= self.hidden_size:
            raise InputError(
                f"ClockworkRNN: periods={self.periods} should be one or more, and no more than "
                f"hidden_size={self.hidden_size}; each is that of a module"
            )

    @property
    def period(self):
        """That of each unit (n)."""
        n = self.hidden_size
        return np.asarray(self.periods)[np.arange(n) * len(self.periods) // n]

    @property
    def unused(self):
        return {"U": self.period[:, None] > self.period}

    def weights(self, params, xp):
        return {**params, "U": xp.where(xp.asarray(self.unused["U"]), 0.0, params["U"])}

    def unit(self, sums, old, xp, *, step_index):
        acts = (step_index[..., None] - 1) % xp.asarray(self.period) == 0
        return xp.where(acts, xp.tanh(sums[0]), old[0])

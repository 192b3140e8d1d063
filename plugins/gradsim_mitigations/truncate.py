"""Truncated backpropagation through time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Mitigation, hookimpl
from gradsim.contracts.validation import refuse_reversed
from gradsim.types import PositiveInt


@dataclass(frozen=True, eq=False)
class Truncate(Mitigation):
    """Every k1 steps, carry the losses of those steps back through the last k2 steps.

    The loss at step s belongs to the window that ends at e = min(k1 ceil(s / k1), T), and acts on
    the states e - k2 + 1, ..., s only: its effective product P(s, k) is zero for k <= e - k2. With
    k1 = k2 the sequence falls into chunks; with k1 = 1 each loss travels back exactly k2 steps.

    Williams & Peng (1990), An efficient gradient-based algorithm for on-line training of recurrent
    network trajectories, as BPTT(h; h') with h = k2 and h' = k1; the name TBPTT(k1, k2) is that of
    Sutskever (2013, thesis), section 2.8.6.
    """

    name = "truncate"
    idle = {"k1": 10**9, "k2": 10**9}

    k1: PositiveInt = 20
    k2: PositiveInt = 20

    def __post_init__(self):
        super().__post_init__()
        refuse_reversed(self, "k1", "k2", ", or some losses would be lost")

    def draw(self, steps):
        return {"last": np.array(steps)}  # from here, so that no run has to keep all states for it

    @hookimpl(wrapper=True)
    def gradsim_jacobians(self, draws):
        jacobians = yield
        ends = np.minimum(-(-np.array(jacobians.steps) // self.k1) * self.k1, draws[self]["last"])
        return jacobians.reaching(ends - self.k2 + 1)

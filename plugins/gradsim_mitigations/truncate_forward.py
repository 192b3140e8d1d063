"""Truncated forward mode."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Mitigation, hookimpl
from gradsim.contracts.validation import refuse_reversed
from gradsim.types import PositiveInt
from gradsim_mitigations.influence import Forward, influence_bytes, influence_flops


@dataclass(frozen=True, eq=False)
class TruncateForward(Mitigation):
    """Carry the influence of the parameters forward over the last k2 steps: `truncate` by forward mode.

    The loss at step s belongs to the window that ends at e = min(k1 ceil(s / k1), T), and
    M_s = J_s M_{s-1} + I_s starts from zero before step e - k2 + 1; the gradient is the sum of q_s M_s.
    Letters as in `rtrl`. With k1 = k2 the influence is forgotten every k1 steps, with k1 = 1 it is that of
    the last k2 steps at any time; k2 = T is `rtrl`.

    A window takes as much as `rtrl` over k2 steps, and one is made after the other.

    The windows are those of Williams & Peng (1990), An efficient gradient-based algorithm for on-line
    training of recurrent network trajectories, who go back through them; the gradient is the same.
    """

    name = "truncate_forward"

    k1: PositiveInt = 20
    k2: PositiveInt = 20

    def __post_init__(self):
        super().__post_init__()
        refuse_reversed(self, "k1", "k2", ", or some losses would be lost")

    def carry_bytes(self, problem):
        return influence_bytes(problem, problem.block)

    def flops(self, problem):
        ends = [min(start + self.k1, problem.steps) for start in range(0, problem.steps, self.k1)]
        return influence_flops(problem, problem.block, sum(min(end, self.k2) for end in ends))

    @hookimpl(wrapper=True)
    def gradsim_rule(self, trajectory, direct):
        yield
        forward, last = Forward(trajectory), trajectory.steps[-1]
        total = {n: np.zeros_like(p) for n, p in trajectory.params.items()}
        for start in range(0, last, self.k1):
            end = min(start + self.k1, last)
            own = direct[: end + 1].copy()
            own[: start + 1] = 0
            if own.any():
                found = forward.gradient(own, range(max(1, end - self.k2 + 1), end + 1))
                total = {n: total[n] + g for n, g in found.items()}
        return total

"""Synthetic gradients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Mitigation, hookimpl
from gradsim.types import NonNegativeFloat, PositiveInt
from gradsim_mitigations.costs import gradient_flops
from gradsim_mitigations.influence import plain


@dataclass(frozen=True, eq=False)
class DNI(Mitigation):
    """Go back through k steps only, and guess from the state what would come from beyond them: DNI.

    At the last state s_e of each k steps the adjoint starts as a_e = q_e + A z_e with z_e = (s_e, 1), and is
    carried back through those steps as always. A (m, m + 1) learns at each such e what it should have been,
    by one step against half the squared error, averaged over the batch: A <- A + `learning_rate`
    (b_e - A z_e) z_e, where b_e = a_{e+1} J_{e+1} comes back from the next k steps, which started from a
    guess themselves. At time T nothing lies beyond. Letters as in `rtrl`; a_t (m): dL/ds_t.

    A starts at 0, learns as the run goes on, and is remembered from update to update. Without learning it is
    `truncate` with k1 = k2 = `k`, if that divides T; with k >= T it is backpropagation. Biased by what no
    linear map of the state can tell. Learning is stable up to a rate of about 2 / mean ||z||^2.

    Jaderberg et al. (2017), Decoupled neural interfaces using synthetic gradients, section 2.1, whose guess
    is made by a network. The linear one is that of Czarnecki et al. (2017), and of Marschall, Cho & Savin
    (2020), who let A guess q_e as well, and show it the target.
    """

    name = "dni"

    k: PositiveInt = 1
    learning_rate: NonNegativeFloat = 0.01

    def carry_bytes(self, problem):
        return (problem.steps + 1) * problem.batch * problem.cell.state_size * problem.dtype.itemsize

    def flops(self, problem):
        guessed = 8 * (problem.steps // self.k) * problem.batch * problem.cell.state_size**2
        return guessed + 1.5 * gradient_flops(problem)

    @hookimpl(wrapper=True)
    def gradsim_rule(self, trajectory, direct, moment):
        yield
        taken, back = plain(trajectory)
        last, m = taken.steps[-1], direct.shape[-1]
        guess = moment.memory(self).get("guess", np.zeros((m, m + 1))).astype(direct.dtype)
        adjoints = direct.copy()
        for start in range(0, last, self.k):
            end = min(start + self.k, last)
            if end < last:
                adjoints[end] += _seen(taken, end) @ guess.T
            window = taken[range(start + 1, end + 1)]
            for t in range(end, start, -1):
                pulled = window.pull_one(t - start - 1, adjoints[t])
                if t - 1 > start:
                    adjoints[t - 1] += pulled
            if start:
                seen = _seen(taken, start)
                wrong = pulled - seen @ guess.T
                guess = guess + self.learning_rate / len(seen) * wrong.T @ seen
        moment.remember(self, guess=guess)
        return back(taken.gradient(adjoints[1:]))


def _seen(trajectory, time):
    """The state at this time and a one, (batch, m + 1)."""
    state = trajectory.states[time]
    return np.concatenate((state, np.ones_like(state[:, :1])), axis=1)

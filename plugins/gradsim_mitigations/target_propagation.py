"""Target propagation through time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Mitigation, hookimpl
from gradsim.types import NonNegativeFloat
from gradsim_mitigations.costs import gradient_flops, param_count
from gradsim_mitigations.influence import plain


@dataclass(frozen=True, eq=False)
class TargetPropagation(Mitigation):
    """Carry targets for the states back through a learned inverse of the steps, instead of adjoints: TPTT.

    If s_t should rather be s_t + d, then s_{t-1} should be s_{t-1} + G_s d, with an inverse of the step that
    is learned: s_{t-1} ~ G y_t with y_t = (s_t, x_t, 1), and G_s the columns (m, m) of G that see s_t. What a
    state should move by is down the loss: a_{t-1} = q_{t-1} + a_t G_s^T takes the place of the adjoint, and
    the gradient is the sum over t of a_t I_t. Letters as in `rtrl`; a_t, d (m).

    G (m, m + input_size + 1) starts at 0, learns at each step of the run, before targets go back, and is
    remembered from update to update: G <- G + `learning_rate` (p - G y) y, averaged over the batch, where y
    belongs to the state that the step makes of p = s_{t-1} + `noise` e with e ~ N(0, 1). Without learning it
    is `immediate`. The gradient is exact where the inverse of each step is its transpose, as in orthogonal
    recurrence, and biased elsewhere: where J forgets, G_s^T amplifies. Learning is stable up to a rate of
    about 2 / mean ||y||^2.

    Manchev & Spratling (2020), Target propagation in recurrent neural networks. There the one loss is the
    last, and G looks like the cell, tanh(V s_t + W x_t + c) with the W of the cell. With a linear G as here
    targets move in proportion to the first one, so that its size does not matter.
    """

    name = "target_propagation"

    learning_rate: NonNegativeFloat = 0.01
    noise: NonNegativeFloat = 0.0

    def draw(self, rng, steps, batch, cell):
        return {"noise": rng.standard_normal((steps, batch, cell.state_size))} if self.noise else {}

    def carry_bytes(self, problem):
        kept = 4 if self.noise else 2
        return kept * (problem.steps + 1) * problem.batch * problem.cell.state_size * problem.dtype.itemsize

    def flops(self, problem):
        m = problem.cell.state_size
        learning = 4 * m * (m + problem.cell.input_size + 1)
        each = learning + 2 * m**2 + (2 * param_count(problem) if self.noise else 0)
        return problem.steps * problem.batch * each + gradient_flops(problem)

    @hookimpl(wrapper=True)
    def gradsim_rule(self, trajectory, direct, draws, moment):
        yield
        taken, back = plain(trajectory)
        m, before, after = direct.shape[-1], taken.before, taken.after
        if self.noise:
            before = before + self.noise * draws[self]["noise"].astype(direct.dtype)
            after = taken.cell.step(taken.params, before, taken.inputs, np, **taken.step_data)
        seen = np.concatenate((after, taken.inputs, np.ones_like(after[..., :1])), axis=-1)
        inverse = moment.memory(self).get("inverse", np.zeros((m, seen.shape[-1]))).astype(direct.dtype)
        for old, y in zip(before, seen, strict=True):
            inverse = inverse + self.learning_rate / len(y) * (old - y @ inverse.T).T @ y
        moment.remember(self, inverse=inverse)
        adjoints = direct.copy()
        for t in reversed(taken.steps):
            adjoints[t - 1] += adjoints[t] @ inverse[:, :m].T
        return back(taken.gradient(adjoints[1:]))

"""The penalty Omega on how the adjoint changes its norm from step to step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from gradsim import Mitigation, Penalty, hookimpl
from gradsim.types import NonNegativeFloat
from gradsim_mitigations.costs import param_count, positions_flops
from gradsim_mitigations.parts import parts

_SMALLEST = 1e-10


@dataclass(frozen=True, eq=False)
class JacobianPenalty(Mitigation):
    """Add weight * Omega to the loss, which keeps the norm of the adjoint from step to step.

    With a_t the adjoint dL/ds_t and rho_t = ||a_t J_t|| / ||a_t||, for t = 1..T:

    - form "ratio": Omega = sum over t of (rho_t - 1)^2, eq. 9 of the paper;
    - form "squared_ratio": Omega = sum over t of (rho_t^2 - 1)^2, as in its eq. 10 and its code.

    Both are averaged over the batch; terms with ||a_t||^2 < 1e-20 do not count. The gradient is the
    immediate one of the paper: adjoints and states are held fixed and only J_t depends on the
    parameters.

    Pascanu, Mikolov & Bengio (2013), On the difficulty of training recurrent neural networks,
    section 3.3.
    """

    name = "jacobian_penalty"
    idle = {"weight": 0.0}

    weight: NonNegativeFloat = 1.0
    form: Literal["ratio", "squared_ratio"] = "ratio"

    def flops(self, problem):
        return positions_flops(problem, 14 * param_count(problem))

    @hookimpl(wrapper=True)
    def gradsim_penalty(self, trajectory, adjoint):
        penalty = yield
        scale = self.weight / adjoint.shape[1]
        for part in parts(trajectory):
            penalty = penalty + scale * self._omega(part, adjoint[part.steps.start : part.steps.stop])
        return penalty

    def _omega(self, part, a):
        """That of some steps, of the adjoints after them, summed over the batch."""
        top = np.max(np.abs(a), axis=-1, keepdims=True)
        a = a / np.where(top > 0, top, 1)  # rho is that of any multiple, and squares stay in range
        carried = part.call(part.cell.state_vjp, a)
        square = _square(a)
        counts = top * np.sqrt(square) >= _SMALLEST
        ratio = np.sqrt(np.divide(_square(carried), square, out=np.ones_like(square), where=counts))
        if self.form == "ratio":
            terms, slope = (ratio - 1) ** 2, 2 * (ratio - 1)
        else:
            terms, slope = (ratio**2 - 1) ** 2, 4 * ratio * (ratio**2 - 1)
        # d rho = (a dJ) . (a J) / (||a||^2 rho), so dOmega/dJ = outer(a, pull) with
        moving = counts & (ratio > 0)
        pull = carried * np.divide(slope, square * ratio, out=np.zeros_like(ratio), where=moving)
        gradient, _ = part.call(part.cell.bilinear_vjp, a[None], pull[None])
        return Penalty(float(terms.sum()), gradient)


def _square(x):
    """||x||^2 of vectors (..., m), shape (..., 1); einsum makes no array of squares."""
    return np.einsum("...i,...i->...", x, x)[..., None]

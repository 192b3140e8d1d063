"""Immediate derivatives only."""

from __future__ import annotations

from dataclasses import dataclass

from gradsim import Mitigation, hookimpl
from gradsim_mitigations.costs import gradient_flops


@dataclass(frozen=True, eq=False)
class Immediate(Mitigation):
    """Let parameters answer for the step that they have just taken part in, and for none before.

    The gradient is the sum over t of q_t I_t, with q_t = dL_t/ds_t (m) and I_t (m, P) the derivative of s_t
    with respect to the P parameters at a fixed s_{t-1}: `rtrl` with J = 0, and `truncate` with k1 = k2 = 1.
    Costs one pull through each step, and carries nothing. Where losses are rare most steps are not learnt
    from at all.

    Shalev-Merin (2026), Temporal credit is free, arXiv:2603.28750, who finds it enough to adapt online, if
    gradients are scaled by parameter, as `rmsprop` does. Known here from the abstract.
    """

    name = "immediate"

    def flops(self, problem):
        return gradient_flops(problem)

    @hookimpl(wrapper=True)
    def gradsim_rule(self, trajectory, direct):
        yield
        return trajectory.gradient(direct[1:])

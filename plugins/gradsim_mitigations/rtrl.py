"""Real-time recurrent learning."""

from __future__ import annotations

from dataclasses import dataclass

from gradsim import Mitigation, hookimpl
from gradsim_mitigations.influence import Forward, influence_bytes, influence_flops


@dataclass(frozen=True, eq=False)
class RTRL(Mitigation):
    """Carry the influence of the parameters forward, instead of adjoints back: the exact gradient.

    M_t = J_t M_{t-1} + I_t from M_0 = 0, and dL/dparams = sum over t of q_t M_t. M_t (m, P): ds_t/dparams of
    all P parameters; J_t (m, m): the step Jacobian; I_t (m, P): ds_t/dparams at a fixed s_{t-1}; q_t (m):
    dL_t/ds_t, penalties on states included. In place of the backward pass: the same numbers to rounding.

    Kept of M is what is not zero all along the run. Dense cells take m P numbers and m^2 P operations a step
    and batch element, which is n^3 and n^4 for n units; diagonal ones k P and k^2 P, with k x k blocks in J;
    in a stack, parameters of a layer act on that and those above.

    Williams & Zipser (1989), A learning algorithm for continually running fully recurrent neural networks.
    """

    name = "rtrl"

    def carry_bytes(self, problem):
        return influence_bytes(problem, problem.block)

    def flops(self, problem):
        return influence_flops(problem, problem.block)

    @hookimpl(wrapper=True)
    def gradsim_rule(self, trajectory, direct):
        yield
        return Forward(trajectory).gradient(direct)

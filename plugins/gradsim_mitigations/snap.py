"""The sparse n-step approximation of real-time recurrent learning."""

from __future__ import annotations

from dataclasses import dataclass

from gradsim import Mitigation, hookimpl
from gradsim.types import PositiveInt
from gradsim_mitigations.influence import Forward, influence_bytes, influence_flops


@dataclass(frozen=True, eq=False)
class SnAp(Mitigation):
    """Carry forward only the influence on what a parameter reaches within n steps: SnAp-n.

    M_t = (J_t M_{t-1} + I_t) masked, and the gradient is the sum over t of q_t M_t; letters as in `rtrl`.
    The mask keeps the entries of (1 + J + ... + J^{n-1}) I that can be other than zero: J and I by which
    of their entries are ever other than zero in the run. With n = 1 that is what a parameter acts on in its
    own step: its own unit in an Elman cell, h or both h and c of that in an LSTM, and more where weights act
    behind others, as those of a reset gate before U, or of a lower layer. Where J falls into groups, a group
    counts as one component, as the two parts of a complex number.

    Exact for n = 1 if J is diagonal, or if there is one component; and for an n with which all is reached
    that ever will be. Otherwise it drops paths that leave the mask, even if they come back.

    With n = 1 an Elman cell takes P numbers and operations a step and batch element; from n = 2 on, a cell
    with a dense J takes what `rtrl` does.

    Menick, Elsen, Evci, Osindero, Simonyan & Graves (2021), Practical real time recurrent learning with a
    sparse approximation to the Jacobian.
    """

    name = "snap"

    n: PositiveInt = 1

    def carry_bytes(self, problem):
        return influence_bytes(problem, self._rows(problem))

    def flops(self, problem):
        return influence_flops(problem, self._rows(problem))

    def _rows(self, problem):
        return min(len(problem.cell.blocks), problem.block) if self.n == 1 else problem.block

    @hookimpl(wrapper=True)
    def gradsim_rule(self, trajectory, direct):
        yield
        return Forward(trajectory, depth=self.n).gradient(direct)

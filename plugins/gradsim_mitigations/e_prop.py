"""Eligibility propagation."""

from __future__ import annotations

from dataclasses import dataclass

from gradsim_mitigations.feedback import WithinUnits
from gradsim_mitigations.influence import Forward, own_unit


@dataclass(frozen=True, eq=False)
class EProp(WithinUnits):
    """Carry the influence of the parameters forward within units, and none from one to another: e-prop.

    M_t = D_t M_{t-1} + I_t, and the gradient is the sum over t of q_t M_t; letters as in `rtrl`. D_t: of J_t,
    what leads from components of a unit to those of the same. M_t holds the eligibility traces, q_t the
    learning signals.

    A unit is what lies at one place of all blocks of one size, such as h_j and c_j of an LSTM, layer by
    layer; where J falls into groups, D = J. Exact where J does not mix units, or if there is one unit.

    Bellec et al. split the state of a unit into what it keeps and what others see of it, and D is the
    derivative of the first by itself: for an LSTM, that of c_j by c_j at fixed h. Here D has what comes back
    to a unit through its own recurrent weight besides. With ``feedback="random"`` errors reach the state by
    fixed random weights B instead of those of the readout ("random e-prop"): q_t = e_t B do_t/ds_t, with
    e_t = dL_t/dy_t and o_t what the readout sees of s_t.

    Takes k P numbers and k^2 P operations a step and batch element, with k components to a unit, as long as a
    parameter acts on its own unit only.

    Bellec et al. (2020), A solution to the learning dilemma for recurrent networks of spiking neurons,
    eq. 14.
    """

    name = "e_prop"

    def forward(self, trajectory):
        return Forward(trajectory, own_unit(trajectory.cell))

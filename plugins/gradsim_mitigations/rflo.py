"""Random feedback local online learning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Interval

from gradsim_mitigations.feedback import WithinUnits
from gradsim_mitigations.influence import Forward, own_unit


@dataclass(frozen=True, eq=False)
class RFLO(WithinUnits):
    """Let the influence of the parameters leak away, as the state of each unit would by itself: RFLO.

    M_t = (1 - a) M_{t-1} + I_t with a = `leak`, and the gradient is the sum over t of q_t M_t; letters as in
    `rtrl`. Made for h_t = (1 - a) h_{t-1} + a phi(U h_{t-1} + W x_t), J_t = (1 - a) I + a diag(phi') U, of
    which it drops all that is due to U: give the a of the cell. For other cells, which need not leak, `leak`
    None takes what J_t leads from each unit to itself, as `e_prop` does.

    With ``feedback="random"`` as in the paper, errors reach the state by fixed random weights B instead of
    those of the readout: q_t = e_t B do_t/ds_t, with e_t = dL_t/dy_t and o_t what the readout sees of s_t.

    With a leak it takes P numbers and operations a step and batch element where a parameter acts on its own
    unit only.

    Murray (2019), Local online learning in recurrent networks with random feedback.
    """

    name = "rflo"

    leak: Annotated[float, Interval(gt=0, le=1)] | None = None

    def forward(self, trajectory):
        if self.leak is None:
            return Forward(trajectory, own_unit(trajectory.cell))
        return Forward(trajectory, jacobian=self._leaking)

    def _leaking(self, trajectory):
        after = trajectory.after
        return np.full((*after.shape, 1, 1), 1 - self.leak, dtype=after.dtype)

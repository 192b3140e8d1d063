"""Recorders written from outside: one that takes the raw and the effective piece together."""

from __future__ import annotations

import numpy as np

from gradsim import Recorder, Variable
from gradsim.contracts.pieces import Adjoints, Contributions


class AdjointGap(Recorder):
    """The effective adjoint less the raw one."""

    name = "loops_gap"
    stream = Adjoints
    both = True

    def variables(self, problem):
        return (Variable("loops_gap", ("time", "batch", "component"), "effective less raw adjoint"),)

    def compute(self, piece):
        return {"loops_gap": piece.effective.adjoint.value - piece.raw.adjoint.value}


class SumSoFar(Recorder):
    """The sum of the contributions from the last step back to each, over all components of all parameters."""

    name = "loops_sum"
    stream = Contributions

    def variables(self, problem):
        return (Variable("loops_sum", ("step",), "sum of the contributions so far", dtype="float64"),)

    def start(self, problem):
        return [0.0]

    def compute(self, piece, carry):
        steps = len(piece.trajectory.steps)
        found = np.zeros(steps)
        for part in piece.parts.values():
            found += part.value.reshape(steps, -1).sum(axis=1, dtype=np.float64)
        found = carry[0] + np.cumsum(found[::-1])[::-1]
        carry[0] = found[0]
        return {"loops_sum": found}

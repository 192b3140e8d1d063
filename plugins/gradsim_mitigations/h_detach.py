"""Truncation of some paths at random steps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Mitigation, hookimpl
from gradsim.contracts.trajectory import step_rows
from gradsim.errors import InputError
from gradsim.types import Probability


@dataclass(frozen=True, eq=False)
class HDetach(Mitigation):
    """At random steps let the adjoint go back through the carry alone, and not through gates and candidates.

    With the chance `probability` at each step of each sequence, J_t is replaced by its share of the direct
    path, all others of the `paths` of the cell closed: in an LSTM what c_{t-1} does for c_t and h_t with all
    gates held fixed, so that nothing passes through h_{t-1}. The gradient is biased towards long lags, which
    the carry leads to.

    Arpit, Kanuparthi, Kerg, Ke, Mitliagkas & Bengio (2019), h-detach: modifying the LSTM gradient towards
    better optimization, for an LSTM, where all sequences of a batch are detached at the same steps.
    """

    name = "h_detach"
    idle = {"probability": 0.0}

    probability: Probability = 0.25

    def refuse(self, cell):
        if not cell.paths:
            raise InputError(f"h_detach: {cell.name} names no paths that could be closed beside a direct one")

    def draw(self, rng, steps, batch):
        return {"detached": rng.random((steps, batch)) < self.probability}

    @hookimpl(wrapper=True)
    def gradsim_jacobians(self, trajectory, draws):
        jacobians = yield
        detached = draws[self]["detached"][step_rows(jacobians.steps)][..., None, None, None]
        if not detached.any():
            return jacobians
        direct = trajectory.call(trajectory.cell.path_jacobians)["direct"]
        return jacobians.changed(lambda blocks: np.where(detached, direct, blocks))

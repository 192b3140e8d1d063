"""Truncation at random steps, without bias."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Gt

from gradsim import Mitigation, hookimpl
from gradsim.contracts.trajectory import step_rows


@dataclass(frozen=True, eq=False)
class ARTBP(Mitigation):
    """Cut the adjoint at random steps and scale it up at the others, so that its mean is the exact one.

    a_{t-1} = q_{t-1} + (0 if step t is cut, else a_t J_t / (1 - c_t)), with q_t = dL_t/ds_t; each sequence of
    the batch is cut by itself. With `length` the mean number of steps between cuts and l >= 1 the steps since
    the last one, or since the start, step t is cut with probability

    - c_t = (alpha - 1) / ((alpha - 2) length + l), for which these numbers have a tail like l^-alpha: now and
      then a loss is carried far back;
    - c_t = 1 / length at any time, without `alpha`, for which large ones are exponentially rare.

    The gradient is unbiased for any c_t < 1 that depends on earlier cuts alone, unless something beside it is
    not linear in the adjoint; its variance grows with the factors.

    Tallec & Ollivier (2017), Unbiasing truncated backpropagation through time: anticipated reweighted
    truncated backpropagation. Known here from the abstract; the tests enumerate all cuts to
    see that the gradient has no bias, and sum up the mean number of steps.
    """

    name = "artbp"
    idle = {"length": 1e300}

    length: Annotated[float, Gt(1)] = 20.0
    alpha: Annotated[float, Gt(2)] | None = 4.0

    def draw(self, rng, steps, batch):
        chances, since = rng.random((steps, batch)), np.ones(batch)
        carried = np.empty((steps, batch))
        for t, chance in enumerate(chances):
            cut = self._probability(since)
            carried[t] = np.where(chance < cut, 0, 1 / (1 - cut))
            since = np.where(chance < cut, 1, since + 1)
        return {"carried": carried}

    def _probability(self, since):
        """That of a cut, at steps so many after the last one."""
        if self.alpha is None:
            return np.full(since.shape, 1 / self.length)
        tail = 1 / (self.alpha - 2)
        return (1 + tail) / (self.length + tail * since)

    @hookimpl(wrapper=True)
    def gradsim_jacobians(self, draws):
        jacobians = yield
        carried = draws[self]["carried"][step_rows(jacobians.steps)][..., None, None, None]
        return jacobians.changed(lambda blocks: carried * blocks)

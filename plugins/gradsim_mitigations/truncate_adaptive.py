"""Truncation that keeps the bias of the gradient below a bound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Interval

from gradsim import Mitigation, Pairs, hookimpl
from gradsim.types import NonNegativeFloat, NonNegativeInt, PositiveInt


@dataclass(frozen=True, eq=False)
class TruncateAdaptive(Mitigation):
    """Carry each loss back through the fewest steps K whose estimated relative bias is at most `delta`.

    A window of K steps keeps the lags k < K of phi_k = ||dL_s/ds_{s-k}||_2, summed over the losses s and
    averaged over the batch, which is measured for k < R = `longest`. Where ds_t/dparams at a fixed s_{t-1} is
    at most M in norm, what it drops of the gradient is at most M E(K), with E(K) = rest + sum over K <= k < R
    of phi_k; relative to the gradient that is about E(K) / (sum over k < R of phi_k - rest). In rest are the
    lags from R on, if the run has such: phi_{R-1} beta / (1 - beta), with beta the slowest decay from lag
    `onset` on, max over k of (phi_k / phi_onset)^(1 / (k - onset)). Where beta >= 1, or no K will do, K = R.
    Over updates phi is averaged, with weights that fall by `memory` an update; a simulation takes its own.

    The bound is theorem 1 of the paper; relative to the gradient it is an estimate, as sums of norms stand
    for the norm of a sum, which the code of the authors offers too.

    Aicher, Foti & Fox (2019), Adaptively truncating backpropagation through time to control gradient bias;
    beta by the "max" of their code, which has a regression as well.
    """

    name = "truncate_adaptive"
    idle = {"delta": 0.0, "longest": 10**9}
    requires = ("loss_adjoint_norm",)

    delta: NonNegativeFloat = 0.1
    longest: PositiveInt = 100
    onset: NonNegativeInt = 0
    memory: Annotated[float, Interval(ge=0, lt=1)] = 0.9

    @property
    def required_pairs(self):
        return Pairs(max_lag=self.longest - 1)

    def draw(self, steps):
        return {"steps": np.array(steps)}

    @hookimpl(wrapper=True)
    def gradsim_jacobians(self, measured, draws, moment):
        jacobians = yield
        phi = np.nansum(measured[self]["loss_adjoint_norm"], axis=0).mean(axis=-1)
        before = moment.memory(self).get("phi", phi)
        if np.isfinite(before).all():  # or one update that leaves the range would count for good
            phi = phi + self.memory * (before - phi)
        moment.remember(self, phi=phi)
        window = self._window(phi, whole=len(phi) > draws[self]["steps"])
        return jacobians.reaching(np.array(jacobians.steps) - window + 1)

    def _window(self, phi, whole):
        rest = 0.0 if whole else self._rest(phi)
        dropped = np.append(np.cumsum(phi[::-1])[::-1], 0.0)[1:] + rest
        small = np.flatnonzero(dropped <= self.delta * (phi.sum() - rest))
        return int(small[0]) + 1 if len(small) else len(phi)

    def _rest(self, phi):
        """A bound on the sum of phi over the lags that are not measured."""
        if phi[-1] == 0:
            return 0.0
        later = phi[self.onset + 1 :]
        if not len(later) or phi[self.onset] == 0:
            return np.inf
        beta = np.max((later / phi[self.onset]) ** (1 / np.arange(1, len(later) + 1)))
        return phi[-1] * beta / (1 - beta) if beta < 1 else np.inf

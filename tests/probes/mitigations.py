"""Mitigations written as somebody outside would, each with nothing but its mathematics."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Mitigation, Pairs, Penalty, hookimpl


@dataclass(frozen=True, eq=False)
class AnnealedForcing(Mitigation):
    """Teacher forcing that fades out: the share of the target in `force` falls from 1 to 0."""

    name = "annealed_forcing"

    @hookimpl(wrapper=True)
    def gradsim_step_data(self, moment):
        data = yield
        share = 0.0 if moment.validating else 1 - moment.update / max(1, moment.updates)
        return {**data, "force": np.full(data["step_index"].shape, share)}


@dataclass(frozen=True, eq=False)
class UnitGain(Mitigation):
    """Divide step Jacobians by their mean gain over the run, measured at lag 1."""

    name = "unit_gain"
    requires = ("product_norm",)

    @property
    def required_pairs(self):
        return Pairs(lags=(1,))

    @hookimpl(wrapper=True)
    def gradsim_jacobians(self, trajectory, measured):
        jacobians = yield
        gain = float(np.nanmean(measured[self]["product_norm"])) / trajectory.cell.state_size**0.5
        return jacobians.changed(lambda blocks: blocks / (gain or 1))


@dataclass(frozen=True, eq=False)
class SteadyNorm(Mitigation):
    """Add beta / T sum (||s_t|| - ||s_{t-1}||)^2 to the loss, as a function of the states."""

    name = "steady_norm"

    beta: float = 1.0

    @hookimpl(wrapper=True)
    def gradsim_penalty(self, trajectory):
        penalty = yield
        batch, steps = trajectory.inputs.shape[1], len(trajectory.steps)

        def steady(params, states, xp):
            size = xp.sqrt(xp.sum(states * states, axis=-1) + 1e-12)
            return self.beta / (batch * steps) * xp.sum((size[1:] - size[:-1]) ** 2)

        return penalty + Penalty.of(steady, trajectory.params, trajectory.states)


@dataclass(frozen=True, eq=False)
class SmallJacobians(Mitigation):
    """Add (weight / 2) sum ||J_t||_F^2, averaged over the batch, to the loss, as a function of Jacobians."""

    name = "small_jacobians"

    weight: float = 1.0

    @hookimpl(wrapper=True)
    def gradsim_penalty(self, trajectory, jacobians):
        penalty = yield
        scale = 0.5 * self.weight / trajectory.inputs.shape[1]
        squares = Penalty.of_jacobians(lambda blocks, xp: xp.sum(blocks**2), trajectory, jacobians)
        return penalty + scale * squares

"""Mitigations written as somebody outside would, each with nothing but its mathematics."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Mitigation, Pairs, Penalty, hookimpl
from gradsim.contracts.trajectory import step_rows


@dataclass(frozen=True, eq=False)
class AutoClip(Mitigation):
    """Clip the gradient to a percentile of its norms so far (Seetharaman et al. 2020)."""

    name = "auto_clip"

    percentile: float = 10.0

    @hookimpl(wrapper=True)
    def gradsim_gradient(self, moment):
        gradient = yield
        norm = np.sqrt(sum(np.sum(g * g) for g in gradient.values()))
        norms = np.append(moment.memory(self).get("norms", []), norm)
        moment.remember(self, norms=norms)
        scale = min(1.0, np.percentile(norms, self.percentile) / norm) if norm else 1.0
        return {n: (scale * g).astype(g.dtype) for n, g in gradient.items()}


@dataclass(frozen=True, eq=False)
class AnnealedTruncation(Mitigation):
    """Each loss reaches back `first` steps at the first update, and linearly more up to `last`."""

    name = "annealed_truncation"

    first: int = 1
    last: int = 10

    @hookimpl(wrapper=True)
    def gradsim_jacobians(self, moment):
        jacobians = yield
        share = moment.update / max(1, moment.updates)
        reach = round(self.first + share * (self.last - self.first))
        return jacobians.reaching(np.array(jacobians.steps) - reach + 1)


@dataclass(frozen=True, eq=False)
class ClipContributions(Mitigation):
    """Rescale what each step adds to the gradient of a parameter to at most `limit`."""

    name = "clip_contributions"

    limit: float = 0.1

    @hookimpl(wrapper=True)
    def gradsim_contributions(self):
        contributions = yield
        found = {}
        for n, by_step in contributions.items():
            size = np.sqrt(np.sum(by_step * by_step, axis=tuple(range(1, by_step.ndim)), keepdims=True))
            scale = self.limit / np.maximum(size, self.limit)
            found[n] = (by_step * scale).astype(by_step.dtype)
        return found


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
        return jacobians.changed(lambda blocks: blocks / gain)


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


@dataclass(frozen=True, eq=False)
class DetachHidden(Mitigation):
    """h-detach: at random steps the adjoint goes back through the carry alone (Kanuparthi et al. 2019)."""

    name = "detach_hidden"

    probability: float = 0.5

    def draw(self, rng, steps):
        return {"detached": rng.random(steps) < self.probability}

    @hookimpl(wrapper=True)
    def gradsim_jacobians(self, trajectory, draws):
        jacobians = yield
        direct = trajectory.call(trajectory.cell.path_jacobians)["direct"]
        detached = draws[self]["detached"][step_rows(jacobians.steps)][:, None, None, None, None]
        return jacobians.changed(lambda blocks: np.where(detached, direct, blocks))

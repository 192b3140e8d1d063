"""A penalty on states whose norm changes from step to step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Penalty, hookimpl
from gradsim.types import NonNegativeFloat
from gradsim_mitigations.acting import OnBlocks


@dataclass(frozen=True, eq=False)
class NormStabiliser(OnBlocks):
    """Add (weight / T) sum over t of (||h_t|| - ||h_{t-1}||)^2, averaged over the batch, to the loss.

    h are the `blocks` of the state, by default those that a readout sees. The slope of a norm at h = 0 is
    taken as 0.

    Krueger & Memisevic (2016), Regularizing RNNs by stabilizing activations, with weights of 50 to 500
    (there beta).
    """

    name = "norm_stabiliser"
    idle = {"weight": 0.0}

    weight: NonNegativeFloat = 1.0

    @hookimpl(wrapper=True)
    def gradsim_penalty(self, trajectory):
        penalty = yield
        units = self.units(trajectory.cell)
        h = trajectory.states[..., units]
        size = np.linalg.norm(h, axis=-1, keepdims=True)
        change = np.diff(size, axis=0)
        scale = self.weight / (len(change) * change.shape[1])
        slope = np.zeros_like(size)
        slope[1:] += 2 * scale * change
        slope[:-1] -= 2 * scale * change
        states = np.zeros_like(trajectory.states)
        states[..., units] = h * np.divide(slope, size, out=np.zeros_like(size), where=size > 0)
        return penalty + Penalty(float(scale * np.sum(change**2)), {}, states)

"""Penalties on large states, and on states that change fast."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Penalty, hookimpl
from gradsim.types import NonNegativeFloat
from gradsim_mitigations.acting import OnBlocks


@dataclass(frozen=True, eq=False)
class Activity(OnBlocks):
    """Add weight * mean of h_t^2 and temporal_weight * mean of (h_t - h_{t-1})^2 to the loss.

    h are the `blocks` of the state, by default those that a readout sees; the means are over the steps
    1..T, the batch and the units, and h_0 is the initial state.

    Merity, McCann & Socher (2017), Revisiting activation regularization for language RNNs, with
    weights of about 2 and 1 (there alpha and beta). They write norms; the mean squares are those of their
    code, where what is penalised first is the output after dropout, and changes count from h_1.
    """

    name = "activity"
    idle = {"weight": 0.0, "temporal_weight": 0.0}

    weight: NonNegativeFloat = 1.0
    temporal_weight: NonNegativeFloat = 0.0

    @hookimpl(wrapper=True)
    def gradsim_penalty(self, trajectory):
        penalty = yield
        units = self.units(trajectory.cell)
        h = trajectory.states[..., units]
        change, count = np.diff(h, axis=0), h[1:].size
        value = self.weight * np.sum(h[1:] ** 2) + self.temporal_weight * np.sum(change**2)
        slope = np.zeros_like(h)
        slope[1:] = 2 / count * (self.weight * h[1:] + self.temporal_weight * change)
        slope[:-1] -= 2 / count * self.temporal_weight * change
        states = np.zeros_like(trajectory.states)
        states[..., units] = slope
        return penalty + Penalty(float(value / count), {}, states)

"""The flip-flop task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Gt, Le

from gradsim import Baseline, Episode, Task, squared_error
from gradsim.types import PositiveInt


@dataclass(frozen=True, eq=False)
class FlipFlop(Task):
    """Hold the sign of the last pulse of each channel.

    The channels are independent. At each step a channel gets a pulse with probability `pulses`, +1 or -1,
    both as likely, and 0 otherwise; at the first step every channel gets one. The target of a channel is
    its last pulse, that of the same step included. The loss is the squared error, the mean over channels and
    steps.

    The score is the share of outputs with the right sign; an output of 0 counts half. What forgets the pulses
    repeats those of the step and says 0 elsewhere: a loss of (1 - pulses) (length - 1) / length.

    Sussillo & Barak (2013), Opening the black box: low-dimensional dynamics in high-dimensional recurrent
    neural networks, the 3-bit flip-flop; in discrete time, with pulses of one step, and with a pulse at the
    first step, so that there is always one to hold.
    """

    name = "flip_flop"
    metric = "right signs"

    length: PositiveInt = 100
    channels: PositiveInt = 3
    pulses: Annotated[float, Gt(0), Le(1)] = 0.1

    @property
    def input_size(self):
        return self.channels

    @property
    def output_size(self):
        return self.channels

    @property
    def baseline(self):
        silent = (1 - self.pulses) * (self.length - 1) / self.length
        return Baseline("pulse of now", silent, 1 - silent / 2)

    def sample(self, rng, batch):
        shape = (self.length, batch, self.channels)
        pulsed = rng.random(shape) < self.pulses
        pulsed[0] = True
        signs = rng.choice((-1.0, 1.0), shape)
        last = np.maximum.accumulate(pulsed * np.arange(self.length)[:, None, None])
        targets = np.take_along_axis(signs, last, axis=0)
        return Episode(pulsed * signs, targets, np.full(shape[:2], 1 / self.length))

    def loss(self, outputs, targets, xp):
        return squared_error(outputs, targets, xp)

    def score(self, outputs, targets):
        return (1 + np.sign(outputs) * targets).mean(axis=-1) / 2

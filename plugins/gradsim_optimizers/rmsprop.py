"""Gradients divided by their recent size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Optimizer
from gradsim.types import PositiveFloat
from gradsim_optimizers.means import Weight, move


@dataclass(frozen=True, eq=False)
class RMSprop(Optimizer):
    """theta <- theta - rate g / (sqrt(s) + epsilon), with s <- beta s + (1 - beta) g^2.

    theta: all parameters. g: the gradient. s: its mean square, 0 before the first update, so that the
    first change is rate / sqrt(1 - beta). With `centred` the divisor is the standard deviation,
    sqrt(s - n^2) + epsilon with n the running mean of g. With momentum the quotients q are gathered:
    theta <- theta - rate v, with v <- momentum v + q. A gradient whose square overflows, above 1e19 in
    float32, stops its parameter for good.

    Tieleman & Hinton (2012), Lecture 6.5: rmsprop, Coursera; centred and with momentum Graves (2013),
    Generating sequences with recurrent neural networks, eq. 38-45. epsilon stands outside of the root,
    as in PyTorch, which also has these defaults.
    """

    name = "rmsprop"

    learning_rate: PositiveFloat = 0.01
    beta: Weight = 0.99
    epsilon: PositiveFloat = 1e-8
    momentum: Weight = 0.0
    centred: bool = False

    @property
    def slots(self):
        wanted = {"square": True, "mean": self.centred, "velocity": self.momentum > 0}
        return tuple(name for name, used in wanted.items() if used)

    def change(self, params, gradient, slots, rate, update):
        room = gradient * gradient
        move(slots["square"], room, self.beta, room)
        np.sqrt(self._spread(gradient, slots, room), out=room)
        room += self.epsilon
        np.divide(gradient, room, out=room)
        if self.momentum:
            velocity = slots["velocity"]
            velocity *= self.momentum
            velocity += room
            np.copyto(room, velocity)
        room *= -rate
        return room

    def _spread(self, gradient, slots, room):
        if not self.centred:
            return slots["square"]
        mean = slots["mean"]
        move(mean, gradient, self.beta, room)
        np.multiply(mean, mean, out=room)
        np.subtract(slots["square"], room, out=room)
        return np.maximum(room, 0, out=room)  # rounding may leave less than nothing

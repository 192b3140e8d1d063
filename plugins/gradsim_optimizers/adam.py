"""Adam, and Adam with decoupled weight decay."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Optimizer
from gradsim.types import NonNegativeFloat, PositiveFloat
from gradsim_optimizers.means import Weight, move


@dataclass(frozen=True, eq=False)
class Adam(Optimizer):
    """theta <- theta - rate m' / (sqrt(s') + epsilon), with running means m of g and s of g^2.

    theta: all parameters. g: the gradient. m <- beta1 m + (1 - beta1) g, s <- beta2 s + (1 - beta2) g^2,
    both 0 before the first update; m' = m / (1 - beta1^u) and s' = s / (1 - beta2^u) at update u take
    this start out of them.

    The first change is rate * sign(g), whatever the size of g. After a single huge gradient the changes
    stay small for 1 / (1 - beta2) updates and more; one whose square overflows, above 1e19 in float32,
    stops its parameter for good.

    Kingma & Ba (2015), Adam: a method for stochastic optimization, algorithm 1 and its defaults.
    """

    name = "adam"
    slots = ("mean", "square")

    learning_rate: PositiveFloat = 0.001
    beta1: Weight = 0.9
    beta2: Weight = 0.999
    epsilon: PositiveFloat = 1e-8

    def change(self, params, gradient, slots, rate, update):
        mean, square = slots["mean"], slots["square"]
        room = np.empty_like(gradient)
        move(mean, gradient, self.beta1, room)
        np.multiply(gradient, gradient, out=room)
        move(square, room, self.beta2, room)
        # Both corrections on the outside, as the paper has it for speed (end of section 2).
        scale = np.sqrt(1 - self.beta2**update).item()
        np.sqrt(square, out=room)
        room += self.epsilon * scale
        np.divide(mean, room, out=room)
        room *= -rate * scale / (1 - self.beta1**update)
        return room


@dataclass(frozen=True, eq=False)
class AdamW(Adam):
    """theta <- (1 - rate decay) theta - what Adam subtracts: weight decay beside the division.

    `decay` shrinks all parameters alike, biases too; `weight_decay`, the mitigation, adds to the loss
    instead, and Adam divides that by the size of the gradient like the rest.

    Loshchilov & Hutter (2019), Decoupled weight decay regularization, algorithm 2; the decay is
    multiplied by the learning rate and is 0.01 by default, as in PyTorch.
    """

    name = "adamw"

    decay: NonNegativeFloat = 0.01

    def change(self, params, gradient, slots, rate, update):
        change = super().change(params, gradient, slots, rate, update)
        change -= (rate * self.decay) * params
        return change

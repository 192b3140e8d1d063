"""Stochastic gradient descent."""

from __future__ import annotations

from dataclasses import dataclass

from gradsim import Optimizer
from gradsim.errors import InputError
from gradsim.types import PositiveFloat
from gradsim_optimizers.means import Weight


@dataclass(frozen=True, eq=False)
class SGD(Optimizer):
    """theta <- theta - rate v, with v <- momentum v + g.

    theta: all parameters. g: the gradient. v: the velocity, 0 before the first update. With `nesterov`,
    theta <- theta - rate (g + momentum v). Without momentum v = g.

    A steady gradient moves the parameters at rate / (1 - momentum).

    Robbins & Monro (1951), A stochastic approximation method; v as in Sutskever, Martens, Dahl & Hinton
    (2013), On the importance of initialization and momentum in deep learning, eq. 1-4, with the rate
    outside of v, as in PyTorch: a change of the rate acts at once.
    """

    name = "sgd"

    learning_rate: PositiveFloat = 0.01
    momentum: Weight = 0.0
    nesterov: bool = False

    def __post_init__(self):
        super().__post_init__()
        if self.nesterov and not self.momentum:
            raise InputError("SGD: nesterov needs momentum, such as 0.9 (got 0)")

    @property
    def slots(self):
        return ("velocity",) if self.momentum else ()

    def change(self, params, gradient, slots, rate, update):
        if not self.momentum:
            return -rate * gradient
        velocity = slots["velocity"]
        velocity *= self.momentum
        velocity += gradient
        if not self.nesterov:
            return -rate * velocity
        ahead = self.momentum * velocity
        ahead += gradient
        ahead *= -rate
        return ahead

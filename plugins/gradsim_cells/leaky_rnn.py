"""The leaky recurrent network, or continuous-time recurrent network by the steps of Euler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Interval

from gradsim import Dense
from gradsim_cells.elman import ACTIVATIONS


@dataclass(frozen=True, eq=False)
class LeakyRNN(Dense):
    """h_t = (1 - a) h_{t-1} + a phi(W x_t + U h_{t-1} + b), with a = `time_step`.

    h: state (hidden_size = n). x: input. W (n, input_size) ~ N(0, 1 / input_size), U (n, n) ~ N(0, 1 / n),
    b (n) = 0. phi: tanh, relu or logistic.

    It is dh/dt = -h + phi(W x + U h + b) by the steps of Euler, with time in units of the time constant.
    J_t = (1 - a) I + a diag(phi') U; a = 1 is the Elman cell. Other sources let the leak act on the sums,
    and U on phi(h): that is `rate_network`.

    Funahashi & Nakamura (1993), Approximation of dynamical systems by continuous time recurrent neural
    networks; in discrete time as Jaeger et al. (2007), Optimization and applications of echo state networks
    with leaky-integrator neurons.
    """

    name = "leaky_rnn"

    time_step: Annotated[float, Interval(gt=0, le=1)] = 0.1
    activation: Literal["tanh", "relu", "logistic"] = "tanh"

    def unit(self, sums, old, xp):
        a = self.time_step
        return (1 - a) * old[0] + a * ACTIVATIONS[self.activation](sums[0], xp)

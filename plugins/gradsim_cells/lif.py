"""Leaky integrate-and-fire units, with a surrogate gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gradsim import Dense, detach, surrogate
from gradsim.types import NonNegativeFloat, PositiveFloat, Probability


@dataclass(frozen=True, eq=False)
class LIF(Dense):
    """v_t = decay v_{t-1} - threshold z_{t-1} + W x_t + U z_{t-1} + b and z_t = 1[v_t > threshold].

    State: blocks z, the spikes, and v, the membrane potentials, each hidden_size = n. x: input.
    W (n, input_size) ~ N(0, 1 / input_size), U (n, n) ~ N(0, 1 / n), b (n) = 0. decay = exp(-dt / tau).

    After a spike the threshold is subtracted, as above, or with ``reset="zero"`` the potential starts again
    from 0: v_t = decay v_{t-1} (1 - z_{t-1}) + .... Currents have no dynamics of their own.

    The derivative of a spike is 0, so the backward pass takes another one in its place,
    dz/dv = 1 / (1 + steepness |v - threshold|)^2, and none through the reset with `detach_reset`. J_t is made
    of that: dv_t/dv_{t-1} = decay I where nothing is reset to zero, dv_t/dz_{t-1} = U, and the row of z_t is
    that of v_t times dz/dv. It is no derivative of the step: spikes do not move with small changes.

    Neftci, Mostafa & Zenke (2019), Surrogate gradient learning in spiking neural networks, without
    the synaptic currents; the surrogate of Zenke & Ganguli (2018), SuperSpike; that the reset is better left
    out of the way back, Zenke & Vogels (2021), The remarkable robustness of surrogate gradient learning.
    """

    name = "lif"
    exact = False

    decay: Probability = 0.9
    threshold: PositiveFloat = 1.0
    steepness: NonNegativeFloat = 10.0
    reset: Literal["subtract", "zero"] = "subtract"
    detach_reset: bool = True

    @property
    def blocks(self):
        return {"z": self.hidden_size, "v": self.hidden_size}

    def unit(self, sums, old, xp):
        z, v = old
        fired = detach(z) if self.detach_reset else z
        if self.reset == "zero":
            v = self.decay * v * (1 - fired) + sums[0]
        else:
            v = self.decay * v - self.threshold * fired + sums[0]
        above = v - self.threshold
        smooth = above / (1 + self.steepness * xp.abs(above))
        return surrogate(xp.astype(above > 0, v.dtype), smooth), v

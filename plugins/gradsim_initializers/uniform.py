"""Uniform weights, as PyTorch starts its recurrent networks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Initializer


@dataclass(frozen=True, eq=False)
class Uniform(Initializer):
    """Independent entries, uniform between -1 / sqrt(n) and 1 / sqrt(n), with n the number of units.

    Of weights from the inputs and the state, and of biases, alike: `torch.nn.RNN`, `LSTM` and `GRU` start
    so. The standard deviation is 1 / sqrt(3 n), and the spectral radius of a recurrent weight near 0.58.
    """

    name = "uniform"

    def weight(self, rng, shape):
        return rng.uniform(-1, 1, shape) / np.sqrt(shape[1])

    def bias(self, rng, shape, keeps):
        return rng.uniform(-1, 1, shape) / np.sqrt(shape[1])

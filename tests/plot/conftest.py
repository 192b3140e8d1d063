"""A small run with everything that the figures show."""

from __future__ import annotations

import numpy as np
import pytest
from trained import training as train

import gradsim
from gradsim_cells.elman import Elman
from gradsim_mitigations import Truncate

RECORD = (
    "product_norm",
    "effective_product_norm",
    "product_spectrum",
    "adjoint_norm",
    "effective_adjoint_norm",
    "lyapunov",
)


@pytest.fixture(scope="session")
def run():
    inputs = np.random.default_rng(3).standard_normal((20, 3, 2))
    cell = Elman(input_size=2, hidden_size=4, recurrent_scale=0.8)
    return gradsim.simulate(cell, inputs, mitigations=[Truncate(k1=5, k2=5)], record=RECORD)


@pytest.fixture(scope="session")
def band():
    inputs = np.random.default_rng(3).standard_normal((20, 3, 2))
    cell = Elman(input_size=2, hidden_size=4, recurrent_scale=0.8)
    return gradsim.simulate(cell, inputs, pairs=gradsim.Pairs(max_lag=6))


@pytest.fixture(scope="session")
def training():
    return train()

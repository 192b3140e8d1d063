"""What many tests share."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture
def rng():
    return np.random.default_rng(20130616)


@pytest.fixture
def inputs(rng):
    return rng.standard_normal((12, 3, 2))

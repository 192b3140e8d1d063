"""What many tests share."""

from __future__ import annotations

import signal

import numpy as np
import pytest

# What a shell has started in the background ignores Ctrl-C, and so would the commands that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def rng():
    return np.random.default_rng(20130616)


@pytest.fixture
def inputs(rng):
    return rng.standard_normal((12, 3, 2))

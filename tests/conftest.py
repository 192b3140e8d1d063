"""What many tests share."""

from __future__ import annotations

import signal

import numpy as np
import pytest

from gradsim.numerics import autodiff

# What a shell has started in the background ignores Ctrl-C, and so would the commands that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def rng():
    return np.random.default_rng(20130616)


@pytest.fixture
def inputs(rng):
    return rng.standard_normal((12, 3, 2))


def pytest_addoption(parser):
    parser.addoption("--by-jax", action="store_true", help="Let JAX derive every step that it can trace.")


@pytest.fixture(autouse=True)
def by_jax(request, monkeypatch):
    """With --by-jax, JAX derives wherever nobody says what should; what it cannot trace goes to autograd."""
    if not request.config.getoption("--by-jax"):
        yield
        return
    monkeypatch.setattr("gradsim.run.derivatives._WORTH", 0.0)
    with autodiff.deriving(autodiff.load_jax().ByJax(asked=False)):
        yield

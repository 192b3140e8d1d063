"""Derivatives of a function of the step Jacobians, in bounded memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from gradsim_cells import GRU, LRU, LSTM, Elman, MinGRU


@pytest.mark.parametrize(
    "cell", [Elman(2, 5), GRU(2, 5), LSTM(2, 3), MinGRU(2, 5), LRU(2, 3)], ids=lambda c: c.name
)
def test_is_the_derivative_of_the_penalty(cell, rng):
    """R = sum of all squared elements of J, by differences along a random direction."""
    params, state, inputs = (
        cell.init_params(rng),
        *(rng.standard_normal((4, 3, n)) for n in (cell.state_size, 2)),
    )
    gradient, states = cell.jacobian_vjp(params, state, inputs, 2 * cell.step_jacobian(params, state, inputs))
    ways, way = {n: rng.standard_normal(p.shape) for n, p in params.items()}, rng.standard_normal(state.shape)

    def penalty(h):
        moved = {n: p + h * ways[n] for n, p in params.items()}
        return np.sum(cell.step_jacobian(moved, state + h * way, inputs) ** 2)

    slope = (penalty(1e-6) - penalty(-1e-6)) / 2e-6
    found = sum(np.sum(gradient[n] * ways[n]) for n in params) + np.sum(states * way)
    assert found == pytest.approx(slope, rel=1e-6)


def test_memory_is_bounded(rng):
    """All rows at all positions at once take 90 MB."""
    cell = LSTM(input_size=2, hidden_size=24)
    params = cell.init_params(rng)
    state, inputs = rng.standard_normal((50, 4, 48)), rng.standard_normal((50, 4, 2))
    cotangent = rng.standard_normal((50, 4, 1, 48, 48))
    tracemalloc.start()
    cell.jacobian_vjp(params, state, inputs, cotangent)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 15e6, f"{peak / 1e6:.0f} MB"

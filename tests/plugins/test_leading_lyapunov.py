"""The leading exponents of a run, against exact and published values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

import gradsim
from gradsim import Cell, analysis
from gradsim.errors import InputError
from gradsim_cells import LSTM, Linear, MinGRU
from gradsim_recorders import LeadingLyapunovRecorder


@dataclass(frozen=True, eq=False)
class Henon(Cell):
    """x' = 1 - 1.4 x^2 + y, y' = 0.3 x."""

    name = "henon"
    input_size: int = 1

    @property
    def blocks(self):
        return {"x": 1, "y": 1}

    def init_params(self, rng):
        return {"a": np.array(1.4)}

    def step(self, params, state, inputs, xp):
        x, y = self.split(state)
        return xp.concat((1 - params["a"] * x * x + y, 0.3 * x), axis=-1)


def test_the_attractor_of_henon(rng):
    start = 0.1 * rng.standard_normal((8, 2))
    recorder = LeadingLyapunovRecorder(modes=2, transient=500)
    ds = gradsim.simulate(Henon(), np.zeros((8500, 8, 1)), initial_state=start, record=[recorder, "lyapunov"])
    found = ds.leading_lyapunov.mean("batch")
    np.testing.assert_allclose(found, [0.41922, -1.62319], atol=4e-3)
    np.testing.assert_allclose(ds.leading_lyapunov.sum("leading_mode"), np.log(0.3), rtol=1e-12)
    np.testing.assert_allclose(ds.lyapunov.mean("batch"), found, atol=4e-3)
    dimension = analysis.kaplan_yorke(ds, "leading_lyapunov").mean()
    assert float(dimension) == pytest.approx(1.25827, abs=3e-3)
    assert float(analysis.entropy(ds).mean()) == pytest.approx(0.41922, abs=4e-3)


@pytest.mark.parametrize("modes", [1, 3, 9])
def test_a_constant_map_has_its_eigenvalues(modes, rng):
    cell = Linear(1, 5)
    values = np.array([1.3, 0.9, 0.6, -0.4, 0.1])
    basis = rng.standard_normal((5, 5))
    params = {"W": np.ones((5, 1)), "U": basis @ np.diag(values) @ np.linalg.inv(basis)}
    recorder = LeadingLyapunovRecorder(modes=modes, transient=200)
    ds = gradsim.simulate(cell, np.zeros((300, 2, 1)), params=params, record=[recorder])
    expected = np.log(np.abs(values))[: min(modes, 5)]
    np.testing.assert_allclose(ds.leading_lyapunov, [expected] * 2, atol=1e-8)


@pytest.mark.parametrize("cell", [LSTM(2, 3), MinGRU(2, 4)], ids=repr)
def test_all_modes_together_are_those_of_the_whole_spectrum(cell, rng):
    x = rng.standard_normal((400, 2, 2))
    everything = LeadingLyapunovRecorder(modes=cell.state_size)
    ds = gradsim.simulate(cell, x, record=[everything, "lyapunov"], rng=0)
    np.testing.assert_allclose(ds.leading_lyapunov, ds.lyapunov, atol=0.03)
    np.testing.assert_allclose(ds.leading_lyapunov.sum("leading_mode"), ds.lyapunov.sum("mode"), rtol=1e-7)
    first = gradsim.simulate(cell, x, record=[LeadingLyapunovRecorder(modes=2)], rng=0)
    np.testing.assert_allclose(first.leading_lyapunov, ds.leading_lyapunov[:, :2], rtol=1e-9)


def test_a_direction_that_is_annihilated():
    params = {"W": np.ones((2, 1)), "U": np.array([[0.5, 0.5], [0.5, 0.5]])}
    recorder = LeadingLyapunovRecorder(modes=2, transient=2)
    ds = gradsim.simulate(Linear(1, 2), np.zeros((9, 1, 1)), params=params, record=[recorder])
    np.testing.assert_allclose(ds.leading_lyapunov, [[0, -np.inf]], atol=1e-12)


def test_some_steps_have_to_count():
    with pytest.raises(InputError, match="transient should be below the number of steps, 5"):
        gradsim.simulate(
            Linear(1, 2), np.zeros((5, 1, 1)), record=[LeadingLyapunovRecorder(modes=1, transient=5)]
        )

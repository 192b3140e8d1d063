"""Dense cells whose units do not see each other: their Jacobians are made of one block for each unit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

import gradsim
from gradsim import Dense, Term, through
from gradsim.testing import conformance
from gradsim_cells import MinGRU


@dataclass(frozen=True, eq=False)
class OfUnits(Dense):
    """The shipped cell, said by one unit."""

    name = "of_units"
    gate_names = ("update", "candidate")
    terms = Term("W", "x"), Term("b", "1")

    def init_params(self, rng):
        return MinGRU(self.input_size, self.hidden_size).init_params(rng)

    def unit(self, sums, old, xp):
        z = through(0.5 * (xp.tanh(0.5 * sums[0]) + 1), "update")
        return (1 - z) * old[0] + z * through(sums[1], "candidate")


@dataclass(frozen=True, eq=False)
class Oscillators(Dense):
    """z' = z - 0.3 (tanh(w y + a) + y / 2) and y' = y + 0.3 z', with a = W x + b."""

    name = "oscillators"
    sums = 2

    @property
    def terms(self):
        return Term("W", "x"), Term("b", "1"), Term("w", "1", column=self.hidden_size)

    @property
    def blocks(self):
        return {"y": self.hidden_size, "z": self.hidden_size}

    def init_params(self, rng):
        n = self.hidden_size
        return {"W": rng.standard_normal((n, self.input_size)), "b": np.zeros(n), "w": rng.uniform(0, 2, n)}

    def unit(self, sums, old, xp):
        z = old[1] - 0.3 * (xp.tanh(sums[1] * old[0] + sums[0]) + old[0] / 2)
        return old[0] + 0.3 * z, z


test_kit = conformance(OfUnits(2, 4), Oscillators(3, 5))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_unit_gives_what_the_shipped_cell_does(dtype):
    inputs = np.random.default_rng(0).standard_normal((20, 3, 2))
    params = MinGRU(2, 4).init_params(np.random.default_rng(1))
    record = ["state", "adjoint", "gradient", "jacobian_product", "product_norm"]
    ours, theirs = (
        gradsim.simulate(cell(2, 4), inputs, params=params, record=record, dtype=dtype)
        for cell in (OfUnits, MinGRU)
    )
    for name in theirs.data_vars:
        tolerance = 100 * np.finfo(dtype).eps
        np.testing.assert_allclose(ours[name], theirs[name], rtol=tolerance, atol=tolerance)


def test_each_unit_has_a_jacobian_of_its_blocks():
    cell, rng = Oscillators(3, 5), np.random.default_rng(0)
    params, state, x = cell.init_params(rng), rng.standard_normal((2, 10)), rng.standard_normal((2, 3))
    found = cell.step_jacobian(params, state, x)
    assert found.shape == (2, 5, 2, 2)
    a = params["w"] * state[:, :5] + x @ params["W"].T
    by_y = -0.3 * (params["w"] * (1 - np.tanh(a) ** 2) + 0.5)
    expected = np.stack(
        [np.stack([1 + 0.3 * by_y, np.full_like(by_y, 0.3)], -1), np.stack([by_y, np.ones_like(by_y)], -1)],
        -2,
    )
    np.testing.assert_allclose(found, expected, rtol=1e-13)

"""The steps of all shipped cells speak the array API standard: other libraries take them as they are."""

from __future__ import annotations

import array_api_compat.torch
import array_api_strict
import jax
import numpy as np
import pytest
import torch
from shipped import CELLS

from gradsim.numerics.blocks import dense_blocks
from gradsim_cells import GRU, LRU, LSTM, Elman, MinGRU

LIBRARIES = (array_api_strict, jax.numpy, array_api_compat.torch)
each_cell = pytest.mark.parametrize("cell", CELLS, ids=repr)


@pytest.fixture(autouse=True)
def _in_float64():
    with jax.enable_x64(True):
        yield


def place(cell, rng, asarray, lead=(2, 3)):
    """Parameters, states, inputs and step data, as NumPy arrays and those of another library."""
    state, inputs = (rng.standard_normal((*lead, n)) for n in (cell.state_size, cell.input_size))
    moved = {n: p + 0.1 * rng.standard_normal(p.shape) for n, p in cell.init_params(rng).items()}
    data = {n: np.full(lead, 2) if n == "step_index" else rng.random((*lead, 3)) for n in cell.step_data}
    there = {n: asarray(p) for n, p in moved.items()}, asarray(state), asarray(inputs)
    return (moved, state, inputs), data, there, {n: asarray(d) for n, d in data.items()}


@each_cell
@pytest.mark.parametrize("xp", LIBRARIES, ids=lambda x: x.__name__)
def test_a_step_and_an_output_take_the_arrays_of_other_libraries(cell, xp, rng):
    here, data, there, their_data = place(cell, rng, xp.asarray)
    for found, expected in (
        (cell.step(*there, xp, **their_data), cell.step(*here, np, **data)),
        (cell.output(*there, xp), cell.output(*here, np)),
    ):
        np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("cell", [cell for cell in CELLS if cell.exact], ids=repr)
def test_the_step_jacobian_is_that_of_jax(cell, rng):
    here, data, there, their_data = place(cell, rng, jax.numpy.asarray, lead=())
    theirs = jax.jacobian(lambda s: cell.step(there[0], s, there[2], jax.numpy, **their_data))(there[1])
    found = dense_blocks(cell.step_jacobian(*here, **data))
    np.testing.assert_allclose(found, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("cell", [cell(2, 3) for cell in (Elman, GRU, LSTM, LRU, MinGRU)], ids=repr)
def test_the_step_jacobian_is_that_of_torch(cell, rng):
    here, data, there, their_data = place(cell, rng, torch.asarray, lead=())
    xp = array_api_compat.torch
    theirs = torch.func.jacrev(lambda s: cell.step(there[0], s, there[2], xp, **their_data))(there[1])
    found = dense_blocks(cell.step_jacobian(*here, **data))
    np.testing.assert_allclose(found, theirs, rtol=1e-10, atol=1e-12)

"""The steps of all shipped cells speak the array API standard: other libraries take them as they are."""

from __future__ import annotations

from dataclasses import replace

import array_api_compat.torch
import jax
import numpy as np
import pytest
import torch
from shipped import CELLS

from gradsim.numerics.blocks import dense_blocks
from gradsim.testing.cell.bench import CellBench
from gradsim.testing.cell.libraries import installed, why_not
from gradsim_cells import GRU, LRU, LSTM, Elman, MinGRU


@pytest.fixture(autouse=True)
def _in_float64():
    with jax.enable_x64(True):
        yield


def place(cell, rng, asarray):
    """Parameters, states, inputs and step data, as NumPy arrays and those of another library."""
    state, inputs = (rng.standard_normal(n) for n in (cell.state_size, cell.input_size))
    moved = {n: p + 0.1 * rng.standard_normal(p.shape) for n, p in cell.init_params(rng).items()}
    data = {n: np.array(2) if n == "step_index" else rng.random(3) for n in cell.step_data}
    there = {n: asarray(p) for n, p in moved.items()}, asarray(state), asarray(inputs)
    return (moved, state, inputs), data, there, {n: asarray(d) for n, d in data.items()}


@pytest.mark.parametrize("cell", CELLS, ids=repr)
@pytest.mark.parametrize("library", ["JAX", "torch"])
def test_a_step_and_an_output_take_the_arrays_of_other_libraries(cell, library):
    """As they do those of array-api-strict, which is in the kit."""
    run, xp = CellBench(cell).run, installed()[library]
    for function, place in ((cell.step, run), (cell.output, replace(run, data={}))):
        assert why_not(function, place, library, xp) is None


@pytest.mark.parametrize("cell", [cell for cell in CELLS if cell.exact], ids=repr)
def test_the_step_jacobian_is_that_of_jax(cell, rng):
    here, data, there, their_data = place(cell, rng, jax.numpy.asarray)
    theirs = jax.jacobian(lambda s: cell.step(there[0], s, there[2], jax.numpy, **their_data))(there[1])
    found = dense_blocks(cell.step_jacobian(*here, **data))
    np.testing.assert_allclose(found, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("cell", [cell(2, 3) for cell in (Elman, GRU, LSTM, LRU, MinGRU)], ids=repr)
def test_the_step_jacobian_is_that_of_torch(cell, rng):
    here, data, there, their_data = place(cell, rng, torch.asarray)
    xp = array_api_compat.torch
    theirs = torch.func.jacrev(lambda s: cell.step(there[0], s, there[2], xp, **their_data))(there[1])
    found = dense_blocks(cell.step_jacobian(*here, **data))
    np.testing.assert_allclose(found, theirs, rtol=1e-10, atol=1e-12)

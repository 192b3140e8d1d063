"""The steps of all shipped cells speak the array API standard: other libraries take them as they are."""

from __future__ import annotations

import array_api_compat.torch
import array_api_strict
import jax
import numpy as np
import pytest
import torch

from gradsim_cells import (
    GRU,
    LRU,
    LSTM,
    MLSTM,
    QRNN,
    S4D,
    SLSTM,
    SRU,
    DeltaNet,
    Elman,
    IndRNN,
    Linear,
    LrcSSM,
    MinGRU,
    MinLSTM,
    ParaGRU,
    ParaLSTM,
    SelectiveSSM,
    Stack,
    UnICORNN,
)

CELLS = [
    Linear(input_size=3, hidden_size=5),
    *(Elman(input_size=3, hidden_size=5, activation=phi) for phi in ("tanh", "relu", "logistic")),
    *(GRU(input_size=3, hidden_size=5, reset_after=after) for after in (True, False)),
    LSTM(input_size=3, hidden_size=5),
    MinGRU(input_size=3, hidden_size=5),
    LRU(input_size=3, hidden_size=5),
    *(cell(3, 4) for cell in (IndRNN, LrcSSM, MinLSTM, ParaGRU, ParaLSTM, SRU, UnICORNN)),
    QRNN(3, 4, window=2),
    *(SLSTM(3, 4, heads=heads) for heads in (1, 2)),
    *(cell(3, 4, 2) for cell in (S4D, SelectiveSSM, MLSTM, DeltaNet)),
    Stack(cells=(LSTM(input_size=3, hidden_size=2), LRU(input_size=2, hidden_size=3))),
]
each_cell = pytest.mark.parametrize("cell", CELLS, ids=repr)


@pytest.fixture(autouse=True)
def _in_float64():
    with jax.enable_x64(True):
        yield


def place(cell, rng, asarray, lead=(2, 3)):
    """Parameters, states and inputs, as NumPy arrays and those of another library."""
    state, inputs = (rng.standard_normal((*lead, n)) for n in (cell.state_size, cell.input_size))
    here = cell.init_params(rng), state, inputs
    there = {n: asarray(p) for n, p in here[0].items()}, asarray(state), asarray(inputs)
    return here, there


@each_cell
@pytest.mark.parametrize(
    "xp", [array_api_strict, jax.numpy, array_api_compat.torch], ids=lambda x: x.__name__
)
def test_a_step_takes_the_arrays_of_other_libraries(cell, xp, rng):
    here, there = place(cell, rng, xp.asarray)
    np.testing.assert_allclose(
        np.asarray(cell.step(*there, xp)), cell.step(*here, np), rtol=1e-13, atol=1e-13
    )


@each_cell
def test_the_step_jacobian_is_that_of_jax(cell, rng):
    (params, state, inputs), there = place(cell, rng, jax.numpy.asarray, lead=())
    theirs = jax.jacobian(lambda s: cell.step(there[0], s, there[2], jax.numpy))(there[1])
    np.testing.assert_allclose(
        full(cell.step_jacobian(params, state, inputs)), theirs, rtol=1e-12, atol=1e-13
    )


@each_cell
def test_the_step_jacobian_is_that_of_torch(cell, rng):
    (params, state, inputs), there = place(cell, rng, torch.asarray, lead=())
    xp = array_api_compat.torch
    theirs = torch.func.jacrev(lambda s: cell.step(there[0], s, there[2], xp))(there[1])
    np.testing.assert_allclose(
        full(cell.step_jacobian(params, state, inputs)), theirs, rtol=1e-12, atol=1e-13
    )


def full(blocks):
    """Diagonal blocks (g, k, k) as one matrix, by its definition."""
    g, k, _ = blocks.shape
    matrix = np.zeros((g * k, g * k))
    for j, a, c in np.ndindex(g, k, k):
        matrix[a * g + j, c * g + j] = blocks[j, a, c]
    return matrix

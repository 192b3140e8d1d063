"""How parameters start: what a cell is told, and what it has without."""

from __future__ import annotations

import numpy as np
import pytest

import gradsim
from gradsim.contracts import registry
from gradsim.errors import InputError, UnknownNameError
from gradsim_cells import GRU, LRU, LSTM, Elman, Linear, ParaLSTM, Stack
from gradsim_initializers import Chrono, Identity, Orthogonal, Ring, Zeros


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_cells_start_as_they_are_told(rng):
    lstm = LSTM(
        2, 5, recurrent_init=Orthogonal(), recurrent_scale=1.5, input_init=Zeros(), bias_init=Chrono(9)
    )
    params = lstm.init_params(rng)
    for block in params["U"].reshape(4, 5, 5):
        np.testing.assert_allclose(block @ block.T, 1.5**2 * np.eye(5), atol=1e-13)
    assert not params["W"].any()
    input_bias, forget_bias, *others = params["b"].reshape(4, 5)
    assert (forget_bias == -input_bias).all()
    assert (forget_bias >= 0).all()
    assert (forget_bias < np.log(8)).all()
    assert not np.any(others)
    gru = GRU(2, 5, bias_init=Chrono(9)).init_params(rng)
    assert gru["b"].reshape(3, 5)[1].all()
    assert not gru["c"].any()
    linear = Linear(2, 5, recurrent_init=Identity())
    np.testing.assert_array_equal(linear.init_params(rng)["U"], np.eye(5))


def test_what_is_alone_in_its_sums_is_no_bias():
    drawn = [ParaLSTM(2, 5, bias_init=b).init_params(np.random.default_rng(1)) for b in (None, Chrono(9))]
    for name in ("W", "u", "p"):
        np.testing.assert_array_equal(drawn[0][name], drawn[1][name])
    assert (drawn[1]["b"][:5] > 0).all()


def test_a_scale_multiplies_what_is_drawn():
    drawn = [Elman(2, 5, recurrent_scale=s).init_params(np.random.default_rng(1)) for s in (1.0, 0.3)]
    np.testing.assert_allclose(drawn[1]["U"], 0.3 * drawn[0]["U"], rtol=1e-15)
    np.testing.assert_array_equal(drawn[1]["W"], drawn[0]["W"])


def test_what_starts_nothing_is_refused(rng):
    with pytest.raises(InputError, match=r"Chrono\(longest=100.0\) draws no weights; it draws biases"):
        Elman(2, 3, recurrent_init=Chrono()).init_params(rng)
    with pytest.raises(InputError, match="no gate that keeps the state; leave it out"):
        Elman(2, 3, bias_init=Chrono()).init_params(rng)
    with pytest.raises(InputError, match="Linear: bias_init would start nothing, as the cell has no biases"):
        Linear(2, 3, bias_init=Zeros())
    with pytest.raises(InputError, match=r"0 < \|lambda\| < 1 and a phase that is not 0"):
        LRU(2, 3, recurrent_init=Identity()).init_params(rng)


def test_the_lru_takes_eigenvalues(rng):
    cell = LRU(2, 300, recurrent_init=Ring(0.5, 0.6, max_phase=0.1))
    params = cell.init_params(rng)
    size, phase = np.exp(-np.exp(params["nu"])), np.exp(params["theta"])
    assert 0.5 <= size.min() < 0.51
    assert 0.59 < size.max() <= 0.6
    assert phase.max() <= 0.1


def test_they_go_by_name_from_tables_into_every_layer():
    layer = {"name": "elman", "hidden_size": 4, "recurrent_init": "orthogonal"}
    upper = layer | {"input_size": 4, "recurrent_init": {"name": "identity"}}
    cell = registry.build("cells", "stack", {"cells": [layer, upper]})
    assert isinstance(cell, Stack)
    params = cell.init_params(np.random.default_rng(0))
    np.testing.assert_allclose(params["layer0_U"] @ params["layer0_U"].T, np.eye(4), atol=1e-14)
    np.testing.assert_array_equal(params["layer1_U"], np.eye(4))
    with pytest.raises(UnknownNameError, match="did you mean 'orthogonal'"):
        registry.build("cells", "elman", {"recurrent_init": "ortogonal"})


def test_a_run_says_how_its_cell_started():
    cell = Elman(1, 3, recurrent_init=Orthogonal())
    ds = gradsim.simulate(cell, np.zeros((5, 1, 1)), record=["product_norm"])
    assert '"recurrent_init": {"name": "orthogonal"}' in ds.attrs["provenance"]
    assert repr(cell) == "Elman(input_size=1, hidden_size=3, recurrent_init=Orthogonal(), activation='tanh')"

"""Sums that are capped softly, against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import refused
from stepping import moved, sigmoid

import gradsim
from gradsim.contracts.hooks import RunHooks
from gradsim.errors import InputError, UnknownNameError
from gradsim.testing import conformance
from gradsim_cells import GRU, LRU, LSTM, MLSTM, SLSTM
from gradsim_mitigations import (
    SoftCap,
)
from gradsim_tasks import Adding

test_kit_of_a_gru = conformance(
    SoftCap(2.0, gates=("reset", "candidate")), cell=GRU(input_size=2, hidden_size=3)
)


def test_soft_caps_are_tanh_of_the_sums(rng):
    """Of an LSTM in plain NumPy, with the input and forget gates capped at 0.5."""
    cell, inputs = LSTM(2, 3), rng.standard_normal((5, 2, 2))
    params, start = moved(cell, rng), rng.standard_normal(cell.state_size)
    ds = gradsim.simulate(
        cell,
        inputs,
        params=params,
        initial_state=start,
        mitigations=[SoftCap(0.5, gates=("input", "forget"))],
        record=["state"],
    )
    h, c = (np.tile(x, (2, 1)) for x in np.split(start, 2))
    for t in range(5):
        a = inputs[t] @ params["W"].T + h @ params["U"].T + params["b"]
        i, f, g, o = np.split(a, 4, axis=1)
        i, f, o = map(sigmoid, (0.5 * np.tanh(i / 0.5), 0.5 * np.tanh(f / 0.5), o))
        c = f * c + i * np.tanh(g)
        h = o * np.tanh(c)
        np.testing.assert_allclose(ds.state[t + 1], np.concatenate((h, c), axis=1), rtol=1e-12, atol=1e-14)


def test_soft_caps_know_the_sums_of_gates():
    """The candidate of a GRU has two; a cap far out changes nothing to speak of."""
    cell, old = GRU(2, 3), (np.zeros(1),)
    capped = RunHooks([SoftCap(2.0, gates=("candidate", "update"))])("gradsim_cell", cell=cell)
    sums = np.random.default_rng(0).standard_normal((4, 1))
    cut = np.where([[True], [False], [True], [True]], 2 * np.tanh(sums / 2), sums)
    np.testing.assert_array_equal(capped.unit(tuple(sums), old, np), cell.unit(tuple(cut), old, np))
    assert repr(capped) == "SoftCappedGRU(input_size=2, hidden_size=3, reset_after=True)"
    x = np.random.default_rng(0).standard_normal((6, 2, 2))
    plain, far = (
        gradsim.simulate(GRU(2, 3), x, mitigations=m, record=["state", "gradient"], rng=3)
        for m in ([], [SoftCap(1e9)])
    )
    for name in plain.data_vars:
        np.testing.assert_allclose(far[name], plain[name], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("cell", [SLSTM(2, 3), MLSTM(2, 3, key_size=2)], ids=lambda c: c.name)
def test_the_extended_lstms_are_capped_at_their_gates(cell):
    """Of sums of 30 and more no gate sees more than the cap: steps are those with weights of nothing."""
    rng = np.random.default_rng(0)
    x, params = rng.standard_normal((4, 2, 2)), cell.init_params(rng)
    for name in params:
        if name in ("U", "W", "W_i", "W_f"):
            params[name] = 0 * params[name]
    sums = {"b": np.repeat([30.0, -40.0, 0.5, 0.0], 3)} if "b" in params else {"b_i": [30.0], "b_f": [-40.0]}
    at = {"b": np.repeat([2.0, -2.0, 0.5, 0.0], 3)} if "b" in params else {"b_i": [2.0], "b_f": [-2.0]}
    far = gradsim.simulate(
        cell,
        x,
        params=params | {n: np.array(b) for n, b in sums.items()},
        mitigations=[SoftCap(2.0)],
        record=["state"],
    )
    free = gradsim.simulate(
        cell, x, params=params | {n: np.array(b) for n, b in at.items()}, record=["state"]
    )
    np.testing.assert_allclose(far.state, free.state, rtol=1e-11, atol=1e-12)


def test_gates_and_units_that_are_not_there_are_refused():
    with refused(UnknownNameError, "unknown gate of lstm 'forgot'; did you mean 'forget'?"):
        prepared(LSTM(2, 3), SoftCap(gates=("forgot",)))
    for cell in (LRU(2, 3), GRU(2, 3, reset_after=False)):
        with refused(InputError, f"soft_cap: {cell!r} has no units whose sums it could cap"):
            prepared(cell, SoftCap())


def prepared(cell, mitigation):
    return gradsim.prepare(cell, task=Adding(length=20), mitigations=[mitigation])

"""The verb: reproducibility, arguments left alone, exact defaults."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

import gradsim
from gradsim_cells import LSTM, Elman
from gradsim_tasks import Adding

X = np.random.default_rng(0).standard_normal((6, 3, 2))


def test_the_seed_decides_everything():
    def run(rng):
        return gradsim.simulate(LSTM(2, 4), task=Adding(length=20), rng=rng, record=["state", "gradient"])

    assert run(3).identical(run(3))
    assert not run(3).equals(run(4))
    assert run(np.random.default_rng(5)).identical(run(np.random.default_rng(5)))
    generator = np.random.default_rng(5)
    assert not run(generator).equals(run(generator))
    assert run(np.random.SeedSequence(3)).equals(run(3))
    assert not run(np.random.SeedSequence(3, spawn_key=(1,))).equals(run(3))


def test_global_numpy_state_is_left_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    gradsim.simulate(LSTM(2, 4), task=Adding(length=20))
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


def test_arguments_are_not_changed():
    x, params = X.copy(), Elman(2, 4).init_params(np.random.default_rng(0))
    kept = {n: p.copy() for n, p in params.items()}
    gradsim.simulate(Elman(2, 4), x, params=params, record=["gradient"])
    x[0] = 1
    assert all((params[n] == kept[n]).all() and params[n].flags.writeable for n in params)


def test_float32_is_close_to_float64():
    record = ["state", "product_norm", "adjoint", "gradient"]
    wide, narrow = (gradsim.simulate(LSTM(2, 4), X, record=record, dtype=d) for d in ("float64", "float32"))
    assert narrow.state.dtype == narrow.adjoint.dtype == "float32"
    for name in wide.data_vars:
        np.testing.assert_allclose(narrow[name], wide[name], rtol=1e-4, atol=1e-5)


def test_a_batch_is_its_elements():
    record = ["product_norm", "adjoint"]
    whole = gradsim.simulate(LSTM(2, 4), X, record=record)
    alone = [gradsim.simulate(LSTM(2, 4), X[:, b : b + 1], record=record) for b in range(3)]
    joined = xr.concat([ds.product_norm for ds in alone], dim="batch")
    np.testing.assert_allclose(whole.product_norm, joined, rtol=1e-12)
    np.testing.assert_allclose(
        3 * whole.adjoint, np.concatenate([ds.adjoint for ds in alone], axis=1), rtol=1e-12
    )


def test_the_steps_that_are_checked_are_those_of_the_run():
    taken = []

    @dataclass(frozen=True, eq=False)
    class Counting(Elman):
        """Counts how often its steps are taken."""

        name = "counting"

        def unroll(self, params, state, inputs, step_data, parallel):
            taken.append(len(inputs))
            return super().unroll(params, state, inputs, step_data, parallel)

    gradsim.simulate(Counting(2, 4), X, record=["gradient"])
    assert taken == [len(X)]

"""The verb: bad input, reproducibility, what it writes into the dataset."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pytest
import xarray as xr

import gradsim
from gradsim import Cell, Mitigation, Pairs, hookimpl
from gradsim.errors import BudgetError, InputError, NonFiniteError, PluginError, UnknownNameError
from gradsim_cells import LSTM, Elman, Linear
from gradsim_mitigations import ClipNorm
from gradsim_tasks import Adding, Sunspots

X = np.random.default_rng(0).standard_normal((6, 3, 2))


def with_nan(value):
    x = X.copy()
    x[4, 1, 0] = value
    return x


BAD = {
    "two_axes": ({"inputs": X[0]}, InputError, r"3 axes .* got shape \(3, 2\); .* inputs\[:, None, :\]"),
    "wrong_width": ({"inputs": X[..., :1]}, InputError, r"1 features .*\(6, 3, 1\).* input_size=2"),
    "no_steps": ({"inputs": X[:0]}, InputError, r"at least one step .* got shape \(0, 3, 2\)"),
    "no_batch": ({"inputs": X[:, :0]}, InputError, r"at least one step .* got shape \(6, 0, 2\)"),
    "text": ({"inputs": np.full((2, 2, 2), "a")}, InputError, "real numbers, got dtype <U1"),
    "complex": ({"inputs": X + 1j}, InputError, "real numbers, got dtype complex128"),
    "nan": ({"inputs": with_nan(np.nan)}, NonFiniteError, "inputs is nan .* time 4, batch 1, feature 0"),
    "inf": ({"inputs": with_nan(np.inf)}, NonFiniteError, "inputs is inf .* time 4, batch 1, feature 0"),
    "float16": ({"inputs": X, "dtype": "float16"}, InputError, "'float32' or 'float64'"),
    "no_dtype": ({"inputs": X, "dtype": "flot64"}, InputError, "'float32' or 'float64' .*flot64"),
    "too_large_for_float32": (
        {"inputs": 1e39 * X, "dtype": "float32"},
        InputError,
        "does not fit into float32",
    ),
    "nothing": ({}, InputError, "exactly one of the two"),
    "both": ({"inputs": X, "task": Adding()}, InputError, "exactly one of the two"),
    "batch_beside_inputs": ({"inputs": X, "batch": 2}, InputError, "batch is for a task"),
    "batch_of_none": ({"task": Adding(), "batch": 0}, InputError, "batch should be 1 or more"),
    "recorder": ({"inputs": X, "record": ["product_nrom"]}, UnknownNameError, "did you mean 'product_norm'"),
    "recorder_text": ({"inputs": X, "record": "product_norm"}, InputError, "list of recorder names"),
    "no_recorder": ({"inputs": X, "record": []}, InputError, "at least one"),
    "class": (
        {"inputs": X, "mitigations": [ClipNorm]},
        PluginError,
        "should be a Mitigation object.*call it",
    ),
    "not_a_mitigation": ({"inputs": X, "mitigations": ["clip_norm"]}, PluginError, "should be a Mitigation"),
    "seed": ({"inputs": X, "rng": -1}, InputError, "non-negative int"),
    "seed_text": ({"inputs": X, "rng": "1"}, InputError, "non-negative int"),
    "threads": ({"inputs": X, "threads": 0}, InputError, "threads should be 1 or more"),
    "memory": ({"inputs": X, "memory": 1e6}, BudgetError, r"least 8\.4 MB of memory and 1 MB is available"),
    "lag": ({"inputs": X, "pairs": {"max_lag": -1}}, InputError, "max_lag should be 0 or more"),
    "times": ({"inputs": X, "pairs": {"times": (7,)}}, InputError, r"times should lie in 0..6 \(got \[7\]\)"),
    "no_sources": ({"inputs": X, "pairs": {"sources": ()}}, InputError, "sources should lie in 0..6"),
    "initial_state": (
        {"inputs": X, "initial_state": np.zeros(5)},
        InputError,
        r"shape \(4,\) or \(3, 4\), got \(5,\)",
    ),
    "param_name": (
        {"inputs": X, "params": {"w": 1}},
        UnknownNameError,
        "unknown parameter 'w'; did you mean 'W'",
    ),
    "param_shape": ({"inputs": X, "params": {"W": np.eye(3)}}, InputError, r"shape \(3, 3\) where \(4, 4\)"),
    "param_missing": ({"inputs": X, "params": {"W": np.eye(4)}}, InputError, r"params lack \['U', 'b'\]"),
    "param_nan": (
        {"inputs": X, "params": {"W": np.full((4, 4), np.nan), "U": np.zeros((4, 2)), "b": np.zeros(4)}},
        NonFiniteError,
        r"params\['W'\] is nan .* index \(0, 0\)",
    ),
}


def simulate_elman(pairs=None, **arguments):
    chosen = None if pairs is None else Pairs(**pairs)
    return gradsim.simulate(Elman(2, 4), pairs=chosen, **arguments)


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gives_a_clear_error(case):
    arguments, error, message = BAD[case]
    with pytest.raises(error, match=message):
        simulate_elman(**arguments)


def test_all_mistakes_in_parameters_at_once():
    with pytest.raises(InputError) as error:
        Elman(input_size=0, hidden_size=2.5, activation="tan", gain=-1)
    message = str(error.value)
    for part in (
        "input_size should be greater than 0 (got 0)",
        "hidden_size should",
        "(got 2.5)",
        "activation should be 'tanh', 'relu' or 'logistic' (got 'tan')",
        "gain should",
    ):
        assert part in message


def test_a_class_instead_of_a_cell_is_named():
    with pytest.raises(InputError, match="call the class"):
        gradsim.simulate(Elman, X)


@dataclass(frozen=True, eq=False)
class Bad(Cell):
    """A cell that breaks one rule of `step`."""

    name = "bad"
    rule: str
    input_size: int = 2

    @property
    def blocks(self):
        return {"h": 3}

    def init_params(self, rng):
        return {"w": np.ones(3)}

    def step(self, params, state, inputs, xp):
        if self.rule == "changes":
            state *= 2
        if self.rule == "shape":
            return state[..., :2]
        if self.rule == "dtype":
            return (state + params["w"]).astype("float16")
        return state + xp.log(inputs[..., :1]) if self.rule == "nan" else state * params["w"]


@pytest.mark.parametrize(
    ("rule", "error", "message"),
    [
        ("changes", PluginError, r"step\(\) changes its argument state"),
        ("shape", PluginError, r"returned shape \(3, 2\) for a state of shape \(3, 3\)"),
        ("dtype", PluginError, "returned dtype float16 for float64"),
        ("nan", NonFiniteError, r"the state is nan for the first time at time \d, batch \d"),
    ],
)
def test_a_step_that_breaks_the_contract_is_named(rule, error, message):
    with pytest.raises(error, match=message):
        gradsim.simulate(Bad(rule), X, initial_state=np.ones(3))


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


def test_labels_and_provenance():
    ds = gradsim.simulate(
        LSTM(1, 4),
        task=Sunspots(length=12),
        mitigations=[ClipNorm(0.5)],
        rng=11,
        record=["state", "step_jacobian", "jacobian_product", "product_norm", "effective_gradient"],
    )
    for name, variable in ds.variables.items():
        assert variable.attrs["long_name"], name
    for name in ds.data_vars:
        assert ds[name].attrs["units"], name
    assert ds.jacobian_product.dims == ("time", "source", "batch", "state_out", "state_in")
    assert list(ds.block_out.values) == ["h"] * 4 + ["c"] * 4
    assert (ds.time[0], ds.time[-1], ds.step[0], ds.step[-1]) == (0, 12, 1, 12)
    assert all(isinstance(v, str | int | float) for v in ds.attrs.values())
    record = json.loads(ds.attrs["provenance"])
    assert record["cell"] == {
        "name": "lstm",
        "input_size": 1,
        "hidden_size": 4,
        "forget_bias": 1.0,
        "gain": 1.0,
    }
    sunspots = {"name": "sunspots", "length": 12, "ahead": 1, "split": [1.0, 0.0, 0.0]}
    assert record["task"] == sunspots
    assert record["seed"]["entropy"] == "11"
    assert record["plugins"]["lstm"].startswith("gradsim ")
    assert record["versions"]["numpy"] == np.__version__


def test_a_block_is_selected_by_name():
    ds = gradsim.simulate(LSTM(2, 4), X, record=["jacobian_product"])
    dh_dc = ds.jacobian_product.sel(time=5, source=2).where(
        (ds.block_out == "h") & (ds.block_in == "c"), drop=True
    )
    assert dh_dc.shape == (3, 4, 4)
    np.testing.assert_array_equal(dh_dc, ds.jacobian_product.values[5, 2, :, :4, 4:])


def test_the_default_loss_is_the_sum_of_the_last_outputs():
    ds = gradsim.simulate(LSTM(2, 4), X, record=["state", "adjoint", "loss"])
    assert ds.attrs["loss"] == pytest.approx(float(ds.state[-1, :, :4].sum() / 3), rel=1e-14)
    assert ds.loss[:-1].sum() == 0
    np.testing.assert_array_equal(ds.adjoint[-1], np.tile([1 / 3] * 4 + [0] * 4, (3, 1)))


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


# Mitigations that break their contract.


def broken(hook, impl):
    """A mitigation with this one hook implementation."""
    cls = type("Broken", (Mitigation,), {"name": "broken", "__annotations__": {}, hook: impl})
    return dataclass(frozen=True, eq=False)(cls)()


@hookimpl(wrapper=True)
def forgets(self):
    yield


@hookimpl
def replaces(self):
    return None


@hookimpl(wrapper=True)
def misspelt(self):
    return (yield)


@hookimpl(wrapper=True)
def wrong_shape(self):
    adjoint = yield
    return adjoint[..., :1]


@hookimpl(wrapper=True)
def unknown_argument(self, gradiant):
    return (yield)


@pytest.mark.parametrize(
    ("hook", "impl", "message"),
    [
        ("gradsim_adjoint", forgets, r"Broken\(\): gradsim_adjoint returned None; .*`return`"),
        ("gradsim_gradient", forgets, "gradsim_gradient returned None"),
        ("gradsim_jacobians", forgets, "gradsim_jacobians returned None"),
        ("gradsim_penalty", forgets, "gradsim_penalty returned None"),
        ("gradsim_cell", forgets, "gradsim_cell returned None"),
        ("gradsim_params", forgets, "gradsim_params returned None"),
        ("gradsim_adjoint", replaces, r"should be a wrapper; write @hookimpl\(wrapper=True\)"),
        ("gradsim_backward_stp", misspelt, "unknown hook 'gradsim_backward_stp'"),
        ("gradsim_adjoint", wrong_shape, r"returned shape \(3, 1\) for an adjoint of shape \(3, 4\)"),
        ("gradsim_gradient", unknown_argument, "gradiant"),
    ],
)
def test_a_broken_mitigation_is_named(hook, impl, message):
    record = ["effective_gradient"]
    with pytest.raises(PluginError, match=message):
        gradsim.simulate(Elman(2, 4), X, mitigations=[broken(hook, impl)], record=record)


def test_an_error_inside_a_mitigation_comes_out_unchanged():
    @hookimpl(wrapper=True)
    def fails(self):
        yield
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        gradsim.simulate(
            Elman(2, 4),
            X,
            mitigations=[broken("gradsim_gradient", fails)],
            record=["effective_gradient"],
        )


def test_the_same_object_twice_is_refused():
    clip = ClipNorm()
    with pytest.raises(PluginError, match="same object"):
        gradsim.simulate(Elman(2, 4), X, mitigations=[clip, clip])
    gradsim.simulate(Elman(2, 4), X, mitigations=[ClipNorm(), ClipNorm()])


def test_plan_counts_pairs_and_bytes():
    plan = gradsim.prepare(Linear(2, 4), X, record=["product_norm", "jacobian_product"]).plan
    p = plan.problem
    assert p.pair_count == 28
    assert p.product_count == 21
    assert plan.data_bytes == 7 * 7 * 3 * (2 + 16) * 8
    band = gradsim.prepare(Linear(2, 4), X, pairs=Pairs(max_lag=2)).plan.problem
    assert (band.pair_count, band.product_count) == (7 + 6 + 5, 6 + 5)
    few = gradsim.prepare(Linear(2, 4), X, pairs=Pairs(times=(3, 5), sources=(1, 4))).plan.problem
    assert (few.pair_count, few.product_count) == (3, 5)

"""What a training writes into its dataset, next to simulations of the same batches."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr
from byhand import identical, start, trained
from small import Given, Labelled, Noisy, Stream

import gradsim
from gradsim import Pairs
from gradsim.data.schema import DIMS
from gradsim.run.seeds import Seeds
from gradsim.training.settings import Probe
from gradsim.training.verb import train
from gradsim_cells import LSTM, Elman
from gradsim_mitigations import ClipNorm, Truncate, WeightDecay
from gradsim_optimizers import SGD, Adam

EVERYTHING = {
    "optimizer": Adam(0.01),
    "updates": 7,
    "batch": 2,
    "mitigations": [WeightDecay(0.01), Truncate(3, 4), ClipNorm(0.2)],
    "record": {"every": 3, "recorders": ["product_norm", "lyapunov", "effective_adjoint_norm"], "batch": 2},
    "validate": {"every": 3},
}
UPDATE = ("update",)
DIMS_OF = {
    "train_loss": UPDATE,
    "train_gradient_norm": UPDATE,
    "train_gradient_factor": UPDATE,
    "train_gradient_norm_by_param": ("update", "param"),
    "learning_rate": UPDATE,
    "train_adjoint_norm_log10": ("update", "train_lag"),
    "train_horizon": UPDATE,
    "spectral_radius": ("update", "weight_block"),
    "train_penalty": UPDATE,
    "validation_loss": ("validation_update",),
    "validation_score": ("validation_update",),
    "product_norm": ("probe_update", "time", "source", "batch"),
    "product_norm_log10": ("probe_update", "time", "source", "batch"),
    "lyapunov": ("probe_update", "batch", "mode"),
    "effective_adjoint_norm": ("probe_update", "time", "batch"),
    "effective_adjoint_norm_log10": ("probe_update", "time", "batch"),
}


@pytest.fixture(scope="module")
def everything():
    return train(LSTM(2, 3), Labelled(), **EVERYTHING)


def test_dims_and_labels_of_every_variable(everything):
    params = {n for n in everything.data_vars if n.startswith("trained_")}
    assert {n: v.dims for n, v in everything.data_vars.items() if n not in params} == DIMS_OF
    for name, variable in everything.data_vars.items():
        assert variable.attrs["long_name"], name
        assert variable.attrs["units"] == ("step" if name == "train_horizon" else variable.attrs["units"])
    for name in ("update", "probe_update", "validation_update", "train_lag", "weight_block", "param", "time"):
        assert everything[name].attrs["long_name"] == DIMS[name]
    assert everything.sizes["time"] == 6
    np.testing.assert_array_equal(everything["update"], np.arange(1, 8))
    np.testing.assert_array_equal(everything.probe_update, [0, 3, 6])
    np.testing.assert_array_equal(everything.validation_update, [0, 3, 6, 7])
    np.testing.assert_array_equal(everything.train_lag, [0, 1, 2, 3, 4, 5])
    assert list(everything.param.values) == [n.removeprefix("trained_") for n in _in_order(everything)]


def _in_order(ds):
    return [n for n in ds.data_vars if n.startswith("trained_")]


def test_nothing_is_missing_but_what_was_not_computed(everything):
    seldom = {"train_horizon", "spectral_radius", "train_adjoint_norm_log10"}
    within = everything.product_norm.time >= everything.product_norm.source
    for name, variable in everything.data_vars.items():
        if name not in seldom:
            values = variable.where(within, 0) if name.startswith("product") else variable
            assert not np.isnan(values).any(), name


def test_attributes_are_strings_and_numbers(everything):
    assert all(type(value) in (str, int, float) for value in everything.attrs.values())
    told = {n: everything.attrs[n] for n in ("cell", "task", "optimizer", "metric", "baseline", "ended")}
    assert told == {
        "cell": "lstm",
        "task": "labelled",
        "optimizer": "adam",
        "metric": "accuracy",
        "baseline": "guess",
        "ended": "after all updates",
    }
    assert everything.attrs["baseline_loss"] == np.log(2)
    assert everything.attrs["baseline_score"] == 0.5
    assert (
        everything.attrs["mitigations"] == "jacobians: truncate; penalty: weight_decay; gradient: clip_norm"
    )
    assert everything.attrs["loss"] == everything.train_loss[-1]
    provenance = json.loads(everything.attrs["provenance"])
    assert provenance["training"]["optimizer"]["learning_rate"] == 0.01
    assert provenance["training"]["updates"] == 7
    assert provenance["training"]["record"]["every"] == 3
    assert provenance["seed"]["entropy"] == "0"


def test_the_store_holds_the_same(everything, tmp_path):
    stored = train(LSTM(2, 3), Labelled(), **EVERYTHING, store=tmp_path / "run")
    xr.testing.assert_identical(stored.load(), everything)
    plain = xr.open_zarr(tmp_path / "run" / "data.zarr", chunks=None).load()
    for name in everything.variables:
        xr.testing.assert_equal(plain[name].variable, everything[name].variable)
    assert set(plain.coords) == set(everything.coords)
    assert plain.attrs == everything.attrs
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["data.zarr", "manifest.json", "run.json"]


@pytest.mark.parametrize("cell", [Elman(1, 3), Noisy(1, 3)], ids=lambda c: c.name)
def test_a_probe_is_the_simulation_with_the_parameters_so_far(cell):
    names, pairs = ("product_norm", "adjoint_norm", "effective_adjoint_norm", "lyapunov"), Pairs(max_lag=3)
    probe = Probe(every=2, recorders=names, batch=3, pairs=pairs)
    setting = {"optimizer": Adam(0.05), "batch": 2, "mitigations": [Truncate(2, 2)]}
    task = Stream()
    ds = train(cell, task, updates=5, record=probe, **setting)
    seen = Stream().take("validation", np.arange(3))
    for update in (0, 2, 4):
        so_far = trained(train(cell, Stream(), updates=update or 1, **setting))
        params = (
            so_far if update else trained(train(cell, Stream(), updates=1, optimizer=SGD(1e-300), batch=2))
        )
        run = gradsim.simulate(
            cell,
            task=Given(task, seen),
            batch=3,
            params=params,
            mitigations=setting["mitigations"],
            record=names,
            pairs=pairs,
            rng=Seeds(0).within("probe").seed,
        )
        here = ds.sel(probe_update=update)
        for name, variable in run.data_vars.items():
            assert here[name].dims == variable.dims
            assert here[name].values.tobytes() == variable.values.tobytes(), name
            assert here[name].attrs == variable.attrs
        for name in run.coords:
            np.testing.assert_array_equal(here[name], run[name])


def test_a_task_that_is_solved_from_the_start_takes_no_update(tmp_path):
    setting = {"optimizer": SGD(0.1), "updates": 5, "batch": 2, "validate": {"every": 2}}
    setting |= {"stop": {"loss_below": 1e6}, "params": start(Elman(2, 2), Labelled())}
    in_memory = train(Elman(2, 2), Labelled(), **setting)
    stored = train(Elman(2, 2), Labelled(), **setting, store=tmp_path / "run")
    assert in_memory.sizes["update"] == 0
    assert in_memory.attrs["trained_update"] == 0
    for name, value in trained(in_memory).items():
        np.testing.assert_array_equal(value, setting["params"][name])
    assert identical(stored, in_memory)

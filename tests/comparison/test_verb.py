"""Cells side by side: the numbers of `simulate`, the protocol in coordinates, refusals before a run."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr

import gradsim
from gradsim import analysis, compare, matched, prepare_comparison, simulate
from gradsim.comparison import prepared
from gradsim.errors import BudgetError, InputError, NonFiniteError, OutOfRangeWarning
from gradsim.run.launch import Running
from gradsim.run.matching import parameter_count
from gradsim_cells import GRU, LEM, LSTM, URNN, Elman, Linear, Stack
from gradsim_tasks import Adding

CELLS = {
    "lstm": LSTM(2, 4),
    "gru": GRU(2, 3),
    "small": Elman(2, 3),
    "deep": Stack((Elman(2, 3), Elman(3, 2))),
}
RECORD = ["product_norm", "adjoint_norm", "gradient_norm", "leading_lyapunov", "block_norm"]


@pytest.fixture
def inputs(rng):
    return rng.standard_normal((12, 2, 2))


def same(ds, one, **member):
    """That a member of a comparison is what a simulation recorded, in all its variables."""
    found = ds.sel(member)
    for name, variable in one.data_vars.items():
        there = {d: variable[d] for d in variable.dims if d in one.coords}
        np.testing.assert_array_equal(found[name].sel(there), variable, strict=True)


@pytest.mark.parametrize("match", [None, "params", "state"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_every_member_has_the_numbers_of_its_simulation(inputs, match, dtype):
    seeds, how = (5, 0), {"record": RECORD, "dtype": dtype}
    ds = compare(CELLS, inputs=inputs, seeds=seeds, match=match, **how)
    sized = matched(CELLS, **{match: ds.budget.values[0]}) if match else CELLS
    assert list(ds.cell.values) == list(CELLS)
    assert tuple(ds.seed.values) == seeds
    for label, cell in sized.items():
        for seed in seeds:
            same(ds, simulate(cell, inputs, rng=seed, **how), cell=label, seed=seed)


def test_a_task_gives_all_cells_the_same_of_each_seed():
    ds = compare(CELLS, task=Adding(length=20), batch=300, seeds=2, record=["loss", "adjoint_norm"])
    for seed in (0, 1):
        one = simulate(
            GRU(2, 3), task=Adding(length=20), batch=300, rng=seed, record=["loss", "adjoint_norm"]
        )
        same(ds, one, cell="gru", seed=seed)


def test_the_protocol_is_in_coordinates(inputs):
    cells = {**CELLS, "unitary": URNN(2, 6), "free": LEM(2, 3)}
    ds = compare(cells, inputs=inputs, seeds=1, match="params", budget=200)
    sized = matched(cells, params=200)
    told = ds.drop_dims(set(ds.dims) - {"cell"}).coords.to_dataset().to_dataframe()
    assert (
        list(told.loc["deep"][["hidden_size", "state_size"]])
        == [sum(c.hidden_size for c in sized["deep"].cells)] * 2
    )
    for label, cell in sized.items():
        assert told.loc[label, "state_size"] == cell.state_size
        assert told.loc[label, "param_count"] == parameter_count(cell)
        assert told.loc[label, "budget_deviation"] == pytest.approx(parameter_count(cell) / 200 - 1)
        assert -0.5 < told.loc[label, "budget_deviation"] <= 0
    assert (
        told.loc["unitary", "all_param_count"]
        == told.loc["unitary", "param_count"] + sized["unitary"].hidden_size ** 2
    )
    assert set(told["match"]) == {"params"}
    assert set(told["budget"]) == {200}
    assert told.loc["lstm", "derivatives"] == "analytic"
    assert told.loc["free", "derivatives"] == "autograd"
    provenance = json.loads(ds.attrs["provenance"])
    assert provenance["comparison"] == {"match": "params", "budget": 200, "seeds": [0]}
    assert provenance["cells"]["gru"]["cell"]["hidden_size"] == sized["gru"].hidden_size
    assert provenance["steps"] == 12


def test_the_budget_is_that_of_the_first_cell(inputs):
    ds = compare(CELLS, inputs=inputs, seeds=1, match="params")
    assert set(ds.budget.values) == {parameter_count(LSTM(2, 4))}
    assert ds.hidden_size.values[0] == 4
    assert set(compare(CELLS, inputs=inputs, seeds=1, match="state").state_size.values) <= {7, 8}


def test_without_a_match_cells_are_as_they_are_given(inputs):
    ds = compare([LSTM(2, 4), GRU(2, 7)], inputs=inputs)
    assert list(ds.cell.values) == ["lstm", "gru"]
    assert list(ds.seed.values) == [0, 1, 2]
    assert list(ds.hidden_size.values) == [4, 7]
    assert "budget" not in ds.coords


def test_names_of_all_are_joined_along_a_dim(inputs):
    ds = compare(CELLS, inputs=inputs, seeds=1, record=["gradient_norm", "block_norm"])
    assert list(ds.param.values[:3]) == ["W", "U", "b"]
    assert {"layer0_W", "layer1_b"} <= set(ds.param.values)
    there = ds.gradient_norm.sel(seed=0).notnull()
    assert list(there.sel(param="layer0_W").values) == [False, False, False, True]
    assert list(there.sel(param="b").values) == [True, True, True, False]
    assert ds.block_norm.sel(cell="gru", to_block="c").isnull().all()


def test_states_of_one_layout_stand_side_by_side(inputs):
    ds = compare({"a": Elman(2, 3), "b": GRU(2, 3)}, inputs=inputs, seeds=1, record=["state", "lyapunov"])
    same(ds, simulate(GRU(2, 3), inputs, record=["state", "lyapunov"]), cell="b", seed=0)
    assert float(analysis.kaplan_yorke(ds).max()) == 0


def test_the_gain_is_relative_to_each_cell_and_its_blocks(inputs):
    cells = {"lstm": LSTM(2, 4), "other": LSTM(2, 6)}
    for pairs in (None, gradsim.Pairs(blocks_out=("h",), blocks_in=("c",))):
        ds = compare(cells, inputs=inputs, seeds=[3], record=["product_norm"], pairs=pairs)
        for label, cell in cells.items():
            one = simulate(cell, inputs, rng=3, record=["product_norm"], pairs=pairs)
            for found in (analysis.gain(ds).sel(cell=label), analysis.gain(ds.sel(cell=label))):
                np.testing.assert_array_equal(found.gain.sel(seed=3), analysis.gain(one).gain)
                np.testing.assert_allclose(found.gain_log10.sel(seed=3), analysis.gain(one).gain_log10)


@pytest.mark.parametrize("pairs", [gradsim.Pairs(max_lag=8), gradsim.Pairs(times=(12,))])
def test_an_analysis_of_all_is_that_of_each(inputs, pairs):
    ds = compare(CELLS, inputs=inputs, seeds=2, record=["product_norm"], pairs=pairs)
    member = {"cell": "small", "seed": 1}
    for find in (analysis.gain_by_lag, analysis.horizon, analysis.decay_rate, analysis.gain):
        found, one = find(ds), find(ds.sel(member))
        assert list(found.cell.values) == list(CELLS)
        for name, values in one.data_vars.items():
            np.testing.assert_array_equal(found.sel(member)[name].transpose(*values.dims), values)


def test_seeds_are_taken_together_where_that_is_asked_for(inputs):
    ds = compare(CELLS, inputs=inputs, seeds=3, record=["product_norm"])
    log10 = analysis.gain(ds).gain_log10.sel(cell="gru", time=12, source=2)
    together = analysis.gain_by_lag(ds.sel(source=[2]), apart=("cell",))
    assert together["median"].dims == ("cell", "lag")
    assert float(together["median"].sel(cell="gru", lag=10)) == pytest.approx(float(log10.median()))
    assert int(together["count"].sel(cell="gru", lag=10)) == 6
    assert analysis.horizon(ds, apart=("cell",)).horizon.dims == ("cell",)


@pytest.mark.parametrize(
    ("record", "cells", "message"),
    [
        (
            "state",
            ("lstm", "gru"),
            "state of lstm and gru .* dim component is not the same in both, 8 and 3 long",
        ),
        ("state", ("gru", "deep"), "state of gru and deep .*component is not the same in both, 3 and 5"),
        ("lyapunov", ("lstm", "gru"), "dim mode is not the same.* Leave 'lyapunov' out of record"),
        ("gradient", ("gru", "deep"), "gradient_W of gru and deep cannot stand side by side: deep has none"),
        (
            "step_jacobian",
            ("lstm", "gru"),
            "Leave 'step_jacobian' out of record, and simulate each cell for it",
        ),
    ],
)
def test_what_is_of_another_size_in_each_is_refused_before_anything_runs(
    inputs, monkeypatch, record, cells, message
):
    monkeypatch.setattr(prepared, "executed", None)
    with pytest.raises(InputError, match=message):
        compare({n: CELLS[n] for n in cells}, inputs=inputs, record=["product_norm", record])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cells": {}}, "cells should hold at least one cell"),
        ({"cells": LSTM(2)}, "cells should be a table or a list"),
        ({"cells": [LSTM(2), LSTM(2, 3)]}, "several are called 'lstm'; label them"),
        ({"cells": ["lstm"]}, "cells.0 should be an instance of Cell"),
        ({"cells": [LSTM(2), GRU(3)]}, "gru: inputs have 2 features"),
        ({"seeds": 0}, "seeds should be greater than 0"),
        ({"seeds": [1, 1]}, "list without repetition"),
        ({"seeds": []}, "list without repetition"),
        ({"seeds": [-1]}, "seeds.0 should be greater than or equal to 0"),
        ({"budget": 100}, "give match='params' or match='state', too"),
        ({"match": "units"}, "match should be 'params' or 'state'"),
        ({"match": "params", "budget": 0}, "budget should be greater than 0"),
        ({"match": "params", "budget": 3}, "lstm: the smallest LSTM"),
        ({"record": ["product_nrom"]}, "lstm: unknown recorder 'product_nrom'; did you mean 'product_norm'"),
        ({"record": []}, "lstm: record should be a list of recorder names"),
        ({"task": Adding(length=20)}, "lstm: give inputs, .* or a task"),
    ],
)
def test_bad_arguments_are_refused_before_anything_runs(inputs, monkeypatch, arguments, message):
    monkeypatch.setattr(prepared, "executed", None)
    with pytest.raises((InputError, LookupError), match=message):
        compare(**{"cells": CELLS, "inputs": inputs, **arguments})


def test_a_cell_that_fails_names_itself(inputs):
    cells = {"tame": Elman(2, 3), "wild": Linear(2, 3, recurrent_scale=1e300)}
    with pytest.raises(NonFiniteError, match=r"wild, seed 0: .*state"):
        compare(cells, inputs=inputs)


def test_numbers_out_of_range_are_told_by_cell():
    cells = {"tame": Elman(1, 3), "wild": Linear(1, 3, recurrent_scale=1e60)}
    with pytest.warns(OutOfRangeWarning, match="wild, seed 4: values too large .*product_norm") as told:
        ds = compare(cells, inputs=np.zeros((8, 1, 1)), seeds=[4], record=["product_norm"])
    assert len(told) == 1
    assert np.isinf(ds.product_norm.sel(cell="wild").max())
    assert np.isfinite(ds.product_norm_log10.sel(cell="wild").max())


def test_a_run_folder_holds_the_same(inputs, tmp_path):
    ds = compare(CELLS, inputs=inputs, seeds=2, match="state", record=RECORD)
    stored = compare(CELLS, inputs=inputs, seeds=2, match="state", record=RECORD, store=tmp_path / "run")
    xr.testing.assert_identical(stored.load(), ds)
    assert gradsim.open_run(tmp_path / "run").sizes == ds.sizes


def test_a_large_comparison_is_refused(inputs, tmp_path):
    with pytest.raises(BudgetError, match=r"lstm: this run needs at least .*"):
        compare(CELLS, inputs=inputs, memory=1000)
    fits = prepare_comparison([Elman(2, 2)], inputs=np.ones((30, 1, 2)), seeds=3000, record=["product_norm"])
    with pytest.raises(
        BudgetError, match=r"1 cells and 3000 seeds make .* of data and .* of memory is available"
    ):
        fits.run(memory=1e7)
    with pytest.raises(BudgetError, match=r"of disk is available; compare fewer of them"):
        fits.refuse_beyond(None, 1e6)


def test_progress_goes_through_all_runs(inputs):
    comparison = prepare_comparison(CELLS, inputs=inputs, seeds=2, record=["product_norm"])
    done = []
    sink = comparison.memory_sink()
    running = Running(sink, 1, None)
    comparison.execute(running, lambda stage, work: done.append((stage, work)))
    assert {stage.partition(":")[0] for stage, _ in done} == set(CELLS)
    assert sum(work for _, work in done) == pytest.approx(comparison.work, rel=0.01)

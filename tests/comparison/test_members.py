"""Mitigations side by side: the numbers of `simulate`, what does not exist, what a gradient costs."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pytest
import xarray as xr

import gradsim
from gradsim import analysis, compare, simulate
from gradsim.comparison import prepared
from gradsim.comparison.costs import MEASURED
from gradsim.comparison.verb import MITIGATED, RECORD
from gradsim.contracts.hooks import hookimpl
from gradsim.contracts.mitigation import Mitigation
from gradsim.errors import InputError, PluginError
from gradsim_cells import GRU, Elman, Stack
from gradsim_mitigations import RTRL, ClipNorm, Dilate, Gate, Immediate, Skip, Truncate

CELLS = {"elman": Elman(2, 3), "gru": GRU(2, 3)}
CHOSEN = {
    "short": Truncate(1, 3),
    "clipped": [Truncate(1, 3), ClipNorm(1e-3)],
    "adjoint": ClipNorm(0.1, where="adjoint"),
    "rule": Immediate(),
    "gated": Gate(),
}


@pytest.fixture
def inputs(rng):
    return rng.standard_normal((10, 2, 2))


def exist(names, *, without):
    return [n for n in names if not any(n.startswith(w) for w in without)]


@pytest.fixture(scope="module")
def compared():
    inputs = np.random.default_rng(3).standard_normal((10, 2, 2))
    return inputs, compare(CELLS, inputs=inputs, mitigations=CHOSEN, seeds=[4, 1])


@pytest.mark.parametrize(
    ("label", "without"),
    [
        ("short", ()),
        ("clipped", ()),
        ("gated", ()),
        ("adjoint", ("effective_product",)),
        ("rule", ("effective_product", "effective_adjoint", "adjoint_energy")),
    ],
)
def test_every_member_has_the_numbers_of_its_simulation(compared, label, without):
    inputs, ds = compared
    chosen = CHOSEN[label] if isinstance(CHOSEN[label], list) else [CHOSEN[label]]
    record = exist([*RECORD, *MITIGATED], without=without)
    one = simulate(CELLS["gru"], inputs, mitigations=chosen, rng=1, record=record)
    found = ds.sel(cell="gru", mitigation=label, seed=1)
    for name, values in one.data_vars.items():
        along = {d: values[d] for d in values.dims if d in one.coords}
        np.testing.assert_array_equal(found[name].sel(along), values)
    missing = [n for n in ds if n not in one and n.startswith(("effective", "adjoint_energy"))]
    assert bool(missing) == bool(without)
    assert all(found[n].isnull().all() for n in missing)


def test_without_mitigations_comes_first_and_is_exact(compared):
    _, ds = compared
    assert list(ds.mitigation.values) == ["none", *CHOSEN]
    none = ds.sel(mitigation="none")
    assert float(none.overall_gradient_bias.max()) == 0
    np.testing.assert_array_equal(none.effective_product_norm, none.product_norm)
    for label in ("short", "clipped", "adjoint", "rule"):  # the same trajectory for all that leave the cell
        np.testing.assert_array_equal(ds.product_norm.sel(mitigation=label), none.product_norm)
        assert float(ds.overall_gradient_bias.sel(mitigation=label).min()) > 0


def test_the_order_is_kept_and_told(compared):
    _, ds = compared
    assert str(ds.phases.sel(mitigation="clipped").values) == "jacobians: truncate; gradient: clip_norm"
    assert str(ds.phases.sel(mitigation="none").values) == "none"
    told = json.loads(ds.attrs["provenance"])
    assert [m["name"] for m in told["mitigations"]["clipped"]["mitigations"]] == ["truncate", "clip_norm"]
    assert "rule immediate" in told["mitigations"]["rule"]["absent"]["effective_product_norm"]
    assert told["comparison"]["replicates"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mitigations": {"none": ClipNorm()}}, "'none' stands for none at all"),
        ({"mitigations": [ClipNorm(), ClipNorm(2.0)]}, "several are called 'clip_norm'; label them"),
        (
            {"mitigations": [[RTRL(), ClipNorm(where="adjoint")]]},
            "rtrl puts a rule in place .* clip_norm would change",
        ),
        ({"mitigations": [[RTRL(), Immediate()]]}, "rtrl and immediate both put a rule in place"),
        (
            {"mitigations": [RTRL()], "record": ["effective_product_norm"]},
            "elman, rtrl: .* under the rule rtrl",
        ),
        ({"replicates": 3}, "give mitigations, too"),
        (
            {"cells": {"a": Elman(2, 3), "a, b": GRU(2, 3)}, "mitigations": {"b, c": RTRL(), "c": Gate()}},
            "two runs would be called 'a, b, c'; give cells or mitigations other labels",
        ),
        ({"mitigations": ["clip_norm"]}, "should hold mitigations, or lists of them"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_runs(inputs, monkeypatch, arguments, message):
    monkeypatch.setattr(prepared, "executed", None)
    with pytest.raises((InputError, PluginError), match=message):
        compare(**{"cells": CELLS, "inputs": inputs, **arguments})


@dataclass(frozen=True, eq=False)
class Doubled(Mitigation):
    """Put a second cell on top."""

    name = "doubled"

    @hookimpl(wrapper=True)
    def gradsim_cell(self):
        cell = yield
        return Stack((cell, Elman(3, 3)))


LARGER = {"skip": Skip(3, 0.5), "dilated": Dilate(2), "doubled": Doubled(), "short": Truncate(1, 3)}


@pytest.fixture(scope="module")
def larger():
    inputs = np.random.default_rng(5).standard_normal((10, 2, 2))
    return inputs, compare(CELLS, inputs=inputs, mitigations=LARGER, seeds=[4, 1])


def test_gains_are_relative_to_the_state_that_mitigations_make(larger):
    """Along cell and mitigation, in what is made of the comparison, too."""
    inputs, ds = larger
    sizes = {"none": (3, 3), "skip": (9, 9), "dilated": (6, 6), "doubled": (6, 6), "short": (3, 3)}
    for label, expected in sizes.items():
        assert ds.state_size.sel(mitigation=label).values.tolist() == list(expected)
    assert ds.param_count.sel(mitigation="doubled").values.tolist() == [18 + 21, 63 + 21]
    assert ds.hidden_size.dims == ("cell",)
    for name in ("skip", "dilated", "doubled"):
        found = ds.sel(mitigation=name, cell="gru", seed=1)
        record = [n for n in [*RECORD, *MITIGATED] if n in ds]
        one = simulate(CELLS["gru"], inputs, mitigations=[LARGER[name]], rng=1, record=record)
        for what in ("gain", "effective_gain"):
            np.testing.assert_allclose(analysis.gain(found)[what], analysis.gain(one)[what], rtol=1e-14)
    whole = analysis.gain(ds).gain
    for k in range(11):
        np.testing.assert_allclose(whole.isel(time=k, source=k), 1)
    rates = analysis.decay_rate(ds, samples="batch")
    effects = analysis.effects(ds)
    for made in (rates, effects):
        xr.testing.assert_equal(made.state_size.drop_vars("phases"), ds.state_size.drop_vars("phases"))


def test_a_gain_between_blocks_leads_past_the_older_states(inputs):
    """A dilated cell goes on from every second state; what lies between is zero for all but its memory."""
    pairs = gradsim.Pairs(blocks_out=("h",), blocks_in=("h",))
    ds = compare({"elman": Elman(2, 3)}, inputs=inputs, mitigations=[Dilate(2)], pairs=pairs, seeds=1)
    assert ds.directions.values.tolist() == [[3, 3]]
    plain, dilated = (analysis.by_lag(ds.sel(mitigation=m, cell="elman", seed=0)) for m in ("none", "dilate"))
    assert (plain > 0).where(plain.notnull(), True).all()
    odd = dilated.lag % 2 == 1
    assert float(dilated.sel(lag=odd).max()) == 0
    assert float(dilated.sel(lag=~odd).min()) > 0


def test_a_comparison_of_several_sizes_is_stored_as_it_is(inputs, tmp_path):
    how = {"inputs": inputs, "mitigations": [Skip(2)], "seeds": 1}
    one = compare(CELLS, **how).drop_vars(MEASURED)
    stored = compare(CELLS, store=tmp_path / "run", **how).load().drop_vars(MEASURED)
    xr.testing.assert_identical(stored, one)
    assert stored.state_size.dims == ("cell", "mitigation")


def test_what_is_recorded_by_component_has_no_place_beside_another_state(inputs):
    message = r"adjoint of elman, none and elman, skip cannot .* component .* 3 and 12 long. Leave 'adjoint'"
    with pytest.raises(InputError, match=message):
        compare({"elman": Elman(2, 3)}, inputs=inputs, mitigations=[Skip()], record=["adjoint"])


def test_they_are_called_by_their_names_in_order(inputs):
    chosen = [ClipNorm(), [Truncate(1, 2), ClipNorm()], [ClipNorm(), Truncate(1, 2)]]
    comparison = gradsim.prepare_comparison([Elman(2, 3)], inputs=inputs, mitigations=chosen)
    assert list(comparison.mitigations) == ["none", "clip_norm", "truncate+clip_norm", "clip_norm+truncate"]

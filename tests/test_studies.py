"""Each study runs at its quick size, and its figure shows what it claims."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

import gradsim
from gradsim import plot
from gradsim_mitigations import SnAp

STUDIES = Path(__file__).parents[1] / "studies"
NAMES = sorted(path.stem for path in STUDIES.glob("*.py") if path.stem != "running")


@pytest.fixture(scope="module")
def modules():
    sys.path.insert(0, str(STUDIES))
    yield {name: importlib.import_module(name) for name in [*NAMES, "running"]}
    sys.path.remove(str(STUDIES))


@pytest.fixture(scope="module")
def computed(modules):
    return {name: modules[name].compute(quick=True) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_draws_and_keeps_its_data(modules, computed, name, tmp_path):
    figure = modules[name].plot(computed[name])
    assert isinstance(figure, Figure)
    plot.save(figure, tmp_path / name)
    modules["running"].write(computed[name], tmp_path / name)
    again = modules["running"].read(tmp_path / name)
    assert set(again) == set(computed[name])
    for key, ds in computed[name].items():
        xr.testing.assert_allclose(again[key], ds.astype("float32"), rtol=1e-6, atol=1e-3)
    plot.save(modules[name].plot(again), tmp_path / "again")


@pytest.mark.parametrize("name", NAMES)
def test_is_listed_with_a_figure_of_its_name(name):
    assert f"[{name}.py]({name}.py)" in (STUDIES / "README.md").read_text()
    assert (STUDIES / f"{name}.png").stat().st_size < 450_000
    assert (STUDIES / f"{name}.svg").is_file()


def test_options_from_any_folder(tmp_path):
    script = STUDIES / "vanishing_and_exploding.py"
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    out = subprocess.run(
        [sys.executable, script, "--help"],
        cwd=tmp_path,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert all(option in out for option in ("--quick", "--out", "--redraw"))


@pytest.fixture
def vanishing(computed):
    return computed["vanishing_and_exploding"]


def test_smaller_weights_vanish_faster_and_the_lstm_outlives_it(vanishing):
    rate = {label: float(ds["rate"]) for label, ds in vanishing.items() if "rate" in ds}
    assert rate["Elman, scale 0.45"] < rate["Elman, scale 1"] < 0 < rate["Elman, scale 3"]
    assert rate["Elman, scale 1"] < rate["LSTM, forget bias 1"] < rate["LSTM, forget bias 3"]
    high = {label: float(vanishing[label]["high"]) for label in rate}
    low = {label: float(vanishing[label]["low"]) for label in rate}
    assert high["Elman, scale 1"] < low["LSTM, forget bias 3"]
    assert abs(rate["LSTM, forget bias 3"]) < 0.05


def test_the_gallery_shows_every_cell_within_one_budget(modules, computed):
    study, ds = modules["cell_gallery"], computed["cell_gallery"]["cells"]
    assert list(ds["cell"].values) == list(study.cells())
    assert ds.sizes["cell"] > 50
    np.testing.assert_allclose(ds["median"].sel(lag=0), 0, atol=1e-12)
    assert (ds["param_count"] <= study.BUDGET).all()
    assert (ds["budget_deviation"] > -0.25).all()
    last = ds["median"].isel(lag=-1)
    for name in ("exp_rnn", "urnn", "delta_net"):
        assert float(last.sel(cell=name)) == pytest.approx(0, abs=0.5), name
    assert float(last.sel(cell=["elman", "gru", "min_gru"]).max()) < -2


def test_each_path_starts_at_the_identity_and_the_only_one_of_the_stack_is_all(computed):
    data = computed["which_gate"]
    for ds in data.values():
        for name in ds.data_vars:
            assert float(ds[name][0]) == pytest.approx(0, abs=1e-12)
    stack = data["Residual stack, before"]
    np.testing.assert_allclose(stack["skip"], stack["all"], atol=1e-9)
    assert float(data["GRU, before"]["direct"][-1]) < float(data["GRU, before"]["all"][-1]) - 2


def test_every_exploding_draw_explodes(vanishing):
    assert (vanishing["Elman, scale 3"]["draw_rate"] > 0).all()


def test_a_contracting_network_stays_below_the_bound(vanishing):
    """Pascanu et al. (2013), eq. 7: ||P(t, k)||_2 <= ||U||_2^(t-k), and no gain is above that norm."""
    shown = vanishing["Elman, scale 0.45"]
    largest = float(shown["weight_norm"].max())
    assert largest < 1
    bound = shown["lag"] * np.log10(largest)
    assert (shown["quantiles"].isel(quantile=-1) <= bound + 1e-12).all()
    assert (shown["draw_rate"] <= np.log(shown["weight_norm"])).all()


@pytest.fixture
def clipping(computed):
    return computed["what_clipping_changes"]


def test_clipping_the_norm_keeps_the_direction_and_the_adjoint_does_not(clipping):
    cosine = clipping["cosine by threshold"]
    np.testing.assert_allclose(cosine["clip norm"], 1, rtol=1e-12)
    assert float(np.abs(cosine["clip adjoint"].sel(threshold=1e-3)).max()) < 0.5
    mild, exploding = (cosine[f"clip adjoint{scale}"].median("batch") for scale in (", scale 2", ""))
    assert (mild.values[:2] > exploding.values[:2]).all()


def test_a_window_over_the_whole_sequence_changes_nothing(modules):
    study = modules["what_clipping_changes"]
    assert study._cosine(study.Truncate(k1=30, k2=30), study.EXPLODING, 0, 30) == pytest.approx(1, abs=1e-12)


def test_the_first_steps_own_the_raw_gradient_and_not_the_clipped_one(clipping):
    run = clipping["clip adjoint"]
    late = slice(80, None)
    assert float(run["share_log10"].sel(step=late).median()) < -2
    assert float(run["effective_share_log10"].sel(step=late).median()) > -2
    assert float(run["effective_adjoint_norm_log10"].max()) <= 1e-12


@pytest.fixture(scope="module")
def order(modules):
    """The study as its figure shows it: 60 trainings are no test."""
    return modules["running"].read(STUDIES / "temporal_order")


def test_the_methods_solve_the_temporal_order_as_published(order):
    """Pascanu et al. (2013), figure 7: SGD, then clipped, fails as sequences grow; with Omega it does not."""
    none, clipping, omega = (
        (order[name]["wrong"] < 0.01).sum("seed") for name in ("none", "clipping", "clipping and Omega")
    )
    assert (none <= clipping).all()
    assert (clipping <= omega).all()
    assert none.sum() < clipping.sum() < omega.sum()
    assert (clipping.diff("length") <= 0).all()
    assert (omega == 5).all()


def test_an_unsolved_temporal_order_is_mostly_guessed(order):
    """Hochreiter & Schmidhuber (1997), experiment 6a: of four classes, guessing gets three in four wrong."""
    wrong = order["none"]["wrong"].sel(length=70)
    np.testing.assert_allclose(wrong, 0.75, atol=0.03)


def test_omega_keeps_the_adjoint_of_the_first_symbol(computed):
    """Terms of Omega are (||a_t J_t|| / ||a_t|| - 1)^2: where it is small, norms stay through time."""
    quick = computed["temporal_order"]
    last = {
        name: float(quick[f"{name}, length 50"]["reach_log10"][-1])
        for name in ("clipping", "clipping and Omega")
    }
    assert abs(last["clipping and Omega"]) < 1 < -last["clipping"]


def test_the_temporal_order_starts_as_published(modules):
    """Pascanu et al. (2013), section 4.1: 15 weights for each of 50 units, spectral radius 0.95."""
    study = modules["temporal_order"]
    params = study._start(study.Job("none", 20, 0))
    assert ((params["U"] != 0).sum(axis=1) == 15).all()
    assert np.abs(np.linalg.eigvals(params["U"])).max() == pytest.approx(0.95)


def test_the_adding_problem_by_cell_and_with_the_gradient_cut(modules, computed):
    study, data = modules["adding_problem"], computed["adding_problem"]
    assert set(data) == {*study.CELLS, study.CUT}
    assert pytest.approx(1 / 6) == study.MEAN
    assert 0 < float(data[study.LSTM_64]["horizon"].min()) <= study.TASK.length
    assert (data[study.CUT]["horizon"] <= study.WINDOWS[0]).all()
    assert all(label in study.table(data) for label in data)


def test_real_data_are_learned_from(computed):
    data = computed["real_data"]
    assert float(data["speech"]["test_score"]) > 0.2 > float(data["speech"]["naive_score"].max())
    assert float(data["series"]["test_loss"]) < float(data["series"]["naive_loss"][1].max())
    assert float(data["text"]["validation_loss"][-1]) < float(data["text"]["validation_loss"][0])


def test_baselines_of_real_data_are_those_of_the_tasks(modules, computed):
    for job in modules["real_data"].JOBS:
        ds = computed["real_data"][job.name]
        names = ds["naive_loss"].attrs["names"].split(", ")
        measured = float(ds["naive_loss"][0, names.index(job.task.baseline.name)])
        assert measured == pytest.approx(job.task.baseline.loss, rel=0.01)


def test_a_part_tested_in_one_piece_has_the_loss_of_its_sequences(modules):
    """Without recurrent weights nothing is carried on, and the order of the sequences is of no account."""
    study = modules["real_data"]
    job = study.replace(study.JOBS[-1], units=4, stateful=True)
    rng = np.random.default_rng(0)
    params = job.cell.init_params(rng)
    params |= {"U": 0 * params["U"], "b": np.repeat([0.0, -50.0, 0.0], 4)}  # z = 0: the state is all new
    params |= {"readout_W": rng.standard_normal((job.task.output_size, 4)), "readout_b": np.zeros(1)}
    apart = study._tested(study.replace(job, stateful=False), params)
    np.testing.assert_allclose(study._tested(job, params), apart, rtol=1e-9)


@pytest.fixture(scope="module")
def rules(modules):
    """As its figure shows it: 130 trainings are no test."""
    return modules["running"].read(STUDIES / "without_backpropagation")


@pytest.mark.parametrize("task", ["copy", "adding"])
def test_exact_rules_train_as_backpropagation_does(computed, rules, task):
    quick = computed["without_backpropagation"][task]
    exact = quick.sel(rule=["rtrl", "forward_errors"])
    np.testing.assert_allclose(exact["cosine"], 1, atol=1e-6)
    np.testing.assert_allclose(exact["loss"], quick["loss"].sel(rule=["backpropagation"] * 2), rtol=1e-4)
    np.testing.assert_allclose(rules[task]["cosine"].sel(rule="rtrl"), 1, atol=1e-6)


def test_snap_is_e_prop_in_a_cell_of_one_block(modules):
    study = modules["without_backpropagation"]
    task = study.TASKS["copy"]
    settings = {"task": task, "record": ["effective_gradient"], "rng": 0}
    found = [
        gradsim.simulate(study._cell(task), mitigations=[rule], **settings)
        for rule in (study.EProp(), SnAp())
    ]
    for name in found[0].data_vars:
        np.testing.assert_allclose(*(ds[name] for ds in found), rtol=1e-10, atol=1e-14)


def test_what_reaches_far_enough_learns_to_copy_whatever_its_cosine(rules):
    copy = rules["copy"]
    memory = 2 * np.log(4) / 10
    last, cosine = np.log10(copy["loss"].isel(update=-1)), copy["cosine"].mean("update")
    local, cut = "e_prop, snap", "truncate_forward, 5 steps"
    assert (cosine.sel(rule=local) < cosine.sel(rule=cut)).all()
    assert float(last.sel(rule=local).max()) < np.log10(0.75 * memory)
    assert float(last.sel(rule=cut).mean()) == pytest.approx(np.log10(memory), abs=0.05)


def test_errors_carried_forward_lose_their_direction_as_sequences_grow(rules):
    cosine = rules["at the start"]["cosine"].sel(rule="forward_errors")
    assert float(cosine.sel(length=20).min()) > 0.999
    assert not float(np.abs(cosine.sel(length=200)).max()) > 0.9


def test_what_changes_the_cell_leaves_no_bias_and_rtrl_only_rounding(modules, computed):
    study, start = modules["mitigations_side_by_side"], computed["mitigations_side_by_side"]["start"]
    unbiased = [study.NONE, *study.FAMILIES["architecture"], *study.FAMILIES["start, constraint"]]
    assert (start["bias"].sel(mitigation=unbiased) == 0).all()
    assert float(start["bias"].sel(mitigation="rtrl").max()) < 1e-12
    assert (start["seconds"].sel(mitigation="rtrl") > start["seconds"].sel(mitigation="none")).all()


def test_clipping_and_rules_act_where_they_say(modules, computed):
    study, data = modules["mitigations_side_by_side"], computed["mitigations_side_by_side"]
    np.testing.assert_allclose(data["start"]["cosine"].sel(mitigation="clip_norm"), 1, rtol=1e-12)
    trained = data["trained"]
    by_rule = trained.sel(mitigation=list(study.FAMILIES[study.RULES]))
    assert np.isnan(by_rule["effective_log10"]).all()
    cut = trained["effective_log10"].sel(mitigation="truncate", lag=slice(10, None))
    assert np.isneginf(cut).all()
    none = trained.sel(mitigation=study.NONE)
    np.testing.assert_array_equal(none["raw_log10"], none["effective_log10"])
    assert np.isnan(trained.sel(mitigation="h_detach", cell="elman")["raw_log10"]).all()


def test_gates_and_leaks_keep_what_clipping_does_not(modules):
    left = modules["running"].read(STUDIES / "mitigations_side_by_side")["trained"].sel(lag=40)
    left = left.median("replicate").sel(cell=["elman", "lstm"])
    none = left["effective_log10"].sel(mitigation="none")
    assert (none < -3).all()
    for name in ("gate", "leak", "jacobian_penalty"):
        assert (left["effective_log10"].sel(mitigation=name) > -1.5).all()
    clipped = left.sel(mitigation="clip_norm, adjoint")
    assert (clipped["effective_log10"] < clipped["raw_log10"]).all()

"""What runs come to in one table: gains, rates and horizons with closed forms; validations and baselines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trained

import gradsim
from gradsim.cli.summary import power_of_ten, result, summarise
from gradsim_cells import Linear
from gradsim_mitigations import Truncate


def rotation(scale, **more):
    params = {"U": scale * np.eye(4)[[1, 2, 3, 0]], "W": np.zeros((4, 1))}
    return gradsim.simulate(Linear(1, 4), np.zeros((150, 1, 1)), params=params, **more)


def rows(output):
    return {line.split()[0]: line.split()[1:] for line in output.splitlines() if line.split()}


def test_a_scaled_rotation_has_known_gains_rate_and_horizon(capsys):
    runs = {"shrinks": rotation(0.5), "stays": rotation(1.0), "blind": rotation(0.5, record=["loss"])}
    summarise("simulation", runs, {name: Path(f"in/{name}") for name in runs})
    output = capsys.readouterr().out
    found = rows(output.partition("rate: ")[0])
    assert found["shrinks"][:4] == ["0.5", "0.00098", "7.9e-31", "-0.693"]
    assert "7" in found["shrinks"][4:]  # ln 0.01 / ln 0.5 = 6.6
    assert found["stays"][:3] == ["1", "1", "1"]
    assert abs(float(found["stays"][3])) < 1e-12
    assert ">" in found["stays"]
    assert found["blind"][:5] == ["-"] * 5
    assert "blind: saved in in/blind" in output
    assert 'xarray.open_zarr("in/shrinks/data.zarr")' in output


@pytest.mark.parametrize(
    ("exponent", "words"),
    [(0, "1"), (-2, "0.01"), (np.log10(2.5), "2.5"), (-4000.4, "1e-4000"), (777, "1e+777"), (-np.inf, "0")],
)
def test_powers_of_ten_beyond_the_range(exponent, words):
    assert power_of_ten(exponent) == words


@pytest.fixture(scope="module")
def training():
    return trained.training().assign_attrs(trained_update=16, ended="by hand")


def test_the_validations_are_those_of_the_trained_parameters(training):
    found = result(training)
    at = list(training.validation_update).index(16)
    assert found["validation_loss"] == float(training.validation_loss[at])
    assert found["validation_score"] == float(training.validation_score[at])
    assert found["update"] == training.sizes["update"]
    assert found["ended"] == "by hand"


def test_a_horizon_beyond_the_sequence_is_said_to_be(training, capsys):
    endless = training.assign(train_horizon=np.nan * training.train_horizon)
    assert result(endless)["horizon"] == np.inf
    bare = training[["train_loss"]].drop_attrs().assign_attrs(trained_update=24, loss=0.5, ended="in time")
    summarise("training", {"a": endless, "b": bare}, {"a": Path("x"), "b": Path("y")})
    output = capsys.readouterr().out
    found = rows(output.partition("horizon: ")[0])
    assert found["a"][1:4] == ["beyond", "the", "sequence"]
    assert found["b"] == ["24", "0.5"]
    assert found["baseline:"][0] == "mean"
    assert "b: ended in time; saved in y" in output


def test_where_mitigations_act_is_said_of_a_training(training, capsys):
    acts = "gradient: clip_norm; update: spectral_projection"
    watched = training.assign_attrs(mitigations=acts).assign(overall_gradient_bias=0.0)
    summarise("training", {"a": watched}, {"a": Path("x")})
    assert f"a, acts: {acts}\n" in capsys.readouterr().out


def test_what_mitigations_make_of_a_run_stands_below_it(capsys):
    record = ["product_norm", "effective_product_norm", "gradient_bias", "gradient_cosine"]
    runs = {"short": rotation(0.5, mitigations=[Truncate(1, 5)], record=record), "plain": rotation(0.5)}
    summarise("simulation", runs, {name: Path(f"in/{name}") for name in runs})
    gains, _, gradients = capsys.readouterr().out.partition("Gradient with its mitigations")
    lines = [line.split() for line in gains.splitlines()]
    assert next(line for line in lines if line[:1] == ["short"])[1] == "0.5"
    assert next(line for line in lines if line[:2] == ["short,", "effective"])[2:4] == ["0.5", "0"]
    row = next(line.split() for line in gradients.splitlines() if line.startswith(" short "))
    assert float(row[1]) == pytest.approx(float(runs["short"].overall_gradient_bias), rel=0.01)
    assert row[-2:] == ["jacobians:", "truncate"]
    assert " plain " not in gradients.partition("bias:")[0]

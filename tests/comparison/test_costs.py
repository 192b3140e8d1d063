"""What one gradient costs with some mitigations, and how it varies with what they draw."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import pytest
import xarray as xr

import gradsim_cells
from gradsim import compare, prepare, simulate
from gradsim.comparison import costs
from gradsim.comparison.costs import MEASURED
from gradsim.contracts.hooks import hookimpl
from gradsim.contracts.mitigation import Mitigation
from gradsim.run.launch import Running
from gradsim_cells import GRU, Elman, Linear
from gradsim_mitigations import (
    ClipNorm,
    Dropout,
    GradientNoise,
    Immediate,
    JacobianPenalty,
    Truncate,
    WeightNoise,
    Zoneout,
)
from gradsim_tasks import Adding


@pytest.fixture
def inputs(rng):
    return rng.standard_normal((10, 2, 2))


def test_a_gradient_costs_what_is_planned_and_measured(inputs):
    chosen = {"adjoint": ClipNorm(0.1, where="adjoint"), "rule": Immediate(), "silent": Silent()}
    ds = compare({"gru": GRU(2, 3)}, inputs=inputs, mitigations=chosen, seeds=[1])
    assert (ds.forward_flops > 0).all()
    assert (ds.memory_bytes > 0).all()
    none, clipped, rule, silent = ds.backward_flops.sel(cell="gru", seed=1).values
    assert none == clipped
    assert 0 < rule <= none
    assert np.isnan(silent)


def test_the_time_of_a_gradient_has_parts(inputs):
    slow = 0.05
    chosen = [ClipNorm(), JacobianPenalty(0.1), Silent(slow)]
    ds = compare([Elman(2, 3)], inputs=inputs, mitigations=chosen, seeds=1).sel(cell="elman", seed=0)
    forward, backward = ds.forward_seconds, ds.backward_seconds
    assert (forward > 0).all()
    assert (backward > 0).all()
    assert (forward + backward < ds.gradient_seconds).all()
    assert float(backward.sel(mitigation="silent")) > slow > float(forward.sel(mitigation="silent"))


@dataclass(frozen=True, eq=False)
class Silent(Mitigation):
    """A rule that takes its time and does not say what it costs."""

    name = "silent"
    seconds: float = 0.0

    @hookimpl(wrapper=True)
    def gradsim_rule(self, trajectory):
        yield
        time.sleep(self.seconds)
        return {n: np.zeros_like(p) for n, p in trajectory.params.items()}


def test_all_but_the_time_is_the_same_again(inputs, tmp_path):
    how = {"inputs": inputs, "mitigations": [GradientNoise(0.1), Truncate(1, 2)], "replicates": 3, "seeds": 1}
    one, other = (compare([Elman(2, 3)], **how).drop_vars(MEASURED) for _ in range(2))
    xr.testing.assert_identical(one, other)
    stored = compare([Elman(2, 3)], store=tmp_path / "run", **how).load().drop_vars(MEASURED)
    xr.testing.assert_identical(stored, one)


@dataclass(frozen=True, eq=False)
class Guess(Mitigation):
    """Multiply the gradient by 0 or 2, with equal chances: unbiased, of relative variance 1."""

    name = "guess"

    def draw(self, rng):
        return {"factor": 2.0 * rng.integers(2)}

    @hookimpl(wrapper=True)
    def gradsim_gradient(self, draws):
        gradient = yield
        return {n: draws[self]["factor"] * g for n, g in gradient.items()}


def test_replicates_have_the_variance_of_the_draws(inputs):
    ds = compare(
        [Elman(2, 3)],
        inputs=inputs,
        mitigations=[Guess(), Truncate(1, 2)],
        replicates=40,
        seeds=1,
        record=["loss"],
    )
    drawn = ds.sel(mitigation="guess", cell="elman", seed=0)
    # The share of twos says the mean and the variance of the factors.
    expected = (1 - drawn.mean_gradient_bias**2) * 40 / 39
    np.testing.assert_allclose(drawn.gradient_variance, expected)
    assert float(drawn.overall_mean_gradient_bias) < 0.5  # three standard errors
    still = ds.sel(mitigation="truncate")
    assert float(still.overall_gradient_variance.max()) == 0
    np.testing.assert_allclose(still.mean_gradient_bias, still.gradient_bias)


def test_noise_of_known_size_has_the_variance_of_its_components():
    ds = compare(
        [Elman(2, 3)], task=Adding(length=20), mitigations=[GradientNoise(0.5)], replicates=30, seeds=1
    )
    one = ds.sel(cell="elman", mitigation="gradient_noise", seed=0)
    first = simulate(Elman(2, 3), task=Adding(length=20), record=["gradient_norm"])
    sizes = {"W": 6, "U": 9, "b": 3}
    for name, count in sizes.items():
        variance = float(one.gradient_variance.sel(param=name) * first.gradient_norm.sel(param=name) ** 2)
        assert variance == pytest.approx(0.5 * count, rel=6 * np.sqrt(2 / (29 * count)))


@pytest.mark.parametrize("chosen", [Zoneout(0.5), Dropout(0.5), WeightNoise(0.1)], ids=lambda m: m.name)
def test_what_a_cell_draws_varies_where_a_mitigation_has_added_it(inputs, chosen):
    cells = {"elman": Elman(2, 3), "zoned": gradsim_cells.Zoneout(Elman(2, 3), 0.5)}
    how = {"mitigations": [chosen, Truncate(1, 2)], "replicates": 3, "seeds": 1, "record": ["loss"]}
    ds = compare(cells, inputs=inputs, **how).squeeze("seed")
    assert (ds.overall_gradient_variance.sel(mitigation=chosen.name) > 0).all()
    # What the cell draws as it is given is the same in all replicates.
    assert float(ds.overall_gradient_variance.drop_sel(mitigation=chosen.name).max()) == 0
    gradients = [_gradient(cells["zoned"], inputs, chosen, i) for i in range(3)]
    mean = np.mean(gradients, axis=0)
    expected = np.sum((gradients - mean) ** 2) / 2 / np.sum(mean**2)
    found = ds.overall_gradient_variance.sel(cell="zoned", mitigation=chosen.name)
    np.testing.assert_allclose(found, expected)


def test_a_draw_of_the_cell_stays_when_that_of_a_mitigation_changes(inputs):
    cell = gradsim_cells.Zoneout(Elman(2, 3), 0.5)
    one, other = (
        prepare(cell, inputs, mitigations=[Zoneout(0.5)], rng=1, replicate=i).setup.step_data for i in (0, 1)
    )
    np.testing.assert_array_equal(one["zoneout1_kept"], other["zoneout1_kept"])
    assert (one["zoneout2_kept"] != other["zoneout2_kept"]).any()


def _gradient(cell, inputs, mitigation, replicate):
    how = {"mitigations": [mitigation], "rng": 0, "replicate": replicate, "record": ["effective_gradient"]}
    run = prepare(cell, inputs, **how)
    ds = costs.record(run, Running(run.memory_sink(), 1, 1e9))
    return np.concatenate([ds[n].values.ravel() for n in ds])


@pytest.mark.parametrize(("size", "dtype"), [(-650, "float64"), (600, "float64"), (-90, "float32")])
def test_the_variance_of_gradients_of_any_size_is_that_of_others(inputs, size, dtype):
    how = {"mitigations": [Guess(), Truncate(1, 2)], "replicates": 8, "seeds": 1, "record": ["loss"]}
    ds, plain = (
        compare([Linear(2, 3)], inputs=scale * inputs, dtype=dtype, **how) for scale in (2.0**size, 1.0)
    )
    xr.testing.assert_equal(ds[[*costs.SPREAD]], plain[[*costs.SPREAD]])  # a power of two changes no digit
    assert float(plain.gradient_variance.sel(mitigation="guess").min()) > 0


def test_no_gradient_has_no_variance(inputs):
    ds = compare(
        [Linear(2, 3)], inputs=0 * inputs, mitigations=[Guess()], replicates=2, seeds=1, record=["loss"]
    )
    assert float(ds.gradient_variance.max()) == float(ds.mean_gradient_bias.max()) == 0

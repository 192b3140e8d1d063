"""Noise on the gradient, and its centralisation, against their formulas."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import refused

import gradsim
from gradsim.contracts.moment import Moment
from gradsim.errors import UnknownNameError
from gradsim.testing import conformance
from gradsim_cells import LSTM, Elman
from gradsim_mitigations import GradientCentralisation, GradientNoise, WeightDecay
from gradsim_tasks import Adding

test_kit = conformance(GradientCentralisation(names=("U",)))

BOTH = ["gradient", "effective_gradient"]


def test_gradient_noise_has_the_variance_of_its_schedule():
    """eta / (1 + u)^gamma, with updates from 0; 2,000 draws of each."""
    noise, rng = GradientNoise(eta=0.3, gamma=0.7), np.random.default_rng(0)
    for update in (1, 2, 50):
        drawn = noise.draw(rng, {"U": (2000,)}, Moment(update, 50, "learn"))["U"]
        assert np.mean(drawn**2) == pytest.approx(0.3 / update**0.7, rel=0.15)  # its error is 3 %
    again = noise.draw(np.random.default_rng(0), {"U": (2000,)}, Moment())["U"]
    first = noise.draw(np.random.default_rng(0), {"U": (2000,)}, Moment(1, 50, "learn"))["U"]
    np.testing.assert_array_equal(again, first)  # a simulation has that of the first update


def test_gradient_noise_is_added_and_reproducible():
    run = {"task": Adding(length=20), "record": BOTH, "rng": 7}
    found = [gradsim.simulate(Elman(2, 3), mitigations=[GradientNoise()], **run) for _ in range(2)]
    for name in ("U", "W", "b", "readout_W"):
        one, again = (ds[f"effective_gradient_{name}"] - ds[f"gradient_{name}"] for ds in found)
        assert one.values.any()
        np.testing.assert_array_equal(one, again)


def test_gradient_centralisation_takes_the_mean_of_each_row():
    params = LSTM(1, 3).init_params(np.random.default_rng(0))
    setting = {"task": Adding(length=20), "record": BOTH}
    ds = gradsim.simulate(LSTM(2, 3), mitigations=[GradientCentralisation()], **setting)
    for name in ("U", "W", "readout_W"):
        raw, found = (ds[f"{x}gradient_{name}"].values for x in ("", "effective_"))
        np.testing.assert_allclose(found, raw - raw.mean(axis=1)[:, None], atol=1e-16)
        np.testing.assert_allclose(found.sum(axis=1), 0, atol=1e-15)
    np.testing.assert_array_equal(ds.effective_gradient_b, ds.gradient_b)
    only = gradsim.simulate(LSTM(2, 3), mitigations=[GradientCentralisation(names=("W",))], **setting)
    np.testing.assert_array_equal(only.effective_gradient_U, only.gradient_U)
    one = gradsim.simulate(
        LSTM(1, 3),
        np.ones((4, 1, 1)),
        params=params,
        mitigations=[GradientCentralisation()],
        record=BOTH,
    )
    np.testing.assert_array_equal(one.effective_gradient_W, one.gradient_W)


@pytest.mark.parametrize("made", [WeightDecay, GradientCentralisation])
def test_parameters_that_are_not_there_are_refused(made):
    with refused(UnknownNameError, f"parameter in {made.name} 'readout_w'; did you mean 'readout_W'?"):
        gradsim.prepare(Elman(2, 4), task=Adding(length=20), mitigations=[made(names=("readout_w",))])

"""A shorter run that stands for a longer one."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import gradsim
import gradsim.run.trial
from gradsim import Pairs
from gradsim.run.trial import shortened
from gradsim_cells import LSTM, Elman
from gradsim_mitigations import Truncate
from gradsim_tasks import Adding

BOTH = ["adjoint_norm", "gradient", "effective_adjoint_norm", "effective_gradient"]


def prepared(cell, steps, batch, record, **more):
    return gradsim.prepare(cell, task=Adding(length=steps), batch=batch, record=record, **more)


def test_a_trial_as_long_as_the_run_is_the_run():
    simulation = prepared(LSTM(2, 3), 60, 3, BOTH, mitigations=[Truncate(5, 9)])
    xr.testing.assert_identical(shortened(simulation, 60, 3).run(), simulation.run())


def test_a_trial_is_the_end_of_the_run():
    simulation = prepared(Elman(2, 3), 60, 4, ["loss", "gradient"])
    short = shortened(simulation, 25, 2)
    np.testing.assert_array_equal(short.setup.inputs, simulation.setup.inputs[35:, :2])
    assert short.run().attrs["loss"] > 0  # the loss is at the last step


@pytest.mark.parametrize(
    ("given", "fitting"),
    [
        ({}, {}),
        ({"max_lag": 5}, {"max_lag": 5}),
        ({"lags": (1, 5, 70)}, {"lags": (1, 5)}),
        ({"lags": (70,)}, {"lags": (25,)}),
        ({"times": (-1, 50), "sources": (0, 20)}, {"times": (12, 25), "sources": (0, 5)}),
    ],
)
def test_the_pairs_of_a_trial(given, fitting):
    simulation = prepared(Elman(2, 3), 100, 1, ["product_norm"], pairs=Pairs(**given))
    assert shortened(simulation, 25, 1).plan.problem.pairs == Pairs(**fitting)
    shortened(simulation, 25, 1).run()

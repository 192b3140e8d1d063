"""Contributions of many steps at once."""

from __future__ import annotations

import numpy as np

import gradsim
from gradsim_cells import Linear


def test_contributions_come_from_adjoints_beyond_the_range():
    """Adjoints up to 1e+360 times inputs of 1e-300: each step enters the gradient with its true size."""
    params = {"W": [[8.0]], "U": [[1.0]]}
    ds = gradsim.simulate(
        Linear(1, 1),
        np.full((400, 1, 1), 1e-300),
        params=params,
        record=["contribution_norm", "contribution", "gradient"],
    )
    expected = -300 + np.log10(8) * np.arange(399, -1, -1)
    np.testing.assert_allclose(ds.contribution_norm_log10.sel(param="U"), expected, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(ds.contribution_U[:, 0, 0], 10**expected, rtol=1e-10)

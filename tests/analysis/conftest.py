"""Datasets of pairs (t, k) with known norms."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr


def pairs_dataset(log10, name="product_norm"):
    """From log10 norms (time, source, batch) of all pairs; what lies at t < k is dropped."""
    times = np.arange(len(log10))
    log10 = np.where((times[:, None] >= times)[..., None], log10, np.nan)
    coords = {"time": times, "source": times, "batch": np.arange(log10.shape[-1])}
    attrs = {"blocks": '{"h": 1}'}
    return xr.Dataset({f"{name}_log10": (("time", "source", "batch"), log10)}, coords, attrs)


@pytest.fixture
def make_pairs():
    return pairs_dataset


@pytest.fixture
def scalar_products():
    """Norms of products of independent scalars with ln |x| ~ N(mean, sd^2): a random walk."""

    def make(rng, steps, batch, mean, sd):
        walk = np.concatenate([np.zeros((1, batch)), rng.normal(mean, sd, (steps, batch)).cumsum(axis=0)])
        return pairs_dataset((walk[:, None] - walk) / np.log(10))

    return make

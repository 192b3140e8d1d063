"""What several tests compute."""

from __future__ import annotations

import numpy as np

import gradsim


def loss_of(cell, params, **arguments):
    """The loss of a run with these parameters, for finite differences."""
    return gradsim.simulate(cell, params=params, record=["loss"], **arguments).attrs["loss"]


def numerical_gradient(function, params, name, h=1e-6):
    """Central differences of a scalar function of the parameters, component by component."""
    gradient = np.zeros(params[name].shape)
    for i in np.ndindex(gradient.shape):
        values = []
        for sign in (1, -1):
            moved = {n: p.copy() for n, p in params.items()}
            moved[name][i] += sign * h
            values.append(function(moved))
        gradient[i] = (values[0] - values[1]) / (2 * h)
    return gradient


def flat(ds, prefix="effective_gradient"):
    names = [n for n in sorted(ds) if n.startswith(f"{prefix}_") and not n.endswith("_factor")]
    return np.concatenate([ds[n].values.ravel() for n in names])

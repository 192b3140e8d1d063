"""What the tests of several rules share."""

from __future__ import annotations

import dataclasses

import numpy as np

import gradsim
from gradsim.contracts import registry
from gradsim.contracts.hooks import RunHooks
from gradsim.contracts.moment import Moment
from gradsim.contracts.trajectory import one_by_one
from gradsim_cells import GRU, LSTM, Elman
from gradsim_tasks import FlipFlop

SMALL = {
    "input_size": 3,
    "hidden_size": 4,
    "output_units": 2,
    "projection_size": 2,
    "context_size": 2,
    "slots": 3,
    "width": 2,
    "cell": LSTM(3, 3),
    "cells": (GRU(3, 3), Elman(3, 2)),
}
"""Sizes at which every shipped cell is tried, where it has them."""


def small(name):
    cls = registry.catalogue().plugins["cells"][name]
    return cls(**{f.name: SMALL[f.name] for f in dataclasses.fields(cls) if f.name in SMALL})


def shipped():
    found = registry.catalogue()
    return [n for n in found.plugins["cells"] if found.distributions[f"cells/{n}"].split()[0] == "gradsim"]


def both(cell, *mitigations, **setting):
    """(exact, as mitigated): the gradients of one run by name, the readout's included."""
    run = {"task": FlipFlop(length=12), "batch": 2, "rng": 2, **setting}
    ds = gradsim.simulate(cell, mitigations=mitigations, record=["gradient", "effective_gradient"], **run)
    names = [n.removeprefix("gradient_") for n in ds.data_vars if n.startswith("gradient_")]
    return tuple({n: ds[f"{kind}gradient_{n}"].values for n in names} for kind in ("", "effective_"))


def close(found, expected, tolerance=1e-10, fixed=()):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        value = np.zeros_like(value) if name in fixed else value
        np.testing.assert_allclose(
            found[name], value, rtol=0, atol=tolerance * np.abs(value).max(), err_msg=name
        )


def taken(cell, rng, steps=7, batch=2, params=None):
    """(trajectory, direct): steps of a cell that asks for their numbers at most; derivatives of losses."""
    params = cell.init_params(rng) if params is None else params
    state = rng.standard_normal((batch, cell.state_size))
    inputs = rng.standard_normal((steps, batch, cell.input_size))
    number = np.repeat(np.arange(1, steps + 1)[:, None], batch, axis=1)
    trajectory = cell.unroll(params, state, inputs, dict.fromkeys(cell.step_data, number), one_by_one)
    return trajectory, rng.standard_normal(trajectory.states.shape)


def ruled(rule, trajectory, direct, errors=None, readout=None, draws=None, moment=None):
    """What a rule makes of given derivatives."""
    return RunHooks([rule])(
        "gradsim_rule",
        trajectory=trajectory,
        direct=direct,
        errors=errors,
        params={**trajectory.params, **(readout or {})},
        draws={rule: draws or {}},
        moment=moment or Moment(),
    )


def by_definition(trajectory, direct, carry=lambda jacobian: jacobian, mask=None):
    """The sum of q_t M_t with M whole, and M_t = mask * (carry(J_t) M_{t-1} + I_t)."""
    immediate, jacobian = trajectory.params_jacobian(), trajectory.jacobian()
    found = {}
    for name, slopes in immediate.items():
        influence, total = np.zeros_like(slopes[0]), 0
        for t in range(len(slopes)):
            influence = np.einsum("bij,bj...->bi...", carry(jacobian[t]), influence) + slopes[t]
            influence = influence if mask is None else influence * mask[name]
            total = total + np.einsum("bi,bi...->...", direct[t + 1], influence)
        found[name] = total
    return found

"""Rules that carry the influence of the parameters forward, against backpropagation and their definitions."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import gradsim
from gradsim.contracts import registry
from gradsim.numerics.blocks import dense_blocks
from gradsim_cells import GRU, LSTM, Elman
from gradsim_mitigations import RTRL
from gradsim_mitigations.influence import through
from gradsim_tasks import FlipFlop

SMALL = {
    "input_size": 3,
    "hidden_size": 4,
    "output_units": 2,
    "projection_size": 2,
    "context_size": 2,
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


def both(cell, rule, **setting):
    """(exact, by rule): the gradients of one run by name, the readout's included."""
    run = {"task": FlipFlop(length=12), "batch": 2, "rng": 2, **setting}
    ds = gradsim.simulate(cell, mitigations=[rule], record=["gradient", "effective_gradient"], **run)
    names = [n.removeprefix("gradient_") for n in ds.data_vars if n.startswith("gradient_")]
    return tuple({n: ds[f"{kind}gradient_{n}"].values for n in names} for kind in ("", "effective_"))


def close(found, expected, tolerance=1e-10, fixed=()):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        value = np.zeros_like(value) if name in fixed else value
        np.testing.assert_allclose(
            found[name], value, rtol=0, atol=tolerance * np.abs(value).max(), err_msg=name
        )


@pytest.mark.parametrize("name", shipped())
def test_rtrl_is_backpropagation_for_every_cell(name):
    cell = small(name)
    exact, found = both(cell, RTRL())
    close(found, exact, fixed=cell.fixed)


def test_rtrl_in_float32_is_backpropagation_as_far_as_that_reaches():
    exact, found = both(GRU(3, 4), RTRL(), dtype="float32")
    assert all(g.dtype == np.float32 for g in found.values())
    close(found, exact, tolerance=1e-5)


def test_steps_in_many_pieces_are_those_in_one(monkeypatch):
    whole = both(LSTM(3, 4), RTRL())[1]
    monkeypatch.setattr("gradsim_mitigations.influence._NUMBERS", 5000)
    close(both(LSTM(3, 4), RTRL())[1], whole, tolerance=1e-14)


@pytest.mark.parametrize(("g", "k"), [(1, 6), (6, 1), (3, 2)])
def test_columns_go_through_blocks_as_through_the_whole_matrix(g, k, rng):
    blocks, columns = rng.standard_normal((2, g, k, k)), rng.standard_normal((2, 6, 5))
    np.testing.assert_allclose(through(blocks, columns), dense_blocks(blocks) @ columns, atol=1e-14)

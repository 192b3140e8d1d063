"""Variables, the places of pieces, and the effective twins of recorders."""

from __future__ import annotations

import numpy as np
import pytest

import gradsim
from gradsim import Variable
from gradsim.contracts import registry
from gradsim.contracts.recorder import local
from gradsim_cells import Elman


@pytest.fixture
def problem():
    return gradsim.prepare(Elman(2, 4), np.zeros((9, 3, 2)), dtype="float32").plan.problem


def test_a_variable_has_the_bytes_of_its_array(problem):
    found = Variable("x", ("time", "batch", "component"), "x").bytes(problem)
    assert found == np.zeros((10, 3, 4), dtype=np.float32).nbytes
    assert Variable("x", ("step",), "x", dtype="float64").bytes(problem) == np.zeros(9).nbytes


@pytest.mark.parametrize("index", [slice(13, 17), 14, np.array([11, 15])])
def test_places_in_a_part_are_those_in_the_whole(index):
    whole = np.arange(30)
    np.testing.assert_array_equal(whole[10:20][local(index, 10)], whole[index])


def test_a_whole_axis_stays_whole():
    assert local(slice(None), 10) == slice(None)


@pytest.mark.parametrize("name", ["product_norm", "adjoint", "gradient", "lyapunov"])
def test_effective_twins_declare_the_same_under_another_name(problem, name):
    raw, twin = (registry.recorder(n) for n in (name, f"effective_{name}"))
    assert (raw.full_name, twin.full_name) == (name, f"effective_{name}")
    for ours, theirs in zip(raw.declared(problem), twin.declared(problem), strict=True):
        assert theirs.name == f"effective_{ours.name}"
        assert (theirs.dims, theirs.units, theirs.dtype) == (ours.dims, ours.units, ours.dtype)
        assert "effective" in theirs.long_name
        assert "effective" not in ours.long_name

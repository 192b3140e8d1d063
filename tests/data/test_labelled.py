"""A dataset is that of its values and labels, whatever datasets were made before."""

import numpy as np
import pytest
import xarray as xr

from gradsim.contracts.recorder import Variable
from gradsim.data.labelled import _KNOWN_BYTES, _known, labelled

VARIABLES = (Variable("a", ("time", "unit"), "an a"), Variable("n", [], "a number", "s"))  # a list will do


def coordinates(block="h", first=0, size=3):
    return {
        "time": ("time", np.arange(first, first + size), {"long_name": "when"}),
        "block": ("unit", np.array([block, "c"]), {"long_name": "which"}),
    }


def values(seed=0, size=3):
    rng = np.random.default_rng(seed)
    return {"a": rng.standard_normal((size, 2)), "n": np.float32(rng.standard_normal()) * np.ones(())}


def by_xarray(values, coordinates):
    data = {v.name: (v.dims, values[v.name], {"long_name": v.long_name, "units": v.units}) for v in VARIABLES}
    return xr.Dataset(data, coords=coordinates, attrs={"title": "t"})


@pytest.mark.parametrize("size", [3, _KNOWN_BYTES])
def test_it_is_what_xarray_makes_of_the_same(size):
    for seed in range(3):
        given, there = values(seed, size), coordinates(first=seed % 2, size=size)
        ours, theirs = labelled(given, VARIABLES, there, {"title": "t"}), by_xarray(given, there)
        xr.testing.assert_identical(ours, theirs)
        assert list(ours.variables) == list(theirs.variables)
        assert {n: v.dtype for n, v in ours.variables.items()} == {
            n: v.dtype for n, v in theirs.variables.items()
        }
        assert ours.indexes["time"].equals(theirs.indexes["time"])


def test_the_values_are_not_copied():
    given = values()
    assert labelled(given, VARIABLES, coordinates(), {}).a.values is given["a"]


def test_what_is_done_to_one_is_not_seen_in_the_next():
    one = labelled(values(), VARIABLES, coordinates(), {"title": "t"})
    one.block.values[0] = "x"
    one.a.values[:] = 7
    for variable in one.variables.values():
        variable.attrs["long_name"] = "mine"
        variable.encoding["dtype"] = "int8"
    one.attrs["title"] = "mine"
    one["more"] = one.a * 2
    again = labelled(values(), VARIABLES, coordinates(), {"title": "t"})
    xr.testing.assert_identical(again, by_xarray(values(), coordinates()))
    assert not any(variable.encoding for variable in again.variables.values())


def test_what_is_done_to_given_coordinates_is_not_seen_in_the_next():
    given = coordinates(first=100)
    labelled(values(), VARIABLES, given, {})
    for _, array, _ in given.values():
        array[:] = array[0]
    assert labelled(values(), VARIABLES, coordinates(first=100), {}).time.values.tolist() == [100, 101, 102]


def test_other_labels_of_the_same_shapes_are_their_own():
    labelled(values(), VARIABLES, coordinates(), {})
    assert labelled(values(), VARIABLES, coordinates(block="q"), {}).block.values[0] == "q"
    assert labelled(values(), VARIABLES, coordinates(first=5), {}).time.values[0] == 5
    renamed = (Variable("a", ("time", "unit"), "another a"), VARIABLES[1])
    assert labelled(values(), renamed, coordinates(), {}).a.attrs["long_name"] == "another a"
    wide = {n: (d, x.astype("float64") if n == "time" else x, a) for n, (d, x, a) in coordinates().items()}
    assert labelled(values(), VARIABLES, wide, {}).time.dtype == np.float64


def test_large_coordinates_are_not_kept():
    size, before = _KNOWN_BYTES, _known.cache_info().currsize
    labelled(values(size=size), VARIABLES, coordinates(size=size), {})
    assert _known.cache_info().currsize == before

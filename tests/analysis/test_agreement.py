from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import gradsim
from gradsim import analysis
from gradsim.errors import InputError, UnknownNameError
from gradsim_cells.elman import Elman
from gradsim_mitigations import ClipNorm, Truncate


def gradients(**pairs):
    """A dataset with the given (raw, effective) gradients of vector parameters."""
    variables = {}
    for name, (raw, effective) in pairs.items():
        variables[f"gradient_{name}"] = (f"{name}_row", np.array(raw, dtype=float))
        variables[f"effective_gradient_{name}"] = (f"{name}_row", np.array(effective, dtype=float))
    return xr.Dataset(variables).assign(gradient_norm=("param", np.ones(len(pairs))))


def simulate(inputs, *mitigations, record=("gradient", "effective_gradient")):
    cell = Elman(input_size=2, hidden_size=4, recurrent_scale=2)
    return gradsim.simulate(cell, inputs, mitigations=mitigations, record=record)


def test_known_angles():
    found = analysis.compare_gradients(gradients(W=([3, 0], [0, 4]), b=([1, 1], [2, 2]), U=([1, 0], [-1, 0])))
    np.testing.assert_array_equal(found["param"], ["W", "b", "U"])
    np.testing.assert_allclose(found["cosine"], [0, 1, -1], atol=1e-15)
    np.testing.assert_allclose(found["relative_error"], [5 / 3, 1, 2])
    np.testing.assert_allclose(found["size_ratio"], [4 / 3, 2, 1])
    assert float(found["overall_cosine"]) == pytest.approx(3 / np.sqrt(12 * 25))


def test_zero_vectors_have_no_angle():
    found = analysis.compare_gradients(gradients(W=([0, 0], [1, 0]), b=([1, 0], [0, 0]), U=([0], [0])))
    assert found["cosine"].isnull().all()
    np.testing.assert_array_equal(found["relative_error"], [np.nan, 1, np.nan])
    np.testing.assert_array_equal(found["size_ratio"], [np.nan, 0, np.nan])


def test_infinite_vectors_have_no_angle():
    found = analysis.compare_gradients(gradients(W=([np.inf, 1], [1, 2]), b=([1, 2], [np.inf, 1])))
    assert found["cosine"].isnull().all()
    assert found["relative_error"].isnull().all()


@pytest.mark.parametrize("scale", [1e-250, 1e250])
def test_sizes_whose_squares_leave_float64(scale):
    found = analysis.compare_gradients(gradients(W=([3 * scale, 4 * scale], [3, 4])))
    assert float(found["overall_cosine"]) == pytest.approx(1)
    assert float(found["overall_size_ratio"]) == pytest.approx(1 / scale, abs=0)


def test_chosen_parameters(inputs):
    ds = simulate(inputs, ClipNorm(max_norm=0.1))
    assert list(analysis.compare_gradients(ds, ["b"])["param"].values) == ["b"]
    with pytest.raises(UnknownNameError, match="unknown parameter 'bias'"):
        analysis.compare_gradients(ds, ["bias"])


def test_clipping_the_norm_keeps_the_direction(inputs):
    found = analysis.compare_gradients(simulate(inputs, ClipNorm(max_norm=1e-3)))
    np.testing.assert_allclose(found["cosine"], 1, rtol=1e-12)
    np.testing.assert_allclose(found["relative_error"], 1 - found["size_ratio"], rtol=1e-12)


def test_clipping_the_adjoint_does_not(inputs):
    found = analysis.compare_gradients(simulate(inputs, ClipNorm(1e-3, where="adjoint")))
    assert float(found["overall_cosine"]) < 0.999


def test_adjoints_by_time(inputs):
    ds = simulate(inputs, Truncate(k1=12, k2=12), record=["adjoint", "effective_adjoint"])
    found = analysis.compare_adjoints(ds)
    assert found["cosine"].dims == ("time", "batch")
    np.testing.assert_allclose(found["cosine"].sel(time=slice(1, None)), 1)
    assert found["cosine"].sel(time=0).isnull().all()
    np.testing.assert_array_equal(found["relative_error"].sel(time=0), 1)
    assert all({"long_name", "units"} <= set(v.attrs) for v in found.data_vars.values())


def test_missing_gradients_name_the_recorders(inputs):
    with pytest.raises(InputError, match="'gradient' and 'effective_gradient'"):
        analysis.compare_gradients(simulate(inputs, record=["product_norm"]))
    with pytest.raises(InputError, match="add the recorder 'effective_gradient'"):
        analysis.compare_gradients(simulate(inputs, record=["gradient"]))
    with pytest.raises(InputError, match="add the recorder 'adjoint'"):
        analysis.compare_adjoints(simulate(inputs, record=["adjoint_norm"]))

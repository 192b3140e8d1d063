"""What mitigations do to the gradient, where it is known in closed form or by plain NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from gradsim import simulate
from gradsim.errors import InputError, OutOfRangeWarning
from gradsim.testing import conformance
from gradsim_cells import LSTM, Elman, Linear
from gradsim_mitigations import RTRL, ClipNorm, GradientNoise, Immediate, Truncate
from gradsim_recorders import (
    AdjointEnergyRemovedRecorder,
    ContributionBiasRecorder,
    ContributionCosineRecorder,
    GradientBiasRecorder,
    GradientCosineRecorder,
)
from gradsim_tasks import Adding

test_kit = conformance(
    AdjointEnergyRemovedRecorder(),
    ContributionBiasRecorder(),
    ContributionCosineRecorder(),
    GradientBiasRecorder(),
    GradientCosineRecorder(),
)

ALL = ["gradient_bias", "gradient_cosine", "contribution_bias", "contribution_cosine"]


def counting(reach, w=0.9, steps=50, **more):
    """h_t = w h_{t-1} + 1 with the loss h_T: dh_T/dw is the sum over k of k w^(k-1)."""
    params = {"W": np.ones((1, 1)), "U": np.full((1, 1), w)}
    how = {"params": params, "mitigations": [Truncate(1, reach)], **more}
    return simulate(Linear(1, 1), np.ones((steps, 1, 1)), **how)


@pytest.mark.parametrize(
    ("reach", "bias"), [(5, 0.5791338849356), (10, 0.3318301646945), (20, 0.1027139063196)]
)
def test_truncation_of_a_geometric_sum_has_its_known_bias(reach, bias):
    ds = counting(reach, record=[*ALL, "adjoint_energy_removed"])
    assert float(ds.gradient_bias.sel(param="U")) == pytest.approx(bias, rel=1e-10)
    assert float(ds.gradient_cosine.sel(param="U")) == pytest.approx(1, rel=1e-14)
    np.testing.assert_allclose(ds.contribution_bias.sel(param="U")[1:], np.arange(2, 51) <= 50 - reach)
    kept = (1 - 0.81**reach) / (1 - 0.81**51)
    assert float(ds.adjoint_energy_removed[0]) == pytest.approx(1 - kept, rel=1e-12)


def test_all_parameters_together_are_one_vector():
    ds = counting(5, record=["gradient", "effective_gradient", *ALL[:2]])
    exact, effective = (
        np.array([ds[f"{p}gradient_W"], ds[f"{p}gradient_U"]]).ravel() for p in ("", "effective_")
    )
    size = np.linalg.norm(exact)
    assert float(ds.overall_gradient_bias) == pytest.approx(np.linalg.norm(effective - exact) / size)
    cosine = exact @ effective / size / np.linalg.norm(effective)
    assert float(ds.overall_gradient_cosine) == pytest.approx(cosine)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_clipped_norm_keeps_the_direction(dtype):
    ds = simulate(
        LSTM(2, 4),
        task=Adding(length=20),
        mitigations=[ClipNorm(1e-3)],
        record=[*ALL, "effective_gradient_factor"],
        dtype=dtype,
    )
    off = 1 - float(ds.effective_gradient_factor)
    assert 0.5 < off < 1
    np.testing.assert_allclose(ds.gradient_bias, off, rtol=1e-5)
    assert float(ds.overall_gradient_bias) == pytest.approx(off, rel=1e-5)
    np.testing.assert_allclose(ds.gradient_cosine, 1, rtol=1e-6)
    assert float(ds.contribution_bias.max()) == 0  # the steps are left alone


def test_without_mitigations_nothing_is_away():
    ds = simulate(Elman(2, 3), task=Adding(length=20), record=[*ALL, "adjoint_energy_removed"])
    assert float(ds.overall_gradient_bias) == float(ds.adjoint_energy_removed.max()) == 0
    assert float(ds.overall_gradient_cosine) == pytest.approx(1)


@pytest.mark.parametrize("size", [1e-3, 3e-4, 1e-4, 3e-5, 1e-5])
def test_no_cosine_is_beyond_one(size):
    found = simulate(Elman(2, 9), task=Adding(length=20), mitigations=[ClipNorm(size)], record=ALL)
    for name in ("gradient_cosine", "overall_gradient_cosine", "contribution_cosine"):
        assert float(found[name].max()) <= 1


def test_a_vector_of_nothing_has_no_direction():
    ds = simulate(Linear(1, 2), np.zeros((6, 1, 1)), mitigations=[GradientNoise(0.1)], record=ALL)
    assert np.isinf(ds.gradient_bias).all()
    assert ds.gradient_cosine.isnull().all()
    assert float(ds.contribution_bias.max()) == 0


def test_sizes_beyond_the_range_are_compared_as_they_are():
    params = {"W": np.ones((1, 1)), "U": np.full((1, 1), 30.0)}
    how = {"params": params, "record": ["adjoint_norm", "adjoint_energy_removed"]}
    with pytest.warns(OutOfRangeWarning):
        ds = simulate(Linear(1, 1), np.zeros((500, 1, 1)), mitigations=[Truncate(1, 500)], **how)
    assert float(ds.adjoint_norm_log10.max()) > 700
    assert float(ds.adjoint_energy_removed[0]) == pytest.approx(1 - 1 / 900, rel=1e-12)


def test_a_rule_has_a_bias_of_the_whole_gradient_alone(rng):
    how = {"inputs": rng.standard_normal((9, 2, 2))}
    exact = simulate(Elman(2, 3), mitigations=[RTRL()], record=ALL[:2], **how)
    assert float(exact.overall_gradient_bias) < 1e-13
    biased = simulate(Elman(2, 3), mitigations=[Immediate()], record=ALL[:2], **how)
    assert float(biased.overall_gradient_bias) > 0.01
    with pytest.raises(InputError, match="contribution_bias does not exist under the rule rtrl"):
        simulate(Elman(2, 3), mitigations=[RTRL()], record=ALL, **how)


def test_clipped_adjoints_lose_energy(rng):
    how = {"record": ["adjoint", "effective_adjoint", "adjoint_energy_removed"]}
    ds = simulate(
        Elman(2, 3), rng.standard_normal((20, 3, 2)), mitigations=[ClipNorm(0.1, where="adjoint")], **how
    )
    energies = [(ds[name] ** 2).sum(("time", "component")) for name in ("adjoint", "effective_adjoint")]
    np.testing.assert_allclose(ds.adjoint_energy_removed, 1 - energies[1] / energies[0])

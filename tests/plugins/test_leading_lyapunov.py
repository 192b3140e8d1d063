"""The leading exponents of a run, against exact and published values."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import Henon

import gradsim
from gradsim import analysis
from gradsim.contracts import registry
from gradsim.errors import InputError
from gradsim_cells import LEM, LSTM, Elman, LeakyRNN, Linear, MinGRU, RateNetwork, Residual, Stack, Zoneout
from gradsim_recorders import LeadingLyapunovRecorder, LyapunovRecorder


def test_the_attractor_of_henon(rng):
    start = 0.1 * rng.standard_normal((8, 2))
    recorder = LeadingLyapunovRecorder(modes=2, transient=500)
    ds = gradsim.simulate(Henon(), np.zeros((8500, 8, 1)), initial_state=start, record=[recorder, "lyapunov"])
    found = ds.leading_lyapunov.mean("batch")
    np.testing.assert_allclose(found, [0.41922, -1.62319], atol=4e-3)
    np.testing.assert_allclose(ds.leading_lyapunov.sum("leading_mode"), np.log(0.3), rtol=1e-12)
    np.testing.assert_allclose(ds.lyapunov.mean("batch"), found, atol=4e-3)
    dimension = analysis.kaplan_yorke(ds, "leading_lyapunov").mean()
    assert float(dimension) == pytest.approx(1.25827, abs=3e-3)
    assert float(analysis.entropy(ds).mean()) == pytest.approx(0.41922, abs=4e-3)


@pytest.mark.parametrize("modes", [1, 3, 9])
def test_a_constant_map_has_its_eigenvalues(modes, rng):
    cell = Linear(1, 5)
    values = np.array([1.3, 0.9, 0.6, -0.4, 0.1])
    basis = rng.standard_normal((5, 5))
    params = {"W": np.ones((5, 1)), "U": basis @ np.diag(values) @ np.linalg.inv(basis)}
    recorder = LeadingLyapunovRecorder(modes=modes, transient=200)
    ds = gradsim.simulate(cell, np.zeros((300, 2, 1)), params=params, record=[recorder])
    expected = np.log(np.abs(values))[: min(modes, 5)]
    np.testing.assert_allclose(ds.leading_lyapunov, [expected] * 2, atol=1e-8)


@pytest.mark.parametrize("cell", [LSTM(2, 3), MinGRU(2, 4)], ids=repr)
def test_all_modes_together_are_those_of_the_whole_spectrum(cell, rng):
    x = rng.standard_normal((400, 2, 2))
    everything = LeadingLyapunovRecorder(modes=cell.state_size)
    ds = gradsim.simulate(cell, x, record=[everything, "lyapunov"], rng=0)
    np.testing.assert_allclose(ds.leading_lyapunov, ds.lyapunov, atol=0.03)
    np.testing.assert_allclose(ds.leading_lyapunov.sum("leading_mode"), ds.lyapunov.sum("mode"), rtol=1e-7)
    first = gradsim.simulate(cell, x, record=[LeadingLyapunovRecorder(modes=2)], rng=0)
    np.testing.assert_allclose(first.leading_lyapunov, ds.leading_lyapunov[:, :2], rtol=1e-9)


def test_a_direction_that_is_annihilated():
    params = {"W": np.ones((2, 1)), "U": np.array([[0.5, 0.5], [0.5, 0.5]])}
    recorder = LeadingLyapunovRecorder(modes=2, transient=2)
    ds = gradsim.simulate(Linear(1, 2), np.zeros((9, 1, 1)), params=params, record=[recorder])
    np.testing.assert_allclose(ds.leading_lyapunov, [[0, -np.inf]], atol=1e-12)


def test_a_saturated_unit_is_not_annihilated(rng):
    """Below the rounding of what other units do: their exponents sum to the mean log of the determinant."""
    cell, x = Elman(1, 4), rng.uniform(-1, 1, (30, 2, 1))
    weights = rng.standard_normal((4, 4)) / 2
    params = {"W": np.ones((4, 1)), "U": weights, "b": np.array([0, 15.5, 0, 0])}
    everything = LeadingLyapunovRecorder(modes=4)
    ds = gradsim.simulate(cell, x, params=params, record=[everything, "lyapunov", "step_jacobian"])
    slopes = ds.step_jacobian.values[..., 0] / weights[:, 0]
    exact = np.log(slopes).sum(axis=-1).mean(axis=0) + np.linalg.slogdet(weights)[1]
    assert 0 < slopes.min() < 1e-13
    np.testing.assert_allclose(ds.leading_lyapunov.sum("leading_mode"), exact, rtol=1e-9)
    np.testing.assert_allclose(ds.lyapunov.sum("mode"), exact, rtol=1e-9)


def test_some_steps_have_to_count():
    with pytest.raises(InputError, match="transient should be below the number of steps, 5"):
        gradsim.simulate(
            Linear(1, 2), np.zeros((5, 1, 1)), record=[LeadingLyapunovRecorder(modes=1, transient=5)]
        )


# Per unit of time.

EIGENVALUES = np.array([0.3, -0.2 + 2j, -0.2 - 2j, -1.0])


def per_time(time_step, duration=20):
    """Both recorders' exponents of x' = A x by the steps of Euler; A is normal."""
    a = np.diag(EIGENVALUES.real)
    a[1, 2], a[2, 1] = -EIGENVALUES[1].imag, EIGENVALUES[1].imag
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((4, 4)))[0]
    # At h = 0 the rate network is h' = (U - I) h.
    cell = RateNetwork(1, 4, time_step)
    params = {"W": np.zeros((4, 1)), "U": turn @ a @ turn.T + np.eye(4), "b": np.zeros(4)}
    recorders = [
        LyapunovRecorder(per_time=True),
        LeadingLyapunovRecorder(modes=4, transient=round(duration / time_step / 2), per_time=True),
    ]
    inputs = np.zeros((round(duration / time_step), 1, 1))
    return gradsim.simulate(cell, inputs, params=params, record=recorders)


@pytest.mark.parametrize("variable", ["lyapunov", "leading_lyapunov"])
def test_per_unit_of_time_they_tend_to_the_eigenvalues_of_the_equation(variable):
    expected, errors = -np.sort(-EIGENVALUES.real), []
    for time_step in (0.1, 0.05, 0.01):
        ds = per_time(time_step)
        found = ds[variable].values[0]
        by_euler = -np.sort(-np.log(np.abs(1 + time_step * EIGENVALUES)) / time_step)
        # Over the whole run directions have yet to turn; the sum of all is exact.
        assert found.sum() == pytest.approx(by_euler.sum(), rel=1e-9)
        if variable == "leading_lyapunov":
            np.testing.assert_allclose(found, by_euler, atol=1e-2)
        errors.append(abs(found.sum() - expected.sum()))
        assert ds[variable].attrs["units"] == "1/time"
    assert errors[0] / errors[2] == pytest.approx(10, rel=0.1)


def test_dimension_and_entropy_per_unit_of_time():
    ds = per_time(0.05)
    entropy = analysis.entropy(ds, "leading_lyapunov")
    assert entropy.attrs["units"] == "1/time"
    assert float(entropy[0]) == pytest.approx(0.3, abs=0.01)
    steps = ds.assign(lyapunov=0.05 * ds.lyapunov)
    np.testing.assert_allclose(analysis.kaplan_yorke(ds), analysis.kaplan_yorke(steps), rtol=1e-12)
    plain = gradsim.simulate(Linear(1, 2), np.zeros((5, 1, 1)), record=["lyapunov"])
    assert analysis.entropy(plain).attrs["units"] == "1/step"


def test_chaos_in_a_random_network():
    """sqrt(1 - E) - 1 with the ground state E of -d^2/dtau^2 + 1 - g^2 <tanh'(h(t)) tanh'(h(t + tau))>.

    Sompolinsky, Crisanti & Sommers (1988): for g = 2 the variance of h is 1.9248 and E = -0.23757, so
    that the exponent is 0.11246, from their equations by quadrature. Of 400 units it is some 0.02 lower.
    """
    n, rng = 400, np.random.default_rng(2)
    ds = gradsim.simulate(
        RateNetwork(1, n, 0.1, recurrent_scale=2.0),
        np.zeros((1400, 1, 1)),
        initial_state=rng.standard_normal((1, n)),
        record=[LeadingLyapunovRecorder(modes=1, transient=300, per_time=True), "state"],
        rng=2,
    )
    assert float(np.square(ds.state[300:]).mean()) == pytest.approx(1.9248, rel=0.1)
    assert float(ds.leading_lyapunov[0, 0]) == pytest.approx(0.11246, abs=0.03)


TIMED = {
    "antisymmetric_rnn",
    "cornn",
    "leaky_rnn",
    "lem",
    "lipschitz_rnn",
    "lrc_ssm",
    "rate_network",
    "unicornn",
}


def test_which_cells_have_a_time_step():
    cells = [cls() for cls in registry.catalogue().plugins["cells"].values()]
    assert {cell.name for cell in cells if cell.time_step is not None} == TIMED
    assert LeakyRNN(1, 2, time_step=0.2).time_step == 0.2
    assert Zoneout(LeakyRNN(1, 2, time_step=0.2)).time_step == 0.2
    assert Stack((LEM(1, 2, time_step=0.2), LEM(2, 2, time_step=0.2))).time_step == 0.2
    assert Stack((LEM(1, 2, time_step=0.2), LEM(2, 2, time_step=0.1))).time_step is None
    assert Residual(LSTM(1, 2), scale=0.5, around="step").time_step == 0.5
    assert Residual(LSTM(1, 2), scale=0.5).time_step is None


@pytest.mark.parametrize("recorder", [LyapunovRecorder, LeadingLyapunovRecorder])
def test_steps_without_a_time_have_no_exponents_per_time(recorder):
    with pytest.raises(InputError, match=r"per_time=True.*: lstm has no time step, .*; leave per_time out"):
        gradsim.simulate(LSTM(1, 2), np.zeros((5, 1, 1)), record=[recorder(per_time=True)])

"""The shipped optimizers and schedules against PyTorch, closed forms and published formulas."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from helpers import descent

from gradsim.errors import InputError
from gradsim_optimizers import SGD, Adam, AdamW, RMSprop
from gradsim_schedules import Cosine, Exponential, InverseSqrt, StepDecay, Warmup

REFERENCE = Path(__file__).parents[1] / "reference"
RATE = 0.05
DTYPES = ("float32", "float64")


TORCH = {
    "sgd": SGD(RATE),
    "sgd_momentum": SGD(RATE, momentum=0.9),
    "sgd_nesterov": SGD(RATE, momentum=0.9, nesterov=True),
    "rmsprop": RMSprop(RATE),
    "rmsprop_momentum": RMSprop(RATE, beta=0.9, momentum=0.5, epsilon=1e-3),
    "rmsprop_centred": RMSprop(RATE, beta=0.9, centred=True),
    "adam": Adam(RATE),
    "adam_other": Adam(RATE, beta1=0.5, beta2=0.9, epsilon=1e-2),
    "adamw": AdamW(RATE, decay=0.1),
}


@pytest.mark.parametrize("kind", TORCH)
@pytest.mark.parametrize(("dtype", "close"), [("float64", 1e-13), ("float32", 3e-6)])
def test_agrees_with_pytorch(kind, dtype, close):
    with np.load(REFERENCE / "optimizers.npz") as file:
        torch = dict(file)
    gradients = torch["gradients"].astype(dtype)
    start = torch["start"].astype(dtype)
    ours = descent(TORCH[kind], start, lambda u, _: gradients[u - 1], len(gradients))
    assert ours.dtype == dtype
    size = np.abs(np.diff(torch[kind], axis=0, prepend=torch["start"][None])).max(axis=0)
    np.testing.assert_array_less(np.abs(ours - torch[kind]), close * (size + np.abs(torch[kind])))


def test_momentum_at_its_critical_rate():
    """On c x^2 / 2 with rate c = (1 - r)^2, r^2 = momentum, x_k = (1 + k (1 - r)) r^k."""
    r, c, k = 0.8, 2.5, np.arange(1, 61)
    optimizer = SGD((1 - r) ** 2 / c, momentum=r**2)
    x = descent(optimizer, [1.0], lambda u, x: c * x, 60)[:, 0]
    np.testing.assert_allclose(x, (1 + k * (1 - r)) * r**k, rtol=1e-11)


def test_nesterov_at_its_critical_rate():
    """y_(k+1) = (1 + m) (1 - a) y_k - m (1 - a) y_(k-1): a double root p if (1 + m)^2 (1 - a) = 4 m."""
    m, c, k = 0.6, 2.5, np.arange(1, 31)
    a = 1 - 4 * m / (1 + m) ** 2
    p = (1 + m) * (1 - a) / 2
    y = descent(SGD(a / c, momentum=m, nesterov=True), [1.0], lambda u, y: c * y, 30)[:, 0]
    np.testing.assert_allclose(y, (1 + k * ((1 - a * (1 + m)) / p - 1)) * p**k, rtol=1e-11)


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_multiplies_the_speed_by_its_last_value(nesterov):
    x = descent(SGD(0.1, momentum=0.75, nesterov=nesterov), [0.0], lambda u, x: [3.0], 200)[:, 0]
    assert x[-1] - x[-2] == pytest.approx(-0.1 * 3 / (1 - 0.75), rel=1e-12)


def test_adam_moves_by_the_rate_under_a_steady_gradient():
    """m' = g and s' = g^2 at every update: a change is rate * sign(g) (Kingma & Ba 2015, section 2.1)."""
    gradient = np.array([1e-3, -5.0, 40.0])
    x = descent(Adam(0.01, epsilon=1e-15), np.zeros(3), lambda u, x: gradient, 50)
    np.testing.assert_allclose(x, -0.01 * np.sign(gradient) * np.arange(1, 51)[:, None], rtol=1e-10)


def test_rmsprop_starts_at_the_rate_over_the_root_of_one_minus_beta():
    """s = (1 - beta) g^2, and s - n^2 = beta (1 - beta) g^2."""
    gradient, beta = np.array([1e-3, -5.0, 40.0]), 0.96
    for centred, divisor in ((False, 0.2), (True, math.sqrt(0.96) * 0.2)):
        optimizer = RMSprop(0.01, beta=beta, epsilon=1e-15, centred=centred)
        (x,) = descent(optimizer, np.zeros(3), lambda u, x: gradient, 1)
        np.testing.assert_allclose(x, -0.01 * np.sign(gradient) / divisor, rtol=1e-10)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_steady_gradient_has_no_spread_and_gives_no_nan(dtype):
    """s - n^2 is 0 but for rounding, which may be negative; what is left to divide by is epsilon."""
    gradient = np.linspace(0.1, 1.1, 50)
    optimizer = RMSprop(1e-3, beta=0.5, epsilon=0.1, centred=True)
    x = descent(optimizer, np.zeros(50, dtype), lambda u, x: gradient, 100)
    np.testing.assert_allclose(x[-1] - x[-2], -1e-3 * gradient / 0.1, rtol=0.02)


def test_adamw_decays_beside_adam():
    """Without a gradient theta shrinks by 1 - rate * decay; Adam has no part in that."""
    start = np.array([3.0, -0.5])
    x = descent(AdamW(0.1, decay=0.2), start, lambda u, x: np.zeros(2), 20)
    np.testing.assert_allclose(x[-1], start * (1 - 0.1 * 0.2) ** 20, rtol=1e-14)
    gradients = np.random.default_rng(0).standard_normal((20, 2))
    plain, undecayed = (
        descent(o, start, lambda u, x: gradients[u - 1], 20) for o in (Adam(0.1), AdamW(0.1, decay=0.0))
    )
    np.testing.assert_array_equal(plain, undecayed)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SGD(-0.1), "SGD: learning_rate should be greater than 0"),
        (lambda: SGD(0.1, momentum=1.0), "momentum should be less than 1"),
        (lambda: SGD(0.1, nesterov=True), r"nesterov needs momentum, such as 0\.9 \(got 0\)"),
        (lambda: Adam(beta1=1.0, beta2=-0.1), r"beta1 should be less than 1 .*; beta2 should be greater"),
        (lambda: Adam(epsilon=0.0), "epsilon should be greater than 0"),
        (lambda: AdamW(decay=-1.0), "decay should be greater than or equal to 0"),
        (lambda: RMSprop(float("nan")), "learning_rate should be"),
        (lambda: SGD(0.1, schedule=Cosine), "schedule should be an instance of Schedule"),
        (lambda: Cosine(final=1.5), "final should be less than or equal to 1"),
        (lambda: StepDecay(gamma=0.0), "gamma should be greater than 0"),
        (lambda: Warmup(length=0), "length should be greater than 0"),
    ],
)
def test_bad_parameters_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


SCHEDULES = {
    "step_decay": StepDecay(gamma=0.3, every=5),
    "exponential": Exponential(gamma=0.9, every=1),
    "cosine": Cosine(final=0.1),
    "warmup": Warmup(length=5),
}


@pytest.mark.parametrize("kind", SCHEDULES)
def test_schedules_agree_with_pytorch(kind):
    with np.load(REFERENCE / "schedules.npz") as file:
        torch = file[kind]
    ours = [SCHEDULES[kind].factor(u, len(torch)) for u in range(1, len(torch) + 1)]
    np.testing.assert_allclose(ours, torch, rtol=1e-13)


def test_step_decay_goes_through_the_same_points_as_exponential():
    steps, smooth = StepDecay(gamma=0.5, every=7), Exponential(gamma=0.5, every=7)
    for u in range(1, 40):
        assert steps.factor(u, 40) == 0.5 ** ((u - 1) // 7)
        assert smooth.factor(7 * u - 6, 300) == pytest.approx(steps.factor(7 * u - 6, 300), rel=1e-12, abs=0)


def test_inverse_sqrt_is_that_of_the_transformer():
    """d^-0.5 min(u^-0.5, u w^-1.5) (Vaswani et al. 2017, eq. 3), with the peak as the learning rate."""
    d, w = 512, 40
    for u in (1, 7, 39, 40, 41, 160, 5000):
        published = d**-0.5 * min(u**-0.5, u * w**-1.5)
        assert SGD((d * w) ** -0.5, schedule=InverseSqrt(w)).rate(u, 5000) == pytest.approx(published)
    assert InverseSqrt(40).factor(160, 5000) == 0.5


def test_a_schedule_after_the_warmup_has_the_rest_of_the_updates():
    schedule = Warmup(length=10, after=Cosine())
    factors = [schedule.factor(u, 30) for u in range(1, 31)]
    assert factors[:10] == [u / 10 for u in range(1, 11)]
    assert factors[10:] == [Cosine().factor(u, 20) for u in range(1, 21)]
    assert (factors[10], factors[20]) == (1, pytest.approx(0.5))
    assert Warmup(length=10).factor(30, 30) == 1
    assert schedule.factor(8, 8) == 0.8  # a training may be over before it

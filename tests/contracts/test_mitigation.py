"""How far the contract of a mitigation reaches, and sums of penalties."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

import gradsim
from gradsim import Mitigation, Penalty, hookimpl
from gradsim.contracts.trajectory import step_rows
from gradsim_cells import Elman


@dataclass(frozen=True, eq=False)
class ForceByProducts(Mitigation):
    """Generalised teacher forcing, backward half: scale by a factor found from the measured products."""

    name = "force_by_products"
    requires = ("product_spectral_norm",)

    @hookimpl(wrapper=True)
    def gradsim_jacobians(self, measured):
        jacobians = yield
        whole = measured[self]["product_spectral_norm"][-1, 0]
        per_step = whole ** (1 / len(jacobians.steps))
        alpha = np.maximum(0, 1 - 1 / per_step)
        return jacobians.changed(lambda blocks: (1 - alpha)[:, None, None, None] * blocks)


def test_a_forcing_factor_comes_from_the_measured_products(rng):
    x = rng.standard_normal((40, 2, 2))
    ds = gradsim.simulate(
        Elman(2, 6, activation="relu", gain=2.5),
        0.01 * x,
        mitigations=[ForceByProducts()],
        record=["product_spectral_norm", "effective_product_norm", "effective_product_spectral_norm"],
    )
    raw, forced = ds.product_spectral_norm[-1, 0], ds.effective_product_spectral_norm[-1, 0]
    assert (raw > 10).all()
    np.testing.assert_allclose(forced, 1, rtol=1e-12)


@dataclass(frozen=True, eq=False)
class RandomTruncation(Mitigation):
    """ARTBP (Tallec & Ollivier 2017): cut with probability c, else divide by 1 - c."""

    name = "random_truncation"
    c: float = 0.3
    pattern: tuple[bool, ...] | None = None

    def draw(self, rng, steps):
        return {"cut": rng.random(steps) < self.c if self.pattern is None else np.array(self.pattern)}

    @hookimpl(wrapper=True)
    def gradsim_jacobians(self, draws):
        jacobians = yield
        cut = draws[self]["cut"][step_rows(jacobians.steps)]
        scale = np.where(cut, 0, 1 / (1 - self.c))
        return jacobians.changed(lambda blocks: scale[:, None, None, None, None] * blocks)


def test_randomised_truncation_is_unbiased(rng):
    x = rng.standard_normal((5, 2, 2))
    cell = Elman(2, 3)
    exact = gradsim.simulate(cell, x, record=["gradient"]).gradient_W
    mean = 0
    for pattern in itertools.product([False, True], repeat=5):
        cuts = sum(pattern)
        cut = RandomTruncation(pattern=pattern)
        ds = gradsim.simulate(cell, x, record=["effective_gradient"], mitigations=[cut])
        mean = mean + 0.3**cuts * 0.7 ** (5 - cuts) * ds.effective_gradient_W
    np.testing.assert_allclose(mean, exact, atol=1e-14)


def test_penalties_add_up():
    a = Penalty(1.0, {"W": np.ones(2)}, np.ones(3))
    b = Penalty(2.0, {"W": np.ones(2), "b": np.ones(1)})
    total = a + b
    assert total.value == 3
    assert list(total.gradient["W"]) == [2, 2]
    assert list(total.gradient["b"]) == [1]
    assert list(total.state_gradient) == [1, 1, 1]
    assert (b + b).state_gradient is None

"""How far the contract of a mitigation reaches, and sums of penalties."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np
import pytest
from helpers import broken, refused, returning

import gradsim
from gradsim import Mitigation, Pairs, Penalty, hookimpl
from gradsim.contracts.trajectory import step_rows
from gradsim.errors import InputError, PluginError
from gradsim_cells import Elman, MinGRU
from gradsim_mitigations import Leak
from gradsim_optimizers import SGD
from gradsim_tasks import Adding


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
        Elman(2, 6, activation="relu", recurrent_scale=2.5),
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
    exact = gradsim.simulate(cell, x, record=["gradient"]).gradient_U
    mean = 0
    for pattern in itertools.product([False, True], repeat=5):
        cuts = sum(pattern)
        cut = RandomTruncation(pattern=pattern)
        ds = gradsim.simulate(cell, x, record=["effective_gradient"], mitigations=[cut])
        mean = mean + 0.3**cuts * 0.7 ** (5 - cuts) * ds.effective_gradient_U
    np.testing.assert_allclose(mean, exact, atol=1e-14)


def test_penalties_add_up():
    a = Penalty(1.0, {"U": np.ones(2)}, np.ones(3))
    b = Penalty(2.0, {"U": np.ones(2), "b": np.ones(1)})
    total = a + b
    assert total.value == 3
    assert list(total.gradient["U"]) == [2, 2]
    assert list(total.gradient["b"]) == [1]
    assert list(total.state_gradient) == [1, 1, 1]
    assert (b + b).state_gradient is None


@dataclass(frozen=True, eq=False)
class ByMeanNorm(Mitigation):
    """Step Jacobians over the mean norm of the products that it requires."""

    name = "by_mean_norm"
    requires = ("product_norm", "adjoint_norm")
    pairs: Pairs = field(default_factory=Pairs)

    @property
    def required_pairs(self):
        return self.pairs

    @hookimpl(wrapper=True)
    def gradsim_jacobians(self, measured):
        jacobians = yield
        size = np.nanmean(measured[self]["product_norm"]) + measured[self]["adjoint_norm"].mean()
        return jacobians.changed(lambda blocks: blocks / size)


RECORDED = [
    ({}, False, 1),
    ({"pairs": Pairs(max_lag=2)}, False, 2),
    ({"pairs": Pairs(sources=(0,), times=(3, -1))}, True, 1),
    ({"pairs": Pairs(lags=(1, 5))}, False, 3),
    ({"pairs": Pairs(max_lag=0)}, True, 2),
]
"""Pairs, whether in the least memory that will do, threads."""


@pytest.mark.parametrize("required", [Pairs(), Pairs(max_lag=1), Pairs(sources=(2,))], ids=str)
@pytest.mark.parametrize("cell", [Elman(2, 4), MinGRU(2, 5)], ids=lambda c: c.name)
def test_what_is_recorded_does_not_change_what_is_required(cell, required, rng):
    """Whatever pairs are recorded, in any memory, on any number of threads."""
    inputs = rng.standard_normal((20, 3, 2))
    found = []
    for chosen, least, threads in RECORDED:
        setting = chosen | {
            "record": ["product_norm", "effective_gradient"],
            "mitigations": [ByMeanNorm(required)],
        }
        memory = gradsim.prepare(cell, inputs, **setting).plan.memory_bytes if least else None
        ds = gradsim.simulate(cell, inputs, **setting, memory=memory, threads=threads)
        found.append({n: v.values.tobytes() for n, v in ds.items() if n.startswith("effective_gradient")})
    assert len(found[0]) == len(cell.init_params(rng))
    assert all(one == found[0] for one in found)


@pytest.mark.parametrize("said", [-1.0, np.nan, None])
@pytest.mark.parametrize("method", ["carry_bytes", "flops"])
def test_what_it_carries_and_takes_are_numbers(method, said, rng):
    carrying = broken(
        "gradsim_gradient",
        returning(lambda gradient: gradient),
        **{method: lambda self, problem: said},
    )
    with refused(PluginError, f"Broken(): {method}() should be a number, 0 or more, not {said}"):
        gradsim.simulate(
            Elman(2, 4),
            rng.standard_normal((9, 1, 2)),
            mitigations=[carrying],
            record=["effective_gradient"],
        )


@dataclass(frozen=True, eq=False)
class Asks(Mitigation):
    """Notes what it is told, and refuses a cell of few units."""

    name = "asks"
    told: list = field(default_factory=list)

    def refuse(self, cell, shapes, task):
        self.told.append(("refuse", cell.name, shapes.get("readout_W"), task))
        if cell.state_size < 3:
            raise InputError(f"asks: {cell.name} is too small")

    def draw(self, rng, cell):
        self.told.append(("draw", cell.name))
        return {}

    @hookimpl(wrapper=True)
    def gradsim_penalty(self, cell):
        penalty = yield
        self.told.append(("penalty", cell.name))
        return penalty

    @hookimpl(wrapper=True)
    def gradsim_update(self, cell):
        params = yield
        self.told.append(("update", cell.name))
        return params


def test_it_may_refuse_a_cell_before_anything_runs():
    task, mitigation = Adding(length=20), Asks()
    with pytest.raises(InputError, match="asks: elman is too small"):
        gradsim.prepare(Elman(2, 2), task=task, mitigations=[mitigation])
    assert mitigation.told == [("refuse", "elman", (1, 2), task)]
    with pytest.raises(InputError, match="asks: leaky is too small"):
        gradsim.simulate(Elman(2, 2), np.zeros((3, 1, 2)), mitigations=[Leak(), Asks()])


def test_it_is_told_the_cell_that_runs_and_refuses_before_any_pass():
    task, mitigation = Adding(length=20), Asks()
    gradsim.train(Elman(2, 3), task, optimizer=SGD(0.1), updates=3, batch=2, mitigations=[Leak(), mitigation])
    assert mitigation.told[0] == ("refuse", "leaky", (1, 3), task)
    said = [what for what, *_ in mitigation.told]
    assert "refuse" not in said[said.index("penalty") :]
    assert said.count("update") == said.count("penalty") == 3
    assert {name for _, name, *_ in mitigation.told} == {"leaky"}

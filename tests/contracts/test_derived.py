"""Parameters made of others: evaluated once for many steps, also inside other wrappers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from helpers import loss_of, numerical_gradient

import gradsim
from gradsim import Cell, Derived
from gradsim.contracts.moment import Moment
from gradsim.contracts.plugin import drawn
from gradsim.errors import PluginError, UnknownNameError
from gradsim.testing import check_cell
from gradsim_cells import GRU, LSTM, Elman
from gradsim_mitigations.gate import Gated
from gradsim_mitigations.leak import Leaky


@dataclass(frozen=True, eq=False)
class ExpRNN(Derived):
    """U = exp(A - A^T), orthogonal (Lezcano-Casado & Martinez-Rubio 2019, Cheap orthogonal constraints)."""

    name = "exponential"
    replaces = ("U",)
    own_recurrent_weights = ("A",)

    cell: Cell

    def own_params(self, rng, inner):
        return {"A": rng.uniform(-0.3, 0.3, inner["U"].shape)}

    def derive(self, own, inner, xp):
        a = (own["A"] - own["A"].T) / 2**6
        power = found = xp.eye(a.shape[0], dtype=a.dtype)
        for order in range(1, 9):  # Taylor, of a matrix that is small
            power = power @ a / order
            found = found + power
        for _ in range(6):
            found = found @ found
        return {"U": found}


@dataclass(frozen=True, eq=False)
class SpectralNorm(Derived):
    """Each recurrent weight over its largest singular value (Miyato et al. 2018, Spectral normalization)."""

    name = "spectral_norm"

    cell: Cell

    def derive(self, own, inner, xp):
        return {
            n: inner[n] / xp.max(xp.linalg.svd(inner[n], full_matrices=False)[1])
            for n in self.cell.recurrent_weights
        }


@dataclass(frozen=True, eq=False)
class WeightNoise(Derived):
    """Gaussian noise on all weights, drawn once a pass (Graves 2011, Practical variational inference)."""

    name = "weight_noise"

    cell: Cell
    size: float = 0.1

    def own_noise(self, rng, inner, moment):
        size = 0.0 if moment.validating else self.size
        return {n: size * rng.standard_normal(p.shape) for n, p in inner.items()}

    def derive(self, own, inner, xp, **noise):
        return {n: p + noise[n] for n, p in inner.items()}


CELLS = {
    "exp_rnn": ExpRNN(Elman(2, 4)),
    "spectral_norm": SpectralNorm(LSTM(2, 3)),
    "leak around": Leaky(ExpRNN(Elman(2, 4)), 0.3),
    "leak inside": ExpRNN(Leaky(Elman(2, 4), 0.3)),
    "gates on both sides": Gated(SpectralNorm(Gated(Elman(2, 3), 1.0)), 0.5),
    "derived twice": WeightNoise(SpectralNorm(GRU(2, 3))),
    "noise inside": Leaky(SpectralNorm(WeightNoise(Elman(2, 3))), 0.5),
}
each = pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS.keys())


@each
def test_gradients_are_those_of_the_loss(cell, inputs):
    params = cell.init_params(np.random.default_rng(5))
    ds = gradsim.simulate(cell, inputs, params=params, record=["gradient", "contribution"], rng=3)
    for name in params:
        expected = numerical_gradient(lambda p: loss_of(cell, p, inputs=inputs, rng=3), params, name)
        np.testing.assert_allclose(ds[f"gradient_{name}"], expected, rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(
            ds[f"contribution_{name}"].sum("step"), ds[f"gradient_{name}"], rtol=1e-10, atol=1e-12
        )


@each
def test_they_keep_the_contract_of_a_cell(cell):
    check_cell(cell)


@dataclass(frozen=True, eq=False)
class Counted(SpectralNorm):
    counts = [0]  # noqa: RUF012

    def derive(self, own, inner, xp):
        self.counts[0] += 1
        return super().derive(own, inner, xp)


@pytest.mark.parametrize(
    "around", [lambda c: c, lambda c: Leaky(c, 0.3), lambda c: Gated(c, 1.0)], ids=["alone", "leak", "gate"]
)
def test_derived_once_for_many_steps(around, rng):
    cell = around(Counted(Elman(2, 3)))
    counted = []
    for steps in (20, 200):
        x, params = rng.standard_normal((steps, 2, 2)), cell.init_params(rng)
        Counted.counts[0] = 0
        taken = cell.unroll(params, np.zeros((2, 3)), x, {}, lambda jobs: [job() for job in jobs])
        pulled = taken.pull(np.ones((2, 3)), np.zeros((steps, 2, 3)))
        pulled.gradient()
        counted.append(Counted.counts[0])
    assert counted == [1, 1]


def test_exp_rnn_is_orthogonal_and_its_name_inside_is_gone(inputs):
    cell = ExpRNN(Elman(2, 4))
    params = cell.init_params(np.random.default_rng(0))
    assert [*params] == ["W", "b", "exponential1_A"]
    assert cell.recurrent_weights == ("exponential1_A",)
    w = cell.evaluated(params, {}).params["U"]
    np.testing.assert_allclose(w @ w.T, np.eye(4), atol=1e-13)


def test_names_are_the_same_with_and_without_derived_layers():
    cell = Gated(SpectralNorm(Gated(Elman(2, 3), 1.0)), 1.0)
    assert cell.prefix == "gated2_"
    evaluated = cell.evaluated(cell.init_params(np.random.default_rng(0)), {})
    assert repr(evaluated.cell) == repr(Gated(Gated(Elman(2, 3), 1.0), 1.0))
    assert evaluated.params.keys() == evaluated.cell.init_params(np.random.default_rng(0)).keys()


def test_noise_is_drawn_once_a_pass_and_not_while_validating(inputs):
    cell = WeightNoise(Elman(2, 4))
    params = cell.init_params(np.random.default_rng(0))
    passes = [
        cell.evaluated(params, drawn(cell.draw, np.random.default_rng(seed), inputs, Moment(purpose=purpose)))
        for seed, purpose in ((1, "learn"), (1, "learn"), (2, "learn"), (1, "validate"))
    ]
    first, again, other, validated = (p.params["U"] for p in passes)
    np.testing.assert_array_equal(first, again)
    assert 0.02 < np.std(first - other) < 0.5
    np.testing.assert_array_equal(validated, params["U"])


@dataclass(frozen=True, eq=False)
class Unfitting(SpectralNorm):
    def derive(self, own, inner, xp):
        return {"U": inner["U"][:1]}


@dataclass(frozen=True, eq=False)
class Replacing(SpectralNorm):
    replaces = ("w",)


def test_what_does_not_fit_is_refused_before_the_run(inputs):
    with pytest.raises(PluginError, match=r"derive\(\) makes parameters"):
        gradsim.simulate(Unfitting(Elman(2, 4)), inputs)
    with pytest.raises(UnknownNameError, match=r"'w'; did you mean 'W'"):
        gradsim.simulate(Replacing(Elman(2, 4)), inputs)


@pytest.mark.parametrize("method", ["mix", "step", "output"])
def test_what_would_not_be_asked_is_refused(method):
    with pytest.raises(PluginError, match=rf"Loud: .* {method}\(\) would not be asked; .* Wrapper"):
        type("Loud", (SpectralNorm,), {method: lambda self, *args, **data: None})

"""Sums of several terms, against the same written out."""

from __future__ import annotations

import numpy as np
import pytest
from probes.cells import Coupled

from gradsim import Term
from gradsim.contracts.dense.weights import Weights, add_terms, room, slices
from gradsim.errors import PluginError


class Scattered(Coupled):
    """Sums f = W1 x + V h + b1 + c, o = W0 x + c0, g = p + V h."""

    name = "scattered"
    paths = ()

    @property
    def terms(self):
        n = self.hidden_size
        return (
            Term("W", "x", slice(n, None), 0),
            Term("W", "x", slice(0, n), n),
            Term("V", "h", slice(0, n), 0),
            Term("V", "h", slice(n, None), 2 * n),
            Term("b", "1"),
            Term("p", "1", column=2 * n),
        )


@pytest.fixture
def cell():
    return Scattered()


@pytest.fixture
def params(cell, rng):
    shapes = {"W": (8, 2), "V": (8, 4), "b": (8,), "p": (4,), "unused": (2, 2)}
    return {name: rng.standard_normal(shape) for name, shape in shapes.items()}


def by_hand(params, x, h):
    w, v, b, p = (params[n] for n in ("W", "V", "b", "p"))
    f = x @ w[4:].T + h @ v[:4].T + b[:4]
    o = x @ w[:4].T + b[4:]
    g = p + h @ v[4:].T
    return np.concatenate((f, o, g), axis=-1)


def test_terms_add_up_to_the_sums(cell, params, rng):
    x, h = rng.standard_normal((5, 3, 2)), rng.standard_normal((5, 3, 4))
    weights = Weights.of(cell, params)
    np.testing.assert_allclose(weights.sums(x, h), by_hand(params, x, h), atol=1e-14)
    state = np.concatenate((h, h), axis=-1)
    new = cell.unit(tuple(np.split(by_hand(params, x, h), 3, axis=-1)), (h, h), np)
    np.testing.assert_allclose(cell.step(params, state, x, np), np.concatenate(new, axis=-1), atol=1e-14)


def test_a_parameter_that_is_a_sum_by_itself_is_not_copied(rng):
    params = Coupled().init_params(rng)
    weights = Weights.of(Coupled(), params)
    assert weights.column == 0
    for made, name in ((weights.input, "W"), (weights.state, "U"), (weights.bias, "b")):
        assert np.shares_memory(made, params[name])


def test_gradients_of_terms_in_pieces(cell, params, rng):
    x, h, d = (rng.standard_normal((7, n)) for n in (2, 4, 12))
    weights = Weights.of(cell, params)
    whole, cut = (room(params, weights.terms, d.dtype) for _ in range(2))
    add_terms(weights.terms, d, {"x": x, "h": h}, whole)
    for term in weights.terms:
        add_terms(list(term.pieces()), d, {"x": x, "h": h}, cut)
    for name, p in params.items():
        np.testing.assert_array_equal(cut[name], whole[name])
        way = rng.standard_normal(p.shape)
        moved = [by_hand({**params, name: p + s * way}, x, h) for s in (0.5, -0.5)]
        assert np.sum(whole[name] * way) == pytest.approx(np.sum(d * (moved[0] - moved[1])), abs=1e-12)


def test_slices_cover_all_once():
    assert slices(7, 3) == [slice(0, 3), slice(3, 6), slice(6, 7)]


def test_a_sum_that_nothing_adds_to_is_refused(cell, params):
    class Short(Scattered):
        terms = (Term("b", "1"),)

    with pytest.raises(PluginError, match=r"no term adds to sum 2 of the 3 sums of 4 units; .* column=8"):
        Weights.of(Short(), params)

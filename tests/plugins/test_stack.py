"""Layers of cells: any cells, derived and wrapped ones too, and the derivatives of the whole."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from helpers import assert_gradient_of_the_loss

import gradsim
from gradsim import Cell, Derived, Wrapper
from gradsim.contracts import registry
from gradsim.contracts.trajectory import one_by_one
from gradsim.errors import InputError
from gradsim.testing import check_cell
from gradsim_cells import GRU, LRU, LSTM, Elman, Stack
from gradsim_initializers import Ring
from gradsim_mitigations import Leak
from gradsim_mitigations.gate import Gated
from gradsim_mitigations.leak import Leaky


@dataclass(frozen=True, eq=False)
class Tied(Derived):
    """Symmetric recurrent weights."""

    name = "tied"
    cell: Cell

    def derive(self, own, inner, xp):
        return {n: 0.5 * (inner[n] + inner[n].T) for n in self.cell.recurrent_weights}


@dataclass(frozen=True, eq=False)
class Held(Wrapper):
    """Units are held where a mask says so, at even steps, in a validation too."""

    name = "held"
    cell: Cell

    def own_draw(self, rng, steps, batch, moment):
        return {"held": rng.random((steps, batch, self.state_size)) < 0.5}

    def mix(self, own, state, inputs, new, xp, *, held, step_index):
        return xp.where(held & (step_index % 2 == 0)[..., None], state, new)


CELLS = {
    "three layers": Stack((LSTM(2, 3), GRU(3, 2), Elman(2, 4))),
    "one layer": Stack((Elman(2, 3),)),
    "outputs of two blocks": Stack((LRU(2, 3), Elman(6, 2))),
    "wrapped layers": Stack((Gated(Elman(2, 3), 1.0), Leaky(Elman(3, 2), 0.5))),
    "wrapped as a whole": Leaky(Gated(Stack((Elman(2, 2), LSTM(2, 2))), 1.0), 0.5),
    "masks in each layer": Stack((Held(Elman(2, 3)), Held(Leaky(Held(Elman(3, 2)), 0.5)))),
    "derived in a layer": Stack((Leaky(Tied(Elman(2, 3)), 0.5), Elman(3, 2))),
    "derived from outside": Leaky(Tied(Stack((Elman(2, 3), Held(Elman(3, 2))))), 0.5),
    "a stack of stacks": Stack((Stack((Elman(2, 3), Elman(3, 2))), GRU(2, 2))),
}
each = pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS.keys())


@each
def test_gradients_are_those_of_the_loss(cell, inputs):
    assert_gradient_of_the_loss(cell, inputs)


@each
def test_they_keep_the_contract_of_a_cell(cell):
    check_cell(cell)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_layers_one_after_the_other_are_the_joint_steps(dtype, rng):
    """Forward and back, against the free derivatives of the joint step."""
    cell = Stack((LSTM(2, 3), GRU(3, 2), Elman(2, 4)))
    params = {n: p.astype(dtype) for n, p in cell.init_params(rng).items()}
    m = cell.state_size
    first, x, direct = (rng.standard_normal(s).astype(dtype) for s in ((4, m), (9, 4, 2), (10, 4, m)))
    taken = cell.unroll(params, first, x, {}, one_by_one)
    free = Cell.unroll(cell, params, first, x, {}, one_by_one)
    close = {"rtol": 1e-10, "atol": 1e-12} if dtype == "float64" else {"rtol": 1e-4, "atol": 1e-4}
    np.testing.assert_allclose(taken.states, free.states, **close)
    adjoint = direct[-1]
    pulled = taken.pull(direct[-1], direct[:-1])
    for t in range(8, -1, -1):
        np.testing.assert_allclose(pulled.adjoints[t + 1], adjoint, **close)
        adjoint = Cell.state_vjp(cell, params, free.states[t], x[t], adjoint) + direct[t]
    free_gradient = Cell.params_vjp(cell, params, free.states[:-1], x, pulled.adjoints[1:])
    contributions, gradient = pulled.contributions(), pulled.gradient()
    assert gradient.keys() == contributions.keys() == params.keys()
    for name, value in free_gradient.items():
        np.testing.assert_allclose(contributions[name], value, **close)
        np.testing.assert_allclose(gradient[name], value.sum(axis=0), **close)
        assert gradient[name].dtype == dtype


def test_an_adjoint_that_vanishes_beside_a_large_one_keeps_its_digits(rng):
    """ds^1_T / ds^0_0 through a lower layer that forgets almost all: no difference of large numbers."""
    cell = Stack((Elman(2, 3, recurrent_scale=1e-9), Elman(3, 3)))
    params, x = cell.init_params(rng), rng.standard_normal((4, 1, 2))
    taken = cell.unroll(params, np.zeros((1, 6)), x, {}, one_by_one)
    adjoints = taken.pull(np.ones((1, 6)), np.zeros((4, 1, 6))).adjoints
    expected = np.ones((1, 6))
    for t in range(3, -1, -1):
        expected = Cell.state_vjp(cell, params, taken.states[t], x[t], expected)
    np.testing.assert_allclose(adjoints[0], expected, rtol=1e-12)


def test_a_layer_that_vanishes_sooner_does_not_stop_the_others(rng):
    """Each batch element of each layer goes from a size of its own."""
    cell = Stack((Elman(2, 5, recurrent_scale=0.9), LRU(5, 3, recurrent_init=Ring(r_max=0.3))))
    params = {n: p.astype(np.float32) for n, p in cell.init_params(rng).items()}
    x = rng.standard_normal((60, 3, 2)).astype(np.float32)
    taken = cell.unroll(params, np.zeros((3, 11), dtype=np.float32), x, {}, one_by_one)
    incoming, direct = rng.standard_normal((3, 11)), np.zeros((60, 3, 11))
    incoming[:, 5:] *= np.ldexp(1.0, [[-95], [0], [-40]])
    pulled = taken.pull(incoming.astype(np.float32), direct.astype(np.float32))
    assert len(pulled.adjoints) > 30
    expected = {n: 0.0 for n in params}
    for t in range(59, 60 - len(pulled.adjoints), -1):
        at = {n: p.astype(np.float64) for n, p in params.items()}, taken.states[t].astype(np.float64), x[t]
        contribution = Cell.params_vjp(cell, *at, incoming)
        incoming = Cell.state_vjp(cell, *at, incoming)
        found = pulled.adjoints[t - 61 + len(pulled.adjoints)]
        for part in (slice(0, 5), slice(5, 11)):
            size = np.abs(incoming[:, part]).max(axis=-1, keepdims=True)
            assert (np.abs(found - incoming)[:, part] <= 1e-4 * size + 2.0**-149).all()
        expected = {n: g + contribution[n] for n, g in expected.items()}
    for name, found in pulled.gradient().items():
        np.testing.assert_allclose(found, expected[name], rtol=1e-4, atol=1e-4 * np.abs(expected[name]).max())


def test_names_of_a_stack():
    cell = CELLS["masks in each layer"]
    assert dict(cell.blocks) == {"layer0_h": 3, "layer1_h": 2}
    assert cell.output_blocks == ("layer1_h",)
    assert cell.recurrent_weights == ("layer0_U", "layer1_U")
    assert cell.step_data == ("layer0_held1_held", "step_index", "layer1_held1_held", "layer1_held3_held")


def test_from_a_table():
    layers = [{"name": "lstm", "input_size": 2, "hidden_size": 3}, {"name": "elman", "input_size": 3}]
    cell = registry.build("cells", "stack", {"cells": layers})
    assert [type(c) for c in cell.cells] == [LSTM, Elman]
    assert repr(registry.build("cells", "stack", cell.parameters)) == repr(cell)


def test_layers_must_fit():
    with pytest.raises(InputError, match=r"cells\[1\] takes input_size=4 where the layer below gives 3"):
        Stack((Elman(2, 3), Elman(4, 4)))
    with pytest.raises(InputError, match="at least one"):
        Stack(())


def test_a_mitigation_around_a_stack(inputs):
    cell = Stack((LSTM(2, 3), LSTM(3, 3)))
    ds = gradsim.simulate(cell, inputs, mitigations=[Leak(1.0)], record=["gradient", "product_norm"])
    plain = gradsim.simulate(cell, inputs, record=["gradient", "product_norm"])
    for name in plain.data_vars:
        np.testing.assert_allclose(ds[name], plain[name], rtol=1e-10, atol=1e-12)

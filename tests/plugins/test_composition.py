"""Cells around cells: residual connections, zoneout and layer normalisation."""

from __future__ import annotations

import importlib

import jax
import numpy as np
import pytest
from helpers import assert_gradient_of_the_loss

import gradsim
from gradsim import Moment
from gradsim.errors import UnknownNameError
from gradsim.testing import check_cell, conformance
from gradsim_cells import GRU, LRU, LSTM, Elman, LayerNorm, Linear, Residual, Stack, Zoneout
from gradsim_optimizers import Adam
from gradsim_tasks import Adding

test_other_forms = conformance(
    Residual(Elman(2, 3)),
    Residual(GRU(3, 3), scale=0.5),
    Residual(LRU(2, 3)),
    Residual(LSTM(2, 3), scale=0.5, around="step"),
    Zoneout(LSTM(2, 3), rates={"c": 0.5}),
    Zoneout(LRU(2, 3)),
    LayerNorm(GRU(2, 3)),
    LayerNorm(LSTM(2, 3), normalised=("h", "c")),
)

STACKS = {
    "residual layers": Stack((Elman(2, 3), Residual(Elman(3, 3)), Residual(LSTM(3, 3)))),
    "normalised layers": Stack((LayerNorm(LSTM(2, 3)), LayerNorm(GRU(3, 3)))),
    "layers that are kept": Stack((Zoneout(LSTM(2, 3)), Zoneout(Elman(3, 2), rate=0.5))),
    "one in the other": Stack((Residual(Zoneout(LayerNorm(Elman(2, 3)))), Residual(Zoneout(GRU(3, 3))))),
}
in_a_stack = pytest.mark.parametrize("cell", STACKS.values(), ids=STACKS.keys())


@in_a_stack
def test_a_stack_of_them_keeps_the_contract(cell):
    check_cell(cell)


@in_a_stack
def test_gradients_in_a_stack_are_those_of_the_loss(cell, inputs):
    assert_gradient_of_the_loss(cell, inputs)


@pytest.mark.parametrize("cell", [*STACKS.values(), Residual(LSTM(2, 3), around="step")])
def test_they_are_trained_and_derived_by_jax(cell):
    task = Adding(length=20)
    ds = gradsim.train(cell, task, updates=3, batch=4, rng=0, optimizer=Adam())
    assert np.isfinite(ds.train_loss).all()
    one, other = (
        gradsim.simulate(cell, task=task, batch=2, rng=0, record=["gradient", "adjoint"], derivatives=by)
        for by in ("autograd", "jax")
    )
    for name in one.data_vars:
        np.testing.assert_allclose(other[name], one[name], rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("cell", [LayerNorm(GRU(2, 3)), Residual(LSTM(2, 3)), Zoneout(Elman(2, 3))])
@pytest.mark.parametrize(
    "library", ["array_api_strict", "jax.numpy", "array_api_compat.torch"], ids=lambda x: x.split(".")[-1]
)
def test_they_take_the_arrays_of_other_libraries(cell, library, rng):
    xp = importlib.import_module(library)
    state, inputs = rng.standard_normal((4, cell.state_size)), rng.standard_normal((4, 2))
    params = cell.init_params(rng)
    data = {n: rng.random((4, cell.state_size)) for n in cell.step_data}
    with jax.enable_x64(True):
        there = [{n: xp.asarray(x) for n, x in values.items()} for values in (params, data)]
        given = there[0], xp.asarray(state), xp.asarray(inputs)
        found = np.asarray(cell.step(*given, xp, **there[1]))
        seen = np.asarray(cell.output(*given, xp))
    np.testing.assert_allclose(found, cell.step(params, state, inputs, np, **data), rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(seen, cell.output(params, state, inputs, np), rtol=1e-13, atol=1e-13)


# Residual.


def test_a_residual_layer_adds_its_inputs_to_its_output(rng):
    """A stack of residual tanh layers, by hand: the layer above sees the sum, the recurrence does not."""
    cell = Stack((Elman(2, 3), Residual(Elman(3, 3)), Residual(Elman(3, 3), scale=0.5)))
    params, x = cell.init_params(rng), rng.standard_normal((5, 2))
    ds = gradsim.simulate(cell, x[:, None], params=params, record=["state"])
    h = np.zeros((3, 3))
    for t in range(5):
        below = x[t]
        for i, scale in enumerate((None, 1.0, 0.5)):
            W, U, b = (params[f"layer{i}_{n}"] for n in "WUb")
            h[i] = np.tanh(W @ below + U @ h[i] + b)
            below = h[i] if scale is None else below + scale * h[i]
        np.testing.assert_allclose(ds.state[t + 1, 0], h.ravel(), rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(
        cell.output(params, h.reshape(1, -1), x[-1:], np)[0], h[0] + h[1] + 0.5 * h[2], rtol=1e-14
    )


def test_between_silent_residual_layers_the_gradient_is_whole():
    """Layers with weights 0 hand on what they see, and all of the gradient comes down."""
    cell = Stack((Elman(1, 4), *(Residual(Elman(4, 4)) for _ in range(6))))
    params = cell.init_params(np.random.default_rng(0))
    params |= {n: np.zeros_like(p) for n, p in params.items() if not n.startswith("layer0_")}
    ds = gradsim.simulate(cell, np.ones((1, 1, 1)), params=params, record=["state", "gradient"])
    slopes = 1 - ds.state[1, 0, :4].values ** 2
    np.testing.assert_allclose(ds.gradient_layer0_b, slopes, rtol=1e-13)


def test_the_skip_around_a_layer_is_a_path_of_the_stack(rng):
    """ds^2_t/ds^0_{t-1} = D_2 W_2 (I + D_1 W_1) D_0 U_0: the share of I is that of the skip."""
    cell = Stack((Elman(2, 3), Residual(Elman(3, 3)), Elman(3, 3)))
    params, s, x = cell.init_params(rng), rng.standard_normal((1, 9)), rng.standard_normal((1, 2))
    new = cell.step(params, s, x, np)[0]
    d = [np.diag(1 - h**2) for h in np.split(new, 3)]
    shares = cell.path_jacobians(params, s, x)
    assert tuple(shares) == ("direct", "skip")
    expected = np.zeros((9, 9))
    expected[6:, :3] = d[2] @ params["layer2_W"] @ d[0] @ params["layer0_U"]
    np.testing.assert_allclose(shares["skip"][0, 0], expected, rtol=1e-12, atol=1e-15)


def test_the_skip_of_a_step_is_the_identity_and_one_in_the_other_has_one(rng):
    cell = Residual(GRU(2, 3), scale=0.5, around="step")
    params, s, x = cell.init_params(rng), rng.standard_normal((1, 3)), rng.standard_normal((1, 2))
    np.testing.assert_allclose(cell.path_jacobians(params, s, x)["skip"][0, 0], np.eye(3), atol=1e-15)
    assert Residual(Residual(Elman(2, 2))).output_paths == ("skip",)
    assert Stack((Elman(2, 3), Residual(Elman(3, 3)))).paths == ()
    both = Stack((Stack((Elman(2, 3), Zoneout(Residual(LSTM(3, 3))))), Elman(3, 2)))
    assert both.paths == ("input", "forget", "candidate", "output", "skip")
    check_cell(both)


def test_where_sizes_differ_the_inputs_are_taken_across(rng):
    cell = Residual(Elman(2, 3))
    params = cell.init_params(rng)
    assert params["residual1_P"].shape == (3, 2)
    assert "residual1_P" not in Residual(Elman(3, 3)).init_params(rng)
    h, x = rng.standard_normal((4, 3)), rng.standard_normal((4, 2))
    expected = h + np.einsum("ij,bj->bi", params["residual1_P"], x)
    np.testing.assert_allclose(cell.output(params, h, x, np), expected, rtol=1e-14)


def test_a_residual_layer_leaves_the_recurrence_alone(inputs):
    plain, residual = Elman(2, 3), Residual(Elman(2, 3))
    params = residual.init_params(np.random.default_rng(1))
    inner = {n: params[n] for n in "WUb"}
    record = ["state", "product_norm"]
    one = gradsim.simulate(plain, inputs, params=inner, record=record)
    other = gradsim.simulate(residual, inputs, params=params, record=record)
    for name in one.data_vars:
        np.testing.assert_allclose(other[name], one[name], rtol=1e-13)


def test_around_a_step_the_products_are_powers_of_an_euler_step(inputs):
    """Of a linear f: P(t, k) = (I + scale U)^(t-k)."""
    cell = Residual(Linear(2, 3), scale=0.3, around="step")
    params = cell.init_params(np.random.default_rng(2))
    ds = gradsim.simulate(cell, inputs, params=params, record=["jacobian_product"])
    expected = np.linalg.matrix_power(np.eye(3) + 0.3 * params["U"], 4)
    found = ds.jacobian_product.sel(time=5, source=1).values
    np.testing.assert_allclose(found[0], expected, rtol=1e-12)


# Zoneout.


def test_zoneout_keeps_a_part_of_each_block_at_random():
    cell = Zoneout(LSTM(2, 30), rate=0.2, rates={"c": 0.6})
    x = np.random.default_rng(0).standard_normal((40, 8, 2))
    ds = gradsim.simulate(cell, x, record=["state"], rng=1)
    kept = (ds.state.diff("time") == 0).groupby("block").mean(...)
    np.testing.assert_allclose(kept.sel(block=["h", "c"]), [0.2, 0.6], atol=0.02)


def test_a_step_with_zoneout_is_that_of_its_mask(rng):
    cell = Zoneout(Elman(2, 3), rate=0.5)
    params = cell.init_params(rng)
    h, x = rng.standard_normal((4, 3)), rng.standard_normal((4, 2))
    kept = np.array([[1.0, 0.0, 1.0]] * 4)
    plain = np.tanh(x @ params["W"].T + h @ params["U"].T)
    expected = np.stack((h[:, 0], plain[:, 1], h[:, 2]), axis=-1)
    np.testing.assert_allclose(cell.step(params, h, x, np, zoneout1_kept=kept), expected, rtol=1e-14)
    found = cell.step_jacobian(params, h, x, zoneout1_kept=kept)[:, 0]
    slopes = (1 - plain**2)[:, :, None] * params["U"]
    np.testing.assert_allclose(found[:, [0, 2]], np.broadcast_to(np.eye(3)[[0, 2]], (4, 2, 3)))
    np.testing.assert_allclose(found[:, 1], slopes[:, 1], rtol=1e-13)


def test_zoneout_takes_the_mean_of_its_masks_to_be_validated():
    cell, x = Zoneout(LSTM(2, 3), rate=0.2, rates={"c": 0.6}), np.zeros((4, 2, 2))
    kept = cell.draw(np.random.default_rng(0), x, Moment(purpose="validate"))["zoneout1_kept"]
    np.testing.assert_array_equal(kept, np.broadcast_to([0.2] * 3 + [0.6] * 3, (4, 2, 6)))
    others = cell.draw(np.random.default_rng(0), x, Moment(purpose="learn"))["zoneout1_kept"]
    assert set(np.unique(others)) == {0.0, 1.0}


@pytest.mark.parametrize(("rate", "gain"), [(0.0, None), (1.0, 1.0)])
def test_the_limits_of_zoneout(rate, gain, inputs):
    params = Elman(2, 3).init_params(np.random.default_rng(1))
    record = ["state", "product_norm", "gradient"]
    found = gradsim.simulate(Zoneout(Elman(2, 3), rate=rate), inputs, params=params, record=record)
    if gain is None:
        plain = gradsim.simulate(Elman(2, 3), inputs, params=params, record=record)
        for name in plain.data_vars:
            np.testing.assert_allclose(found[name], plain[name], rtol=1e-12)
    else:
        assert (found.state == 0).all()
        assert (found.gradient_U == 0).all()


def test_rates_are_of_blocks_that_there_are():
    with pytest.raises(UnknownNameError, match=r"block of gru in the rates of Zoneout.*'c'"):
        Zoneout(GRU(2, 3), rates={"c": 0.5})


# Layer normalisation.


def test_a_normalised_block_has_mean_b_and_size_g(rng):
    cell = LayerNorm(LSTM(2, 5), epsilon=1e-12)
    params = cell.init_params(rng) | {"layer_norm1_g_h": np.full(5, 2.0), "layer_norm1_b_h": np.full(5, 0.5)}
    x = rng.standard_normal((6, 3, 2))
    ds = gradsim.simulate(cell, x, params=params, record=["state"])
    h = ds.state[1:, :, :5].values
    np.testing.assert_allclose(h.mean(-1), 0.5, rtol=1e-9)
    np.testing.assert_allclose(h.std(-1), 2.0, rtol=1e-6)


def test_the_cell_inside_keeps_the_blocks_that_are_not_normalised(rng):
    inside = LSTM(2, 5)
    cell = LayerNorm(inside)
    params, s, x = cell.init_params(rng), rng.standard_normal((3, 10)), rng.standard_normal((3, 2))
    plain = inside.step({n: params[n] for n in "WUb"}, s, x, np)
    found = cell.step(params, s, x, np)
    np.testing.assert_array_equal(found[:, 5:], plain[:, 5:])
    rows = [(row - np.mean(row)) / np.sqrt(np.var(row) + 1e-5) for row in plain[:, :5]]
    np.testing.assert_allclose(found[:, :5], rows, rtol=1e-12)


def test_the_jacobian_of_layer_norm_is_a_projection_over_sigma(rng):
    cell = LayerNorm(Linear(2, 5))
    params = cell.init_params(rng) | {"layer_norm1_g_h": rng.uniform(0.5, 2, 5)}
    h, x = rng.standard_normal((1, 5)), rng.standard_normal((1, 2))
    new = (x @ params["W"].T + h @ params["U"].T)[0]
    sigma = np.sqrt(new.var() + 1e-5)
    y = (new - new.mean()) / sigma
    ours = np.diag(params["layer_norm1_g_h"]) @ (np.eye(5) - 1 / 5 - np.outer(y, y) / 5) / sigma @ params["U"]
    np.testing.assert_allclose(cell.step_jacobian(params, h, x)[0, 0], ours, rtol=1e-9, atol=1e-12)


def test_layer_norm_is_of_blocks_that_there_are():
    with pytest.raises(UnknownNameError, match=r"block of gru for LayerNorm.*'c'"):
        LayerNorm(GRU(2, 3), normalised=("c",))

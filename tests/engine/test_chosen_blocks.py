"""Products from block to block, against slices of whole ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

import gradsim
from gradsim import Cell, Pairs, analysis
from gradsim.errors import InputError, UnknownNameError
from gradsim_cells import LEM, LRU, LSTM, Elman, MinGRU, Stack
from gradsim_mitigations import Truncate
from gradsim_optimizers import SGD
from gradsim_tasks import FlipFlop

RECORD = ["jacobian_product", "product_norm", "product_spectral_norm", "product_spectrum", "block_norm"]
CELLS = {
    "dense": (LSTM(2, 3), ("h",), ("c",)),
    "one side": (LSTM(2, 3), ("c",), None),
    "several": (Stack((LEM(2, 3), Elman(3, 4))), ("layer1_h", "layer0_z"), ("layer0_h", "layer0_z")),
    "groups": (LRU(2, 4), ("re",), ("im",)),
    "one block": (MinGRU(2, 4), ("h",), ("h",)),
}
INPUTS = np.random.default_rng(0).standard_normal((9, 2, 2))


def between(ds, cell, out, into):
    """The part of whole products from some blocks to others, (..., g, rows, columns)."""
    g = cell.jacobian_groups
    whole = ds.jacobian_product.values if g > 1 else ds.jacobian_product.values[..., None, :, :]
    rows, columns = (
        np.concatenate([np.arange(s.start // g, s.stop // g) for s in map(cell.block, names)])
        for names in ([n for n in cell.blocks if side is None or n in side] for side in (out, into))
    )
    return whole[..., rows[:, None], columns]


@pytest.mark.parametrize(
    "narrowed", [{}, {"lags": (1, 4)}, {"times": (3, -1), "sources": (0, 2, 7)}, {"max_lag": 2}], ids=str
)
@pytest.mark.parametrize(("cell", "out", "into"), CELLS.values(), ids=CELLS)
def test_chosen_blocks_are_slices_of_whole_products(cell, out, into, narrowed):
    whole = gradsim.simulate(cell, INPUTS, record=RECORD, pairs=Pairs(**narrowed), rng=0)
    pairs = Pairs(**narrowed, blocks_out=out, blocks_in=into)
    ds = gradsim.simulate(cell, INPUTS, record=RECORD, pairs=pairs, rng=0)
    part = between(whole, cell, out, into)
    found = ds.jacobian_product.values
    np.testing.assert_array_equal(found if cell.jacobian_groups > 1 else found[..., None, :, :], part)
    sizes = np.sqrt((part**2).sum(axis=(-1, -2, -3)))
    np.testing.assert_allclose(ds.product_norm, sizes, rtol=1e-13)
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(ds.product_norm_log10, np.log10(sizes), atol=1e-13)
    values = np.linalg.svd(np.nan_to_num(part), compute_uv=False)
    values = -np.sort(-values.reshape(*sizes.shape, -1))
    values[np.isnan(sizes)] = np.nan
    np.testing.assert_allclose(ds.product_spectral_norm, values[..., 0], rtol=1e-12, atol=1e-15)
    resolved = ~np.isnan(ds.product_spectrum.values)
    np.testing.assert_allclose(ds.product_spectrum.values[resolved], values[resolved], rtol=1e-9, atol=1e-14)
    chosen = {"to_block": list(ds.to_block.values), "from_block": list(ds.from_block.values)}
    np.testing.assert_allclose(ds.block_norm, whole.block_norm.sel(chosen), rtol=1e-13)
    np.testing.assert_allclose(
        np.sqrt((ds.block_norm**2).sum(("to_block", "from_block"), skipna=False)), sizes
    )


def test_the_dataset_says_which_components_they_are():
    cell, out, into = CELLS["several"]
    ds = gradsim.simulate(
        cell, INPUTS, record=[*RECORD, "step_jacobian"], pairs=Pairs(blocks_out=out, blocks_in=into)
    )
    assert ds.jacobian_product.dims == ("time", "source", "batch", "chosen_out", "chosen_in")
    assert ds.chosen_out.values.tolist() == [3, 4, 5, 6, 7, 8, 9]
    assert ds.chosen_block_out.values.tolist() == ["layer0_z"] * 3 + ["layer1_h"] * 4
    assert ds.chosen_in.values.tolist() == [0, 1, 2, 3, 4, 5]
    assert ds.chosen_block_in.values.tolist() == ["layer0_h"] * 3 + ["layer0_z"] * 3
    assert ds.sizes["chosen_mode"] == 6
    assert ds.sizes["state_out"] == 10
    assert (
        ds.product_norm.attrs["long_name"]
        == "Frobenius norm of d(layer0_z, layer1_h)_t/d(layer0_h, layer0_z)_k"
    )
    groups = gradsim.simulate(
        LRU(2, 4), INPUTS, record=["jacobian_product"], pairs=Pairs(blocks_out=("im",))
    ).jacobian_product
    assert groups.dims[-3:] == ("group", "chosen_row", "chosen_column")
    assert groups.chosen_row.values.tolist() == [1]
    assert groups.chosen_block_out.values.tolist() == ["im"]
    assert groups.chosen_block_in.values.tolist() == ["re", "im"]


def test_they_take_less_room():
    def plan(**pairs):
        return gradsim.prepare(LSTM(2, 4), INPUTS, record=["jacobian_product"], pairs=Pairs(**pairs)).plan

    assert plan().data_bytes == 4 * plan(blocks_out=("h",), blocks_in=("h",)).data_bytes
    assert plan(lags=(1, 2)).data_bytes == 2 * plan(lags=(1, 2), blocks_in=("c",)).data_bytes


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_on_disk_and_with_mitigations(tmp_path, dtype):
    record = [*RECORD, "effective_jacobian_product", "effective_product_norm"]
    arguments = {"record": record, "mitigations": [Truncate(k1=1, k2=3)], "rng": 0, "dtype": dtype}
    whole = gradsim.simulate(LSTM(2, 3), INPUTS, **arguments)
    pairs = Pairs(blocks_out=("h",), blocks_in=("h",))
    ds = gradsim.simulate(LSTM(2, 3), INPUTS, **arguments, pairs=pairs, store=tmp_path / "run")
    for name in ("jacobian_product", "effective_jacobian_product"):
        np.testing.assert_array_equal(ds[name], whole[name][..., :3, :3])
    sizes = np.sqrt(
        (ds.effective_jacobian_product.astype(float) ** 2).sum(("chosen_out", "chosen_in"), skipna=False)
    )
    np.testing.assert_allclose(ds.effective_product_norm, sizes, rtol=1e-6)
    assert (sizes == 0).any()


def test_sizes_beyond_the_range_of_float64():
    """Of diag(0.01, 0.02) the block h shrinks as 0.01^t, and nothing leads from it to the other one."""

    @dataclass(frozen=True, eq=False)
    class Two(Cell):
        name = "two"
        input_size: int = 1

        @property
        def blocks(self):
            return {"h": 1, "c": 1}

        def init_params(self, rng):
            return {"scale": np.array([0.01, 0.02])}

        def step(self, params, state, inputs, xp):
            return state * params["scale"] + 0 * inputs

    for block, rate in (("h", -2), ("c", np.log10(0.02))):
        pairs = Pairs(blocks_out=(block,), blocks_in=(block,), sources=(0,))
        ds = gradsim.simulate(Two(), np.zeros((400, 1, 1)), record=["product_norm"], pairs=pairs)
        np.testing.assert_allclose(ds.product_norm_log10[:, 0, 0], rate * np.arange(401), rtol=1e-12)
    pairs = Pairs(blocks_out=("h",), blocks_in=("c",), sources=(0,))
    ds = gradsim.simulate(Two(), np.zeros((400, 1, 1)), record=["product_norm"], pairs=pairs)
    assert (ds.product_norm == 0).all()


@pytest.mark.parametrize("recorder", ["product_norm", "jacobian_product"])
def test_the_gain_of_chosen_blocks_is_that_between_them(recorder):
    cell, x = LSTM(2, 3), INPUTS
    whole = gradsim.simulate(cell, x, record=["jacobian_product"], rng=0)
    expected = analysis.gain(whole, block_out="h", block_in="c")
    if recorder == "product_norm":
        ds = gradsim.simulate(
            cell, x, record=[recorder], pairs=Pairs(blocks_out=("h",), blocks_in=("c",)), rng=0
        )
        found = analysis.gain(ds)
    else:
        ds = gradsim.simulate(cell, x, record=[recorder], pairs=Pairs(blocks_in=("c",)), rng=0)
        found = analysis.gain(ds, block_out="h")
        with pytest.raises(UnknownNameError, match=r"unknown chosen block 'h'\. Known: c"):
            analysis.gain(ds, block_in="h")
    np.testing.assert_allclose(found.gain, expected.gain, rtol=1e-12)
    if recorder == "product_norm":
        assert found.gain.attrs["long_name"] == expected.gain.attrs["long_name"]


def test_of_a_training():
    probe = {"every": 1, "pairs": {"blocks_out": ["h"], "blocks_in": ["h"], "lags": [0]}}
    ds = gradsim.train(
        LSTM(2, 4),
        FlipFlop(length=6, channels=2),
        optimizer=SGD(learning_rate=0.1),
        updates=1,
        batch=2,
        record=probe,
    )
    np.testing.assert_allclose(ds.product_norm, 2)
    np.testing.assert_allclose(analysis.gain(ds).gain, 1)


def test_blocks_that_are_not_there():
    with pytest.raises(
        UnknownNameError, match=r"unknown block of lru in pairs\.blocks_out \'rea\'; did you mean 're'"
    ):
        gradsim.prepare(LRU(2, 4), INPUTS, pairs=Pairs(blocks_out=("rea",)))
    with pytest.raises(InputError, match="pairs: blocks_in should name at least one"):
        Pairs(blocks_in=())
    with pytest.raises(InputError, match=r"pairs: blocks_in should be a list, such as \['h'\] \(got 'h'\)"):
        Pairs(blocks_in="h")


def test_blocks_that_groups_do_not_share():
    @dataclass(frozen=True, eq=False)
    class Uneven(Cell):
        name = "uneven"
        input_size: int = 1
        jacobian_groups = 2

        @property
        def blocks(self):
            return {"a": 1, "b": 3}

        def init_params(self, rng):
            return {"scale": np.array([0.5, 0.6, 0.7, 0.8])}

        def step(self, params, state, inputs, xp):
            return state * params["scale"] + 0 * inputs

    assert gradsim.prepare(Uneven(), np.zeros((3, 1, 1)), record=["block_norm"])
    with pytest.raises(
        InputError, match=r"no block of uneven can be chosen, as not all sizes {'a': 1, 'b': 3}"
    ):
        gradsim.prepare(Uneven(), np.zeros((3, 1, 1)), pairs=Pairs(blocks_out=("a",)))

"""The gain of Jacobian products: a size that does not grow with the state."""

from __future__ import annotations

import numpy as np
import xarray as xr

from gradsim.analysis.choose import GAINS, LOG10, blocks_of, gain_label, has, log10_of, values_of
from gradsim.errors import unknown
from gradsim.types import Array

_LAYOUTS = (
    ("state_out", "state_in"),
    ("group", "row", "column"),
    ("chosen_out", "chosen_in"),
    ("group", "chosen_row", "chosen_column"),
)


def gain(ds: xr.Dataset, *, block_out: str | None = None, block_in: str | None = None) -> xr.Dataset:
    """The root-mean-square gain of every P(t, k): its Frobenius norm over sqrt(m).

    The root of the mean of ||P v||^2 over all directions v with ||v|| = 1. It is 1 for the identity, below 1
    where gradients vanish and above where they explode, in a state of 4 and in one of 400 components. Where
    the pairs name blocks, P leads from one to the other, and the directions are those within ``blocks_in``.

    Parameters
    ----------
    ds
        With `product_norm`; for blocks of the state with `jacobian_product`.
    block_out, block_in
        Blocks of the state, such as "h" and "c" for dh_t/dc_k; all of it where left out. The mean is over
        the directions within `block_in`.

    Returns
    -------
    xarray.Dataset
        `gain` and `gain_log10`; `effective_gain` and `effective_gain_log10` where the effective products
        are recorded, too.
    """
    whole = block_out is None and block_in is None
    found: dict[str, xr.DataArray] = {}
    for name, (norm, product) in GAINS.items():
        if name == "gain" or has(ds, norm if whole else product):
            size = values_of(ds, name) if whole else _between(ds, name, block_out, block_in)
            found[name] = size
            found[name + LOG10] = log10_of(ds if whole else size.to_dataset(), name)
    return xr.Dataset(found, attrs=ds.attrs)


def _between(ds: xr.Dataset, name: str, block_out: str | None, block_in: str | None) -> xr.DataArray:
    product = values_of(ds, GAINS[name][1])
    dims = next(dims for dims in _LAYOUTS if set(dims) <= set(product.dims))
    product = product.transpose(..., *dims)
    groups, lead = product.sizes.get("group", 1), product.dims[: -len(dims)]
    wanted = {"out": block_out, "in": block_in}
    if "chosen_block_out" in product.coords:
        out, into = (_chosen(product[f"chosen_block_{side}"].values, b, groups) for side, b in wanted.items())
    else:
        out, into = (_inside(blocks_of(ds), block, groups) for block in wanted.values())
    part = (out[:, :, None] & into[:, None, :]).reshape(product.shape[len(lead) :])
    values = np.where(part | np.isnan(product.values), product.values, 0).astype(np.float64)
    norm = np.hypot.reduce(values.reshape(*values.shape[: len(lead)], -1), axis=-1)
    coords = {n: c for n, c in product.coords.items() if set(c.dims) <= set(lead)}
    attrs = {"long_name": gain_label(name, block_out, block_in), "units": "1"}
    return xr.DataArray(norm / np.sqrt(into.sum()), coords, lead, name, attrs)


def _chosen(blocks: Array, block: str | None, groups: int) -> Array:
    """The same of rows of chosen blocks."""
    if block is not None and block not in blocks:
        raise unknown("chosen block", block, map(str, np.unique(blocks)))
    return np.tile((blocks == block) | (block is None), (groups, 1))


def _inside(blocks: dict[str, int], block: str | None, groups: int) -> Array:
    """Whether each component is in a block, (group, row): component row * groups + group stands there."""
    if block is not None and block not in blocks:
        raise unknown("block", block, blocks)
    return np.repeat([block in (None, name) for name in blocks], list(blocks.values())).reshape(-1, groups).T

"""How far what the mitigations make of a vector is from the raw one."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Annotated

import numpy as np
import xarray as xr
from annotated_types import MinLen

from gradsim.analysis.choose import values_of
from gradsim.contracts.problem import axis_dim
from gradsim.errors import InputError, unknown
from gradsim.types import Array


def compare_gradients(
    ds: xr.Dataset, params: Annotated[Sequence[str], MinLen(1)] | None = None
) -> xr.Dataset:
    """Cosine and relative error of the effective gradient against the raw one.

    Needs the recorders `gradient` and `effective_gradient`.

    Parameters
    ----------
    params
        The parameters to compare; all, those of the readout too, when left out.

    Returns
    -------
    xarray.Dataset
        `cosine`, `relative_error` = ||effective - raw|| / ||raw|| and `size_ratio` =
        ||effective|| / ||raw||, all (param); the same with `overall_` before, for all parameters
        together. NaN where the raw vector is zero (for the cosine, either one), or one of them is infinite.
    """
    params = _chosen(_params(ds), params)
    raw, effective = (
        [values_of(ds, f"{prefix}gradient_{p}").values.ravel() for p in params]
        for prefix in ("", "effective_")
    )
    parts = [_agreement(r, e) for r, e in zip(raw, effective, strict=True)]
    whole = _agreement(np.concatenate(raw), np.concatenate(effective))
    names = ("param", params, {"long_name": "parameter"})
    each = {n: ("param", [p[n] for p in parts], _label(n, "gradient")) for n in whole}
    total = {f"overall_{n}": ((), v, _label(n, "whole gradient")) for n, v in whole.items()}
    return xr.Dataset({**each, **total}, {"param": names}, ds.attrs)


def compare_adjoints(ds: xr.Dataset) -> xr.Dataset:
    """Cosine and relative error of the effective adjoint against the raw one, at every time.

    Needs the recorders `adjoint` and `effective_adjoint`.

    Returns
    -------
    xarray.Dataset
        `cosine`, `relative_error` and `size_ratio`, all (time, batch), as in `compare_gradients`.
    """
    raw, effective = values_of(ds, "adjoint"), values_of(ds, "effective_adjoint")
    dims = tuple(d for d in raw.dims if d != "component")
    found = _agreement(*(a.transpose(*dims, "component").values for a in (raw, effective)))
    coords = {n: c for n, c in raw.coords.items() if "component" not in c.dims}
    variables = {n: (dims, v, _label(n, "adjoint")) for n, v in found.items()}
    return xr.Dataset(variables, coords, ds.attrs)


def _params(ds: xr.Dataset) -> list[str]:
    """Parameters whose gradient is there: `gradient_<param>` has the axes of that parameter."""
    names = [str(v).removeprefix("gradient_") for v in ds.data_vars if str(v).startswith("gradient_")]
    found = [n for n in names if _is_param(n, ds[f"gradient_{n}"].dims)]
    if not found:
        raise InputError(
            "the dataset has no gradient: add the recorders 'gradient' and 'effective_gradient' to record= "
            "(--record gradient --record effective_gradient) and run again"
        )
    return found


def _is_param(name: str, dims: tuple[Hashable, ...]) -> bool:
    return dims == tuple(axis_dim(name, i) for i in range(len(dims)))


def _chosen(there: list[str], wanted: Sequence[str] | None) -> list[str]:
    if wanted is None:
        return there
    for name in wanted:
        if name not in there:
            raise unknown("parameter", name, there)
    return list(wanted)


_WORDS = {
    "cosine": "cosine between effective and raw {}",
    "relative_error": "norm of effective minus raw {}, over raw",
    "size_ratio": "norm of effective over raw {}",
}


def _label(name: str, what: str) -> dict[str, str]:
    return {"long_name": _WORDS[name].format(what), "units": "1"}


def _agreement(raw: Array, effective: Array) -> dict[str, Array]:
    """Of vectors along the last axis, scaled to a largest entry of 1 so that no square leaves float64."""
    with np.errstate(all="ignore"):
        (r, r_top), (e, e_top) = _unit_top(raw), _unit_top(effective)
        r_norm, e_norm = np.linalg.norm(r, axis=-1), np.linalg.norm(e, axis=-1)
        r_norm = np.where(r_top > 0, r_norm, np.nan)
        ratio = e_top / r_top
        return {
            "cosine": np.clip(np.sum(r * e, axis=-1) / (r_norm * e_norm), -1, 1),
            "relative_error": np.linalg.norm(e * ratio[..., None] - r, axis=-1) / r_norm,
            "size_ratio": ratio * e_norm / r_norm,
        }


def _unit_top(vector: Array) -> tuple[Array, Array]:
    """The vector over its largest entry, and that entry; a zero vector stays, an infinite one is NaN."""
    vector = vector.astype(np.float64)
    top = np.abs(vector).max(axis=-1)
    return vector / np.where(top > 0, top, 1.0)[..., None], top

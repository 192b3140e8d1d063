"""What mitigations do to the gradient and what they cost, a row for each."""

from __future__ import annotations

import xarray as xr

from gradsim.analysis.choose import GAINS, describe, has, log10_of
from gradsim.analysis.rates import horizon
from gradsim.errors import InputError

_RECORDED = {
    "bias": "overall_gradient_bias",
    "cosine": "overall_gradient_cosine",
    "variance": "overall_gradient_variance",
    "mean_bias": "overall_mean_gradient_bias",
    "adjoint_factor": "effective_adjoint_factor",
    "gradient_factor": "effective_gradient_factor",
    "energy_removed": "adjoint_energy_removed",
    **{name: name for name in ("forward_flops", "backward_flops", "memory_bytes")},
    **{name: name for name in ("forward_seconds", "backward_seconds", "gradient_seconds")},
}
"""What each column is the median of."""

_HORIZONS = {"horizon": "gain", "effective_horizon": "effective_gain"}


def effects(ds: xr.Dataset, *, threshold: float = 0.01) -> xr.Dataset:
    """What each of the mitigations of a comparison does to the gradient of each cell, and what it costs.

    Medians over seeds, batch and times; what was not recorded is left out. ``effects(ds).to_dataframe()`` is
    a table, and its ``to_csv(path)`` writes it.

    Parameters
    ----------
    ds
        A comparison with mitigations, as `compare` makes it.
    threshold
        Of the horizons, as in `horizon`.

    Returns
    -------
    xarray.Dataset
        Dims (cell, mitigation): `bias` and `cosine` of the whole gradient against the exact one of the same
        trajectory; over replicates its `variance`, and `mean_bias`, the bias of its mean; `horizon` and
        `effective_horizon`, infinite where they lie beyond the record; `adjoint_factor` and
        `gradient_factor`, which mitigations of adjoint and gradient apply; `energy_removed` of the adjoint;
        `forward_flops`, `backward_flops`, `memory_bytes`, `forward_seconds`, `backward_seconds` and
        `gradient_seconds` of one gradient. NaN where there is none, as of the effective products under a
        rule.
    """
    if "mitigation" not in ds.dims:
        raise InputError("effects() needs a comparison with mitigations; give compare() some")
    kept = [dim for dim in ("cell", "mitigation") if dim in ds.dims]
    found = {}
    for name, variable in _RECORDED.items():
        if variable in ds:
            values = ds[variable]
            median = values.median([d for d in values.dims if d not in kept])
            found[name] = median.assign_attrs(values.attrs, long_name=f"median {describe(values)}")
    for name, gain in _HORIZONS.items():
        if has(ds, GAINS[gain][0]):
            log10 = log10_of(ds, gain)
            there = log10.notnull().any([d for d in log10.dims if d not in kept])
            steps = horizon(ds, threshold, gain, apart=tuple(kept))["horizon"]
            found[name] = steps.fillna(float("inf")).where(there).assign_attrs(steps.attrs, comment=_BEYOND)
    return xr.Dataset(found, attrs=ds.attrs).drop_vars("seed", errors="ignore")


_BEYOND = "infinite: beyond the longest recorded lag"

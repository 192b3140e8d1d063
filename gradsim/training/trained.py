"""What a training has learned."""

from __future__ import annotations

import xarray as xr

from gradsim.contracts.validation import checking
from gradsim.errors import InputError
from gradsim.types import Params

_PREFIX = "trained_"


@checking
def trained_params(ds: xr.Dataset) -> Params:
    """The parameters that a training ended with, cell and readout, by name.

    ``simulate(cell, task=task, params=trained_params(ds))`` runs what was trained.

    Raises
    ------
    InputError
        The dataset is none of a training, or of one that is not complete.
    """
    found = {
        str(name).removeprefix(_PREFIX): ds[name].values
        for name in ds.data_vars
        if str(name).startswith(_PREFIX)
    }
    if not found:
        there = ", ".join(str(v) for v in ds.data_vars) or "nothing"
        raise InputError(f"the dataset has no trained parameters: make it with gradsim.train. It has {there}")
    for name, values in found.items():
        if (values != values).any():
            raise InputError(f"trained_{name} has not been written: the training is not complete; resume it")
    return found

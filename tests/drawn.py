"""What figures of a training show."""

from __future__ import annotations

import numpy as np
import xarray as xr


def lines(ax, label):
    """(x, y) of the line with this label."""
    (line,) = (line for line in ax.lines if line.get_label() == label)
    return np.asarray(line.get_xdata()), np.ma.filled(np.ma.masked_invalid(line.get_ydata()), np.nan)


def labels(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def by_update(**variables):
    """A training of these values at every update."""
    values = {n: ("update", np.asarray(v, dtype=float)) for n, v in variables.items()}
    count = len(next(iter(variables.values())))
    return xr.Dataset(values, {"update": np.arange(1, count + 1)})

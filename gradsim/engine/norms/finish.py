"""From squared norms to the norms and their logarithms, laid out as the dataset has them."""

from __future__ import annotations

import numpy as np

from gradsim.machine import accelerator
from gradsim.numerics.scaled import Scaled
from gradsim.types import Array


def finish(squares: Array, exponents: Array, first: int, norms: Array, logs: Array) -> None:
    """Roots of squares * 4**exponents, (batch, time, source), and their log10, both (time, source, batch).

    Times are those from `first` on; NaN for sources after them. Norms are 0 or infinite where float64 cannot
    hold them.
    """
    kernels = accelerator.kernels("gradsim.engine.norms.finish_kernels")
    if kernels is not None:
        kernels.finish(squares, exponents, first, norms, logs)
        return
    found = Scaled(np.sqrt(squares), exponents)
    norms[...], logs[...] = (x.transpose(1, 2, 0) for x in (found.value, found.log10))
    times, sources, _ = norms.shape
    later = np.arange(sources) > np.arange(first, first + times)[:, None]
    norms[later] = logs[later] = np.nan

"""From squared norms to the norms and their logarithms, laid out as the dataset has them."""

from __future__ import annotations

import numpy as np

from gradsim.machine import accelerator
from gradsim.numerics.scaled import Scaled
from gradsim.types import Array


def finish(squares: Array, exponents: Array, norms: Array, logs: Array) -> None:
    """Roots of squares * 4**exponents, (batch, time, source), and their log10, both (time, source, batch).

    Norms are 0 or infinite where float64 cannot hold them. Squares are NaN for sources after the time, where
    nothing is to be found.
    """
    kernels = accelerator.kernels("gradsim.engine.norms.finish_kernels")
    if kernels is not None:
        kernels.finish(squares, exponents, norms, logs)
        return
    found = Scaled(np.sqrt(squares), exponents)
    norms[...], logs[...] = (x.transpose(1, 2, 0) for x in (found.value, found.log10))

"""Compiled passes of dense cells over a block of steps: one file a cell, with `forward` and `backward`.

A kernel takes the rows ``first:last`` of the batch through all steps, so that threads work side by side and
never wait for another. What it computes is written down, in NumPy, in the cell that names it. Its file is
imported where numba is there and not switched off, and only then.
"""

from __future__ import annotations

import functools
import importlib

import numpy as np


@functools.cache
def compiled(module, way, dtype):
    """The function `way`, "forward" or "backward", of a module of kernels, compiled or loaded from disk.

    A forward kernel takes (inputs, input_weight, state_weight, bias, states, saved), a backward one (states,
    saved, state_weight, direct, adjoints, cotangents), and writes the last two; then integers. The bias has
    one axis, all other arrays have three.
    """
    from numba import njit, types

    from gradsim_cells.kernels.parts import OPTIONS

    function = getattr(importlib.import_module(module), way)
    number = types.float32 if dtype == np.float32 else types.float64
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    arrays = [
        types.Array(number, 1 if n == "bias" else 3, "C", readonly=i < 4) for i, n in enumerate(names[:6])
    ]
    signature = types.void(*arrays, *[types.intp] * len(names[6:]))
    try:
        return njit(signature, cache=True, **OPTIONS)(function)
    except RuntimeError:  # there is no folder that a cache could be written to
        return njit(signature, **OPTIONS)(function)

"""Compiled passes of dense cells over a block of steps: one file a cell, with `forward` and `backward`.

A kernel takes the rows ``first:last`` of the batch through all steps, so that threads work side by side and
never wait for another. It computes what the `unit` of the cell that names it says. Its file is imported where
numba is there and not switched off, and only then.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, no-any-return, call-overload, attr-defined"

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from gradsim.errors import PluginError
from gradsim.machine import accelerator


@functools.cache
def compiled(module: str, way: str, dtype: np.dtype) -> Callable[..., None]:
    """The function `way`, "forward" or "backward", of a module of kernels, compiled or loaded from disk.

    A forward kernel takes (inputs, input_weight, state_weight, bias, states, saved), a backward one (states,
    saved, state_weight, direct, adjoints, cotangents, ends), and writes what comes after the first four; then
    integers. `ends` (batch) are integers, too, zero as they are given: for each row of the batch the time at
    which `parts.range_ends` stopped its pull. They and the bias have one axis, all other arrays have three.

    Raises
    ------
    PluginError
        There is no such module or function, or numba cannot compile it.
    """
    from numba import types
    from numba.core.errors import NumbaError

    try:
        function = getattr(importlib.import_module(module), way)
    except (ImportError, AttributeError) as error:
        raise PluginError(
            f"kernel {module!r}: {error}; name a module that can be imported and has `forward` and `backward`"
        ) from error
    number = types.float32 if dtype == np.float32 else types.float64
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    if not {"first", "last"} <= set(names):
        raise PluginError(
            f"kernel {module!r}: {way}({', '.join(names)}) should take the rows `first` to `last`"
        )
    arrays = names[: names.index("first")]
    kinds = [
        types.Array(
            types.intp if n == "ends" else number, 1 if n in ("bias", "ends") else 3, "C", readonly=i < 4
        )
        for i, n in enumerate(arrays)
    ]
    try:
        return _compiled(function, types.void(*kinds, *[types.intp] * (len(names) - len(arrays))))
    except NumbaError as error:
        raise PluginError(
            f"kernel {module!r}: numba cannot compile {way}({', '.join(names)}): {error}; see "
            "`gradsim.contracts.dense.kernels.compiled` for what it is given"
        ) from error


@functools.cache
def gradient_kernel(dtype: np.dtype) -> Callable[..., None]:
    """`parts.add_gradient`, compiled or loaded from disk."""
    from numba import types

    from gradsim.contracts.dense.parts import add_gradient

    number = types.float32 if dtype == np.float32 else types.float64
    given, written = (types.Array(number, 2, "A", readonly=locked) for locked in (True, False))
    return _compiled(add_gradient, types.void(given, given, written, types.intp, types.intp))


def _compiled(function: Callable[..., None], signature: Any) -> Callable[..., None]:
    from numba import njit

    from gradsim.contracts.dense.parts import OPTIONS

    kernel = njit(**OPTIONS)(function)
    with contextlib.suppress(RuntimeError):  # there is no folder that a cache could be written to
        kernel.enable_caching()
    accelerator.renew(kernel)
    kernel.compile(signature)
    return kernel

"""`xp` while autograd traces a step: its functions, by the names of the array API standard.

autograd.numpy has the names of NumPy, and derivatives for some. What the standard calls otherwise, or what
has no derivative there, is made here of what has one.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import autograd.numpy as anp
import numpy as np
from autograd.core import SparseObject
from autograd.extend import defvjp, notrace_primitive, primitive, vspace
from autograd.numpy.numpy_boxes import ArrayBox
from autograd.numpy.numpy_vjps import untake

from gradsim.numerics.autodiff.standard import LINALG, NAMES, Namespace

Axis = int | tuple[int, ...] | None
_Function = Callable[..., Any]

# What does not depend continuously on the values has no derivative to trace.
_CONSTANT = (
    *("can_cast", "nextafter", "signbit", "unique_all", "unique_counts", "unique_inverse"),
    *("unique_values", "bitwise_and", "bitwise_invert", "bitwise_or", "bitwise_xor"),
    *("bitwise_left_shift", "bitwise_right_shift"),
)
_OWN: dict[str, Any] = {name: notrace_primitive(getattr(np, name)) for name in _CONSTANT}
_OWN_LINALG: dict[str, Any] = {name: getattr(anp, name) for name in ("matmul", "tensordot")}


def _own(function: _Function) -> _Function:
    _OWN[function.__name__[1:]] = function
    return function


def _own_linalg(function: _Function) -> _Function:
    _OWN_LINALG[function.__name__[1:]] = function
    return function


@_own
def _asarray(x: Any, /, *, dtype: Any = None, device: Any = None, copy: Any = None) -> Any:
    array = anp.array(x)
    return array if dtype is None else array.astype(dtype)


@_own
def _zeros_like(x: Any, /, *, dtype: Any = None, device: Any = None) -> Any:
    return np.zeros(x.shape, dtype or x.dtype)


@_own
def _ones_like(x: Any, /, *, dtype: Any = None, device: Any = None) -> Any:
    return np.ones(x.shape, dtype or x.dtype)


@_own
def _full_like(x: Any, value: Any, /, *, dtype: Any = None, device: Any = None) -> Any:
    return _zeros_like(x, dtype=dtype) + value


@_own
def _broadcast_arrays(*arrays: Any) -> list[Any]:
    shape = np.broadcast_shapes(*(x.shape for x in arrays))
    return [_broadcast_to(x, shape) for x in arrays]


@_own
def _broadcast_to(x: Any, /, shape: tuple[int, ...]) -> Any:
    return x + np.zeros(shape, dtype=x.dtype)  # autograd's own refuses new axes


@_own
def _concat(arrays: Sequence[Any], /, *, axis: int | None = 0) -> Any:
    if axis is None:
        arrays, axis = [anp.reshape(x, (-1,)) for x in arrays], 0
    return anp.concatenate(arrays, axis)


@_own
def _unstack(x: Any, /, *, axis: int = 0) -> tuple[Any, ...]:
    first = anp.moveaxis(x, axis, 0)
    return tuple(first[i] for i in range(len(first)))


@_own
@_own_linalg
def _matrix_transpose(x: Any, /) -> Any:
    return anp.swapaxes(x, -1, -2)


@_own
def _flip(x: Any, /, *, axis: Axis = None) -> Any:
    axes = range(x.ndim) if axis is None else np.atleast_1d(axis) % x.ndim
    return x[tuple(slice(None, None, -1 if i in axes else 1) for i in range(x.ndim))]


@_own
def _take(x: Any, indices: Any, /, *, axis: int = 0) -> Any:
    return x[(slice(None),) * (axis % x.ndim) + (indices,)]


@_own
def _repeat(x: Any, repeats: Any, /, *, axis: int | None = None) -> Any:
    x, axis = (anp.reshape(x, (-1,)), 0) if axis is None else (x, axis)
    return _take(x, np.repeat(np.arange(x.shape[axis]), repeats), axis=axis)  # autograd's own is wrong


@_own
def _take_along_axis(x: Any, indices: Any, /, *, axis: int = -1) -> Any:
    places = list(np.ogrid[tuple(slice(n) for n in indices.shape)])
    places[axis] = indices
    return x[tuple(places)]


@_own
def _sort(x: Any, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Any:
    found = _take_along_axis(x, anp.argsort(x, axis=axis, kind="stable"), axis=axis)
    return _flip(found, axis=axis) if descending else found


_OWN["tanh"] = primitive(np.tanh)
defvjp(_OWN["tanh"], lambda y, x: lambda g: g * (1 - y * y))  # autograd's own, by cosh, overflows


def _sparse(x: Any, at: Any, space: Any) -> Any:
    def add(whole: Any) -> Any:
        whole[at] += x
        return whole

    return SparseObject(space, add)


_untake = primitive(_sparse)
_BASIC = {slice, int, type(None), type(Ellipsis)}


def _back_into(at: Any) -> _Function:
    """How what comes back to ``x[at]`` gets into x; autograd's own way, for places met twice, is slow."""
    parts = at if isinstance(at, tuple) else (at,)
    return _untake if {type(part) for part in parts} <= _BASIC else untake  # type: ignore[no-any-return]


defvjp(ArrayBox.__getitem__, lambda y, x, at: lambda g: _back_into(at)(g, at, vspace(x)))
defvjp(_untake, lambda y, x, at, space: lambda g: g[at])


@_own
def _positive(x: Any, /) -> Any:
    return x


@_own
def _copysign(x: Any, sign: Any, /) -> Any:
    return _where(_OWN["signbit"](sign), -anp.abs(x), anp.abs(x))


@_own
def _where(condition: Any, this: Any, that: Any, /) -> Any:
    shape = np.broadcast_shapes(*map(anp.shape, (condition, this, that)))
    # autograd's own does not sum what comes back to an array that was broadcast.
    this, that = (x if isinstance(x, int | float) else x + np.zeros(shape, bool) for x in (this, that))
    return anp.where(condition, this, that)


@_own
def _clip(x: Any, /, min: Any = None, max: Any = None) -> Any:
    x = x if min is None else _where(x < min, min, x)
    return x if max is None else _where(x > max, max, x)


@_own
def _var(x: Any, /, *, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> Any:
    away = x - anp.mean(x, axis=axis, keepdims=True)
    squares = anp.sum(away * away, axis=axis, keepdims=keepdims)
    return squares / (math.prod(x.shape) / math.prod(squares.shape) - correction)


@_own
def _std(x: Any, /, *, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> Any:
    return anp.sqrt(_var(x, axis=axis, correction=correction, keepdims=keepdims))


@_own
def _cumulative_sum(x: Any, /, *, axis: int = 0, dtype: Any = None, include_initial: bool = False) -> Any:
    return _cumulative(operator.add, 0, x, axis, include_initial)


@_own
def _cumulative_prod(x: Any, /, *, axis: int = 0, dtype: Any = None, include_initial: bool = False) -> Any:
    return _cumulative(operator.mul, 1, x, axis, include_initial)


def _cumulative(join: _Function, start: float, x: Any, axis: int, with_start: bool) -> Any:
    parts = _unstack(x, axis=axis)
    first = [_full_like(parts[0], start)] if with_start else []
    return anp.stack([*first, *accumulate(parts, join)], axis=axis)


@_own
@_own_linalg
def _vecdot(one: Any, other: Any, /, *, axis: int = -1) -> Any:
    return anp.sum(anp.conj(one) * other, axis=axis)


@_own_linalg
def _diagonal(x: Any, /, *, offset: int = 0) -> Any:
    rows = np.arange(max(0, -offset), min(x.shape[-2], x.shape[-1] - offset))
    return x[..., rows, rows + offset]


@_own_linalg
def _trace(x: Any, /, *, offset: int = 0, dtype: Any = None) -> Any:
    return anp.sum(_diagonal(x, offset=offset), axis=-1, dtype=dtype)


@_own_linalg
def _outer(one: Any, other: Any, /) -> Any:
    return one[:, None] * other


@_own_linalg
def _cross(one: Any, other: Any, /, *, axis: int = -1) -> Any:
    a, b = _unstack(one, axis=axis), _unstack(other, axis=axis)
    return anp.stack([a[i - 2] * b[i - 1] - a[i - 1] * b[i - 2] for i in range(3)], axis=axis)


@_own_linalg
def _eigvalsh(x: Any, /) -> Any:
    return anp.linalg.eigh(x)[0]


@_own_linalg
def _svdvals(x: Any, /) -> Any:
    return anp.linalg.svd(x, full_matrices=False)[1]


@_own_linalg
def _matrix_power(x: Any, n: int, /) -> Any:
    x = anp.linalg.inv(x) if n < 0 else x
    return functools.reduce(anp.matmul, [x] * abs(n), np.eye(x.shape[-1], dtype=x.dtype))


@_own_linalg
def _vector_norm(x: Any, /, *, axis: Axis = None, keepdims: bool = False, ord: float = 2) -> Any:
    size = anp.abs(x)
    if abs(ord) == math.inf:
        return (anp.max if ord > 0 else anp.min)(size, axis=axis, keepdims=keepdims)
    if ord == 2:
        return anp.sqrt(anp.sum(size * size, axis=axis, keepdims=keepdims))
    return anp.sum(size**ord, axis=axis, keepdims=keepdims) ** (1 / ord)


@_own_linalg
def _matrix_norm(x: Any, /, *, keepdims: bool = False, ord: float | str | None = "fro") -> Any:
    if ord in ("fro", None):
        found = anp.sqrt(anp.sum(anp.abs(x) ** 2, axis=(-2, -1)))
    elif ord in (1, -1, math.inf, -math.inf):
        sums = anp.sum(anp.abs(x), axis=-2 if abs(float(ord)) == 1 else -1)
        found = (anp.max if float(ord) > 0 else anp.min)(sums, axis=-1)
    else:
        found = {"nuc": anp.sum, 2: anp.max, -2: anp.min}[ord](_svdvals(x), axis=-1)
    return found[..., None, None] if keepdims else found


xp = Namespace(
    "xp",
    {
        **{name: getattr(anp, name) for name in NAMES if hasattr(anp, name)},
        **_OWN,
        "linalg": Namespace(
            "xp.linalg",
            {**{n: getattr(anp.linalg, n) for n in LINALG if hasattr(anp.linalg, n)}, **_OWN_LINALG},
        ),
        "fft": anp.fft,
    },
)
"""What a traced step computes with; it takes plain arrays as well."""

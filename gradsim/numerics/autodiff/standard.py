"""The names of the array API standard, and what to write in place of others.

https://data-apis.org/array-api/2024.12
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

_NAMES = """
e inf nan newaxis pi bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float32 float64 complex64
complex128 arange asarray empty empty_like eye full full_like linspace meshgrid ones ones_like tril triu
zeros zeros_like astype can_cast finfo iinfo isdtype result_type abs acos acosh add asin asinh atan
atan2 atanh bitwise_and bitwise_left_shift bitwise_invert bitwise_or bitwise_right_shift bitwise_xor
ceil clip conj copysign cos cosh divide equal exp expm1 floor floor_divide greater greater_equal hypot
imag isfinite isinf isnan less less_equal log log1p log2 log10 logaddexp logical_and logical_not
logical_or logical_xor maximum minimum multiply negative nextafter not_equal positive pow real
reciprocal remainder round sign signbit sin sinh square sqrt subtract tan tanh trunc take
take_along_axis matmul matrix_transpose tensordot vecdot broadcast_arrays broadcast_to concat
expand_dims flip moveaxis permute_dims repeat reshape roll squeeze stack tile unstack argmax argmin
count_nonzero nonzero searchsorted where unique_all unique_counts unique_inverse unique_values argsort
sort cumulative_prod cumulative_sum max mean min prod std sum var all any diff
"""
_LINALG = """
cholesky cross det diagonal eigh eigvalsh inv matmul matrix_norm matrix_power matrix_rank
matrix_transpose outer pinv qr slogdet solve svd svdvals tensordot trace vecdot vector_norm
"""
NAMES, LINALG = frozenset(_NAMES.split()), frozenset(_LINALG.split())

_CURES = {
    "absolute": "xp.abs",
    "amax": "xp.max",
    "amin": "xp.min",
    "append": "xp.concat",
    **{f"arc{f}": f"xp.a{f}" for f in ("cos", "cosh", "sin", "sinh", "tan", "tanh", "tan2")},
    "array": "xp.asarray",
    "array_split": "slices, x[..., :n]",
    "concatenate": "xp.concat",
    "cumprod": "xp.cumulative_prod",
    "cumsum": "xp.cumulative_sum",
    "diag": "xp.linalg.diagonal, or x[..., None] * xp.eye(n)",
    "dot": "the operator @",
    "einsum": "the operator @, xp.tensordot or xp.sum",
    "fabs": "xp.abs",
    "float_power": "xp.pow",
    "heaviside": "xp.where",
    "hstack": "xp.concat",
    "inner": "xp.vecdot",
    "invert": "xp.bitwise_invert",
    "mT": "xp.matrix_transpose(x)",
    "mod": "xp.remainder",
    "norm": "xp.linalg.vector_norm",
    "power": "xp.pow",
    "random": "step data that draw(rng, ...) makes before the run",
    "ravel": "xp.reshape",
    "relu": "xp.maximum(x, 0.0)",
    "sigmoid": "0.5 * (xp.tanh(0.5 * x) + 1)",
    "softplus": "xp.logaddexp(x, xp.zeros_like(x))",
    "split": "slices, x[..., :n]",
    "swapaxes": "xp.matrix_transpose or xp.moveaxis",
    "transpose": "xp.permute_dims",
    "true_divide": "xp.divide",
    "vstack": "xp.concat",
}
"""What difflib would not find."""


class NotStandard(AttributeError):
    """A name that an array namespace need not have."""


class Namespace:
    """An array namespace with the names of the standard, and no others."""

    def __init__(self, title: str, names: Mapping[str, Any]) -> None:
        self._title = title
        vars(self).update(names)

    def __getattr__(self, name: str) -> Any:
        raise NotStandard(f"{self._title}.{name} is no name of the array API standard; use {cure(name)}")


def is_standard(name: str) -> bool:
    """Whether `name` of a namespace, perhaps with the one within it, is in the standard."""
    first, _, rest = name.partition(".")
    return (first == "linalg" and (not rest or rest in LINALG)) or first == "fft" or first in NAMES


def cure(name: str) -> str:
    """What to write in place of a function of NumPy or `math`."""
    for part in name.split("."):
        if part in _CURES:
            return _CURES[part]
        if part in NAMES:
            return f"xp.{part}"
        if part in LINALG:
            return f"xp.linalg.{part}"
    near = difflib.get_close_matches(name, sorted(NAMES | LINALG), n=1, cutoff=0.7)
    return f"xp.{'' if near[0] in NAMES else 'linalg.'}{near[0]}" if near else "functions of the standard"

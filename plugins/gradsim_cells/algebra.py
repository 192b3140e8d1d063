"""What the analytic derivatives of cells are made of."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradsim import detach
from gradsim.types import Array, Params


def sigmoid(x: Any, xp: Any) -> Any:
    """1 / (1 + exp(-x)), without overflow."""
    return 0.5 * (xp.tanh(0.5 * x) + 1.0)


def softplus(x: Any, xp: Any) -> Any:
    """log(1 + exp(x)), without overflow."""
    return xp.logaddexp(x, xp.zeros_like(x))


def before_softplus(y: Array) -> Array:
    """What softplus makes y of."""
    return y + np.log(-np.expm1(-y))


def standardised(x: Any, epsilon: float, xp: Any) -> Any:
    """(x - mean) / sqrt(var + epsilon), with mean and var along the last axis."""
    x = x - xp.mean(x, axis=-1, keepdims=True)
    return x / xp.sqrt(xp.mean(x * x, axis=-1, keepdims=True) + epsilon)


def capped(x: Any, cap: float | None, xp: Any) -> Any:
    """Cap tanh(x / cap), or x where there is no cap."""
    return x if cap is None else cap * xp.tanh(x / cap)


def normal(rng: np.random.Generator, rows: int, columns: int, scale: float = 1.0) -> Array:
    """Independent weights N(0, scale^2 / columns)."""
    return rng.standard_normal((rows, columns)) * (scale / np.sqrt(columns))


def parts(x: Any, n: int) -> tuple[Any, ...]:
    """What lies side by side (..., count * n), each with n columns."""
    return tuple(x[..., i : i + n] for i in range(0, x.shape[-1], n))


def affine(params: Params, name: str, x: Any) -> Any:
    """W x + b, of the parameters W_name and b_name."""
    return x @ params[f"W_{name}"].T + params[f"b_{name}"]


def rows_scaled(scale: Array, weight: Array) -> Array:
    """diag(scale) @ weight, for scales (..., rows)."""
    return scale[..., :, None] * weight


def diagonal(values: Array) -> Array:
    """Diagonal matrices (..., n, n) of values (..., n)."""
    return values[..., :, None] * np.eye(values.shape[-1], dtype=values.dtype)


def weight_vjp(cotangent: Array, x: Array) -> Array:
    """The cotangent of W in W x: (..., batch, rows) and (..., batch, columns) give (..., rows, columns)."""
    return cotangent.swapaxes(-1, -2) @ x


def flat(x: Array) -> Array:
    """All leading axes as one: (..., n) to (positions, n)."""
    return x.reshape(-1, x.shape[-1])


def bias_vjp(cotangent: Array) -> Array:
    """The cotangent of a bias: summed over the batch."""
    return cotangent.sum(axis=-2)


def softmax(x: Any, xp: Any) -> Any:
    """exp(x) over its sum along the last axis, without overflow."""
    e = xp.exp(x - detach(xp.max(x, axis=-1, keepdims=True)))
    return e / xp.sum(e, axis=-1, keepdims=True)

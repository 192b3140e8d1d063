"""Derivatives of any `step` by the autograd library, for cells that give no analytic ones.

autograd differentiates a scalar function of arrays. A Jacobian comes from *one* reverse pass over
copies of the state: copy number r is pulled back with the r-th unit cotangent, so time, batch and
rows are all array axes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import product
from typing import Any

import autograd.numpy as anp
import numpy as np
from autograd import make_vjp

from gradsim.errors import PluginError
from gradsim.types import Array, Params, StepData

Step = Callable[..., Any]

_TRACE_BYTES = 4 * 2**20
"""Largest array of one traced step; longer blocks are cut into pieces of positions."""


def step_jacobian(
    step: Step, groups: int, params: Params, state: Array, inputs: Array, data: StepData
) -> Array:
    """J of a step, shape (..., g, k, k): [..., j, a, c] = d s'[a*g + j] / d s[c*g + j]."""
    lead, m = state.shape[:-1], state.shape[-1]
    k = m // groups
    positions = int(np.prod(lead))
    flat = [_flatten(x, len(lead)) for x in (state, inputs, *data.values())]
    chunk = max(1, _TRACE_BYTES // max(1, k * m * state.itemsize))
    pieces = [
        _jacobian_piece(
            step,
            k,
            params,
            *(x[i : i + chunk] for x in flat[:2]),
            {n: x[i : i + chunk] for n, x in zip(data, flat[2:], strict=True)},
        )
        for i in range(0, positions, chunk)
    ]
    rows = np.concatenate(pieces, axis=1).reshape(k, *lead, k, groups)
    return np.ascontiguousarray(np.moveaxis(rows, (0, -1), (-2, -3)), dtype=state.dtype)


def _jacobian_piece(step: Step, k: int, params: Params, state: Array, inputs: Array, data: StepData) -> Array:
    n, m = state.shape
    copies = [np.broadcast_to(x, (k, *x.shape)).copy() for x in (state, inputs, *data.values())]
    named = dict(zip(data, copies[2:], strict=True))
    pull = _trace(lambda s: step(params, s, copies[1], anp, **named), copies[0])
    cotangent = np.zeros((k, n, k, m // k), dtype=state.dtype)
    cotangent[np.arange(k), :, np.arange(k)] = 1
    return pull(cotangent.reshape(k, n, m))


def state_vjp(
    step: Step, params: Params, state: Array, inputs: Array, cotangent: Array, data: StepData
) -> Array:
    """The cotangent of the old state, shape (..., m): cotangent @ J."""
    pull = _trace(lambda s: step(params, s, inputs, anp, **data), state)
    return np.asarray(pull(cotangent), dtype=state.dtype)


def params_vjp(
    step: Step, params: Params, state: Array, inputs: Array, cotangent: Array, data: StepData
) -> Params:
    """The cotangents of the parameters, summed over the last leading axis, shapes (..., *param)."""
    outer = state.shape[:-2]
    result = {n: np.empty((*outer, *p.shape), dtype=p.dtype) for n, p in params.items()}
    for i in product(*map(range, outer)):
        here = {name: x[i] for name, x in data.items()}
        pull = _trace(lambda p, i=i, here=here: step(p, state[i], inputs[i], anp, **here), params)
        for name, value in pull(cotangent[i]).items():
            result[name][i] = value
    return result


def bilinear_vjp(
    step: Step, params: Params, state: Array, inputs: Array, left: Array, right: Array, data: StepData
) -> tuple[Params, Array]:
    """Derivative of the sum of left @ J @ right over all positions and copies.

    `left` and `right` have shape (copies, ..., m) for states (..., m). Returns the derivatives with
    respect to the parameters and to the old states, by a reverse pass through a reverse pass.
    """
    copies = len(left)
    named = {n: np.broadcast_to(x, (copies, *x.shape)) for n, x in data.items()}
    repeated = np.broadcast_to(inputs, (copies, *inputs.shape))
    ones = np.ones((copies, *(1,) * state.ndim), dtype=state.dtype)

    def scalar(arguments: tuple[Params, Array]) -> Any:
        p, s = arguments
        pull = _trace(lambda old: step(p, old, repeated, anp, **named), ones * s)
        return anp.sum(pull(left) * right)

    pull, _ = make_vjp(scalar)((params, state))
    return pull(np.ones((), dtype=state.dtype))  # type: ignore[no-any-return]


def gradient(function: Callable[[Any], Any], argument: Any) -> tuple[Any, Array]:
    """Gradient and value of sum(function(argument)); the value keeps its shape."""
    pull, value = make_vjp(function)(argument)
    return pull(np.ones_like(value)), value


def _trace(function: Callable[[Any], Any], argument: Any) -> Callable[[Array], Any]:
    try:
        pull, _ = make_vjp(function)(argument)
    except (TypeError, AttributeError, ValueError) as error:
        raise PluginError(_untraceable(error)) from error
    return pull  # type: ignore[no-any-return]


def _untraceable(error: Exception) -> str:
    text = str(error)
    found = re.search(r"no callable (\w+) method|ufunc '?(\w+)'?", text)
    operation = next((g for g in found.groups() if g), None) if found else None
    where = f"numpy.{operation}" if operation else "an operation that autograd cannot follow"
    fix = f"xp.{operation}" if operation else "a function of xp"
    return f"step() uses {where} where {fix} is needed ({type(error).__name__}: {text})"


def _flatten(x: Array, lead: int) -> Array:
    return x.reshape(-1, *x.shape[lead:])

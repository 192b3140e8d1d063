"""Derivatives of any `step` by the autograd library, for cells that give no analytic ones.

autograd differentiates a scalar function of arrays. A Jacobian comes from *one* reverse pass over
copies of the state: copy number r is pulled back with the r-th unit cotangent, so time, batch and
rows are all array axes.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np
from autograd import builtins, tracer
from autograd.core import VJPNode, backward_pass, vspace

from gradsim.errors import TracingError, cure
from gradsim.numerics.autodiff.advice import advice
from gradsim.numerics.autodiff.autograd_namespace import xp
from gradsim.types import Array, Params, StepData

Step = Callable[..., Any]

_TRACE_BYTES = 4 * 2**20
"""Largest array of one traced step; longer blocks are cut into pieces of positions."""


def step_jacobian(
    step: Step, groups: int, params: Params, state: Array, inputs: Array, data: StepData
) -> Array:
    """J of a step, shape (..., g, k, k): [..., j, a, c] = d s'[a*g + j] / d s[c*g + j]."""
    (jacobian,) = step_jacobians(step, groups, 1, params, state, inputs, data)
    return jacobian


def step_jacobians(
    step: Step, groups: int, parts: int, params: Params, state: Array, inputs: Array, data: StepData
) -> list[Array]:
    """Those of a step from several states side by side (..., parts * m): with respect to each of them."""
    m = state.shape[-1] // parts
    rows = _in_pieces(step, m // groups, m, params, state, inputs, data)
    rows = rows.reshape(*rows.shape[:-1], parts, m // groups, groups)
    found = np.moveaxis(rows, (-3, 0, -1), (0, -2, -3))
    return [np.ascontiguousarray(j, dtype=state.dtype) for j in found]


def inputs_jacobian(step: Step, params: Params, state: Array, inputs: Array, data: StepData) -> Array:
    """The derivative of the new state with respect to the inputs, (..., m, input)."""

    def swapped(params: Params, inputs: Any, state: Any, xp: Any, **data: Any) -> Any:
        return step(params, state, inputs, xp, **data)

    m = state.shape[-1]
    rows = _in_pieces(swapped, m, m, params, inputs, state, data)
    return np.asarray(np.moveaxis(rows, 0, -2), dtype=state.dtype)


def _in_pieces(
    step: Step, k: int, m: int, params: Params, state: Array, inputs: Array, data: StepData
) -> Array:
    """The k rows of each diagonal block, (k, ..., n), over all positions, as many as fit at a time."""
    lead = state.shape[:-1]
    count = math.prod(lead)  # -1 would not do for arrays of no size
    flat = {n: x.reshape(count, *x.shape[len(lead) :]) for n, x in data.items()}
    state, inputs = (x.reshape(count, x.shape[-1]) for x in (state, inputs))
    length = max(1, _TRACE_BYTES // (k * max(m, state.shape[-1]) * state.itemsize))
    cuts = [slice(i, i + length) for i in range(0, len(state), length)]
    pieces = [
        _rows(step, k, m, params, state[cut], inputs[cut], {n: x[cut] for n, x in flat.items()})
        for cut in cuts
    ]
    return np.concatenate(pieces, axis=1).reshape(k, *lead, -1)


def _rows(step: Step, k: int, m: int, params: Params, state: Array, inputs: Array, data: StepData) -> Array:
    """The k rows of each diagonal block, (k, n, ...), of a step at n positions."""
    n = len(state)
    copies, repeated = _copies(k, state), _copies(k, inputs)
    named = {name: _copies(k, x) for name, x in data.items()}
    pull = _trace(step, lambda s: step(params, s, repeated, xp, **named), copies)
    cotangent = np.zeros((k, n, k, m // k), dtype=state.dtype)
    cotangent[np.arange(k), :, np.arange(k)] = 1
    return np.asarray(pull(cotangent.reshape(k, n, m)))


def _copies(count: int, x: Array) -> Array:
    return np.broadcast_to(x, (count, *x.shape)).copy()


def state_vjp(
    step: Step, params: Params, state: Array, inputs: Array, cotangent: Array, data: StepData
) -> Array:
    """The cotangent of the old state, shape (..., m): cotangent @ J."""
    pull = _trace(step, lambda s: step(params, s, inputs, xp, **data), state)
    return np.asarray(pull(cotangent), dtype=state.dtype)


def params_vjp(
    step: Step, params: Params, state: Array, inputs: Array, cotangent: Array, data: StepData
) -> Params:
    """The cotangents of the parameters, summed over the last leading axis, shapes (..., *param)."""
    outer = state.shape[:-2]
    result = {n: np.empty((*outer, *p.shape), dtype=p.dtype) for n, p in params.items()}
    for i in product(*map(range, outer)):
        here = {name: x[i] for name, x in data.items()}
        pull = _trace(step, partial(_step_of_params, step, state[i], inputs[i], here), params)
        for name, value in pull(cotangent[i]).items():
            result[name][i] = value
    return result


def _step_of_params(step: Step, state: Array, inputs: Array, data: StepData, params: Params) -> Any:
    return step(params, state, inputs, xp, **data)


def inputs_vjp(
    step: Step, params: Params, state: Array, inputs: Array, cotangent: Array, data: StepData
) -> Array:
    """The cotangent of the inputs, shape (..., input)."""
    pull = _trace(step, lambda x: step(params, state, x, xp, **data), inputs)
    return np.asarray(pull(cotangent), dtype=inputs.dtype)


def bilinear_vjp(
    step: Step, params: Params, state: Array, inputs: Array, left: Array, right: Array, data: StepData
) -> tuple[Params, Array]:
    """Derivative of the sum of left @ J @ right over all positions and copies.

    `left` and `right` have shape (copies, ..., m) for states (..., m). Returns the derivatives with
    respect to the parameters and to the old states, by a reverse pass through a reverse pass.
    """
    copies = len(left)
    named, repeated = {n: _copies(copies, x) for n, x in data.items()}, _copies(copies, inputs)
    ones = np.ones((copies, *(1,) * state.ndim), dtype=state.dtype)

    def scalar(arguments: tuple[Params, Array]) -> Any:
        p, s = arguments
        pull = _trace(step, lambda old: step(p, old, repeated, xp, **named), ones * s)
        return xp.sum(pull(left) * right)

    pull = _trace(step, scalar, (params, state))
    return pull(np.ones((), dtype=state.dtype))  # type: ignore[no-any-return]


def value_and_gradient(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, Any]:
    """A number that a function makes of some arguments and `xp`, and its derivatives for all of them."""
    pull, value = _pull_and_value("the function", function, lambda given: function(*given, xp), arguments)
    if np.shape(value) != ():
        raise TracingError(f"the function should return one number, not an array of shape {np.shape(value)}")
    if isinstance(pull, _Constant) and value != 0:
        raise TracingError(
            f"the function makes {float(value):.4g} of nothing that it is given, so that its derivative "
            "would be zero; let it read its own arguments"
        )
    return value, pull(np.ones_like(value))


def gradient(function: Callable[[Any], Any], argument: Any) -> tuple[Any, Array]:
    """Gradient and value of sum(function(argument)); the value keeps its shape."""
    pull, value = _pull_and_value("the loss", function, function, argument)
    return pull(np.ones_like(value)), value


def named_vjp(
    function: Callable[[Any, Any], Any], arguments: Params
) -> tuple[Params, Callable[[Params], Params]]:
    """Named arrays that are made of named arrays, ``function(arguments, xp)``, and the way back.

    It takes cotangents of what is made to those of the arguments.
    """

    def way(given: Params) -> Any:
        return builtins.dict(function(given, xp))

    pull, made = _pull_and_value("derive()", function, way, arguments)
    return dict(made), lambda cotangents: pull({n: cotangents[n] for n in made})


def _trace(step: Step, function: Callable[[Any], Any], argument: Any) -> Callable[[Any], Any]:
    """The way back through `function`, which takes a step or makes the output of a cell."""
    what = "output()" if getattr(step, "__name__", "") == "output" else "step()"
    return _pull_and_value(what, step, function, argument)[0]


def _pull_and_value(
    what: str, read: Callable[..., Any], function: Callable[[Any], Any], argument: Any
) -> tuple[Callable[[Any], Any], Any]:
    """The way back through `function`, and what it gives; `read` is what its author wrote."""
    try:
        pull, value = _traced(function, argument)
    except (TypeError, AttributeError, ValueError, IndexError, NotImplementedError) as error:
        why = f"{type(error).__name__}: {error}"
        raise TracingError(f"{what} cannot be traced ({why}){advice(read) or cure(error)}") from error
    if isinstance(value, np.ndarray) and value.dtype == np.dtype(object):
        why = "numpy made an object array of what it was given"
        raise TracingError(f"{what} cannot be traced ({why}){advice(read)}")
    return pull, value


class _Levels(threading.local, tracer.TraceStack):  # type: ignore[misc]
    """How deep derivatives are nested, of each thread by itself.

    autograd counts for all threads at once: of two that derive side by side, one would take the level of
    the inner derivative for that of the outer one, and give wrong numbers.
    """


tracer.trace_stack = _Levels()


def _traced(function: Callable[[Any], Any], argument: Any) -> tuple[Callable[[Any], Any], Any]:
    """`autograd.make_vjp`, but without a warning where the value does not depend on the argument.

    A step may well not depend on a parameter; where it should, central differences tell.
    """
    with tracer.trace_stack.new_trace() as level:
        value = function(tracer.new_box(argument, level, VJPNode.new_root()))
    if tracer.isbox(value) and value._trace == level:
        return partial(backward_pass, end_node=value._node), value._value
    return _Constant(argument), value


@dataclass(frozen=True)
class _Constant:
    """The way back through what does not depend on its argument."""

    argument: Any

    def __call__(self, cotangent: Any) -> Any:
        return vspace(self.argument).zeros()

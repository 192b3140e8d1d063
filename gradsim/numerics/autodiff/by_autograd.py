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
from autograd.core import VJPNode, add_outgrads, backward_pass, vspace
from autograd.util import toposort

from gradsim.errors import TracingError, cure
from gradsim.numerics.autodiff.advice import advice
from gradsim.numerics.autodiff.autograd_namespace import xp
from gradsim.types import Array, Params, StepData

Step = Callable[..., Any]

name = "autograd"

_TRACE_BYTES = 2**20
"""Largest array of one traced step, so that many stay in cache; more steps are cut into pieces."""

_COPIES_BYTES = 2**16
"""Up to here it is calling that takes the time, and several rows of a Jacobian are had for one."""


def unroll(step: Step, params: Params, state: Array, inputs: Array, step_data: StepData) -> None:
    """Autograd has no way of its own to take steps."""


def step_jacobians(
    step: Step, groups: int, parts: int, params: Params, state: Array, inputs: Array, data: StepData
) -> list[Array]:
    """J of a step, shape (..., g, k, k): [..., j, a, c] = d s'[a*g + j] / d s[c*g + j].

    Of a step from several states side by side (..., parts * m), with respect to each of them.
    """
    m = state.shape[-1] // parts
    rows = _rows(step, m // groups, m, params, state, inputs, data)
    rows = rows.reshape(*rows.shape[:-1], parts, m // groups, groups)
    return [np.ascontiguousarray(np.moveaxis(rows[..., part, :, :], -1, -3)) for part in range(parts)]


def inputs_jacobian(step: Step, params: Params, state: Array, inputs: Array, data: StepData) -> Array:
    """The derivative of the new state with respect to the inputs, (..., m, input)."""

    def swapped(params: Params, inputs: Any, state: Any, xp: Any, **data: Any) -> Any:
        return step(params, state, inputs, xp, **data)

    m = state.shape[-1]
    return _rows(swapped, m, m, params, inputs, state, data)


def _rows(step: Step, k: int, m: int, params: Params, state: Array, inputs: Array, data: StepData) -> Array:
    """The k rows of each diagonal block, (..., k, n), over all positions, as many as fit at a time.

    A batch is never cut nor joined with others, so that what a step makes of it does not depend on how many
    steps go together: not even the order in which a matrix product adds.
    """
    *lead, batch = state.shape[:-1] or (1,)
    count = math.prod(lead)  # -1 would not do for arrays of no size
    named = {n: x.reshape(count, batch, *x.shape[state.ndim - 1 :]) for n, x in data.items()}
    states, along = (x.reshape(count, batch, x.shape[-1]) for x in (state, inputs))
    found = np.empty((count, batch, k, state.shape[-1]), dtype=state.dtype)
    # Few positions go through the trace several times side by side, each for a row of its own.
    width = batch * max(m, state.shape[-1]) * state.itemsize
    length = max(1, min(count, _TRACE_BYTES // width))
    copies = max(1, min(k, _COPIES_BYTES // (length * width)))
    for first in range(0, count, length):
        cut = slice(first, first + length)
        before, x = _copies(copies, states[cut]), _copies(copies, along[cut])
        pull = _trace_state(step, params, before, x, {n: _copies(copies, d[cut]) for n, d in named.items()})
        for row in range(0, k, copies):
            unit = np.zeros((copies, *states[cut].shape[:2], k, m // k), dtype=state.dtype)
            rows = np.arange(min(copies, k - row))
            unit[rows, :, :, row + rows] = 1
            pulled = pull(unit.reshape(*unit.shape[:3], m))[: len(rows)]
            found[cut, :, row : row + copies] = np.moveaxis(pulled, 0, 2)
    return found.reshape(*state.shape[:-1], k, -1)


def _copies(count: int, x: Array) -> Array:
    return np.broadcast_to(x, (count, *x.shape)).copy()


def state_vjp(
    step: Step, params: Params, state: Array, inputs: Array, cotangent: Array, data: StepData
) -> Array:
    """The cotangent of the old state, shape (..., m): cotangent @ J."""
    pull = _trace_state(step, params, state, inputs, data)
    return np.asarray(pull(cotangent), dtype=state.dtype)


def _trace_state(
    step: Step, params: Params, state: Array, inputs: Array, data: StepData
) -> Callable[[Any], Any]:
    return _trace(step, lambda s: step(params, s, inputs, xp, **data), state)


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


def params_jvp(
    step: Step, params: Params, state: Array, inputs: Array, tangents: Params, data: StepData
) -> Params:
    """How the new states (..., m) move with tangents (copies, *param), each of one parameter alone.

    Shapes (copies, ..., m), by the name of the parameter. The way back to a parameter is linear in the
    cotangent, so that its own way back takes tangents forward; it is traced once for all of them.
    """
    still, result = np.zeros_like(state), {}
    for name, directions in tangents.items():

        def moved(param: Any, name: str = name) -> Any:
            return step({**params, name: param}, state, inputs, xp, **data)

        push = _trace(step, _trace(step, moved, params[name]), still)
        result[name] = np.empty((len(directions), *state.shape), dtype=state.dtype)
        for found, direction in zip(result[name], directions, strict=True):
            found[...] = push(direction)
    return result


def inputs_vjp(
    step: Step, params: Params, state: Array, inputs: Array, cotangent: Array, data: StepData
) -> Array:
    """The cotangent of the inputs, shape (..., input)."""
    pull = _trace(step, lambda x: step(params, state, x, xp, **data), inputs)
    return np.asarray(pull(cotangent), dtype=inputs.dtype)


def slopes(
    function: Callable[..., Any], arguments: Array, read: Callable[..., Any]
) -> list[tuple[Array, list[int], list[tuple[int, Array]]]]:
    """How results that are made place by place of so many arguments (count, ...) change with each of them.

    ``function(arguments, xp)`` gives the results. Each has slopes (count, ...), the numbers of the arguments
    that it depends on at all, and its slopes (...) by other results that it was made of: what it owes to
    these is not among those by the arguments. One cotangent of ones has all places, as none depends on
    another. `read` is what the author wrote.
    """
    given: list[Any] = []
    made: list[Any] = []

    def results(box: Any) -> Any:
        given.extend(box[i] for i in range(len(arguments)))
        made.extend(function(tuple(given), xp))
        return made[0]

    _pull_and_value(f"{read.__name__}()", read, results, arguments)
    nodes = [x._node if tracer.isbox(x) else None for x in made]
    found = []
    for node in nodes:
        others = {n: j for j, n in enumerate(nodes) if n is not None and n is not node}
        by_arguments, by_others, met = np.zeros_like(arguments), [], set[Any]()
        outgrads = {} if node is None else {node: (np.ones_like(arguments[0]), False)}
        for at in toposort(node) if node is not None else ():
            if at not in outgrads:  # it is met by way of other results only
                continue
            slope, _ = outgrads.pop(at)
            if at in others:
                by_others.append((others[at], slope))
                continue
            met.add(at)
            if not at.parents:
                by_arguments = slope
            for parent, more in zip(at.parents, at.vjp(slope), strict=True):
                outgrads[parent] = add_outgrads(outgrads.get(parent), more)
        found.append((by_arguments, [i for i, x in enumerate(given) if x._node in met], by_others))
    return found


def bends(
    function: Callable[..., Any], arguments: tuple[Array, ...], weights: Array, read: Callable[..., Any]
) -> Array:
    """How the sum of weights (results, count, ...) times the slopes of `slopes` changes with each argument.

    Shape (count, ...), by a reverse pass through one reverse pass for each result.
    """
    ones = np.ones_like(arguments[0])

    def summed(given: Any) -> Any:
        found: Any = 0.0
        for k, row in enumerate(weights):

            def result(box: Any, k: int = k) -> Any:
                return function(tuple(box), xp)[k]

            pulled = _pull_and_value(f"{read.__name__}()", read, result, given)[0](ones)
            for i, weight in enumerate(row):
                found = found + xp.sum(weight * pulled[i])
        return found

    pull, _ = _pull_and_value(f"{read.__name__}()", read, summed, arguments)
    return np.stack(pull(np.ones((), dtype=ones.dtype)))


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

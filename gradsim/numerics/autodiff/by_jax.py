"""Derivatives of any `step` compiled by JAX, and whole blocks of its steps.

NumPy arrays come in and go out. All is on the CPU and on one thread, in the dtype of what is given. The
numbers of positions vary: arrays are filled up to the next power of two, so that few sizes are compiled.
"""

from __future__ import annotations

import functools
import math
import os
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from gradsim.errors import TracingError
from gradsim.numerics.autodiff import by_autograd
from gradsim.numerics.autodiff.alike import look
from gradsim.numerics.autodiff.jax_steps import Compiled, cpu
from gradsim.numerics.autodiff.tags import open_paths
from gradsim.types import Array, Params, StepData

__all__ = ["ByJax", "cpu"]

Step = Callable[..., Any]

_TRACE_BYTES = 4 * 2**20
"""Largest array of derivatives of one call; more positions are cut into pieces."""

_KEPT = 64
"""Steps whose compiled functions are kept."""

CACHE = "GRADSIM_JAX_CACHE"
"""The environment variable that names a folder in which JAX keeps what it has compiled."""

if folder := os.environ.get(CACHE):
    settings: Any = jax.config  # which has no types
    settings.update("jax_compilation_cache_dir", folder)
    settings.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    settings.update("jax_persistent_cache_min_entry_size_bytes", -1)


class Block:
    """Steps that have been taken; what JAX holds of them is filled up."""

    def __init__(self, compiled: Compiled, params: Params, states: Any, count: int, rest: Any) -> None:
        self.compiled, self.params, self.held = compiled, params, (states, *rest)
        self.states = np.asarray(states)[: count + 1]

    def pull(self, row: int, incoming: Array, direct: Array) -> tuple[Array, Params]:
        """See `providers.Block`."""
        count = len(direct)
        wide = np.empty((len(self.held[1]), *direct.shape[1:]), dtype=direct.dtype)
        wide[:count] = direct
        found = self.compiled.back(self.params, self.held, incoming, wide, row, count)
        adjoints, gradient, first = found
        return np.asarray(adjoints)[int(first) : count + 1], _as_named(gradient, self.params)


class ByJax:
    """The provider of a run; see `providers.Provider`.

    What JAX cannot trace is an error if it was `asked` for, and else goes to autograd. If the run goes
    `backward` too, the way back is compiled beside the way forward.
    """

    name = "jax"

    def __init__(self, asked: bool, backward: bool = False) -> None:
        self.asked, self.backward = asked, backward
        self._known: dict[Any, tuple[Step, Compiled]] = {}

    def refusal(self, step: Step, params: Params, state: Array, inputs: Array, data: StepData) -> str | None:
        """Why JAX cannot trace a step, as the end of a sentence; None if it can."""
        return self._functions(step).refusal(params, state, inputs, data)

    def _functions(self, step: Step) -> Compiled:
        key = getattr(step, "__func__", step), id(getattr(step, "__self__", None)), open_paths()
        if key not in self._known:
            # With the step, so that no other one takes its place in memory.
            self._known[key] = step, compiled(step)
        return self._known[key][1]

    def _compiled(
        self, step: Step, params: Params, state: Array, inputs: Array, data: StepData
    ) -> Compiled | None:
        """Its compiled functions; None if autograd is to do it."""
        found = self._functions(step)
        if (why := found.refusal(params, state, inputs, data)) is None:
            return found
        if self.asked:
            what = "output()" if getattr(step, "__name__", "") == "output" else "step()"
            raise TracingError(f"{what} cannot be traced by JAX ({why}); or leave out derivatives='jax'")
        return None

    def unroll(
        self, step: Step, params: Params, state: Array, inputs: Array, step_data: StepData
    ) -> Block | None:
        """See `providers.Provider`."""
        first = (params, state, inputs[0], {n: x[0] for n, x in step_data.items()})
        if (made := self._compiled(step, *first)) is None:
            return None
        room, count = _room(len(inputs)), len(inputs)
        rest = _filled((inputs, dict(step_data)), room)
        if self.backward:
            made.begin(params, state, rest, count)
        taken = Block(made, params, made.take(params, state, *rest, count), count, rest)
        if made.indexes:  # NumPy refuses those that are not there
            step(params, taken.states[:-1], inputs, np, **step_data)
        return taken

    def step_jacobians(
        self, step: Step, groups: int, parts: int, params: Params, state: Array, inputs: Array, data: StepData
    ) -> list[Array]:
        """See `providers.Provider`."""
        if (made := self._compiled(step, params, state, inputs, data)) is None:
            return by_autograd.step_jacobians(step, groups, parts, params, state, inputs, data)
        k = state.shape[-1] // parts // groups
        call = functools.partial(made.jacobian(groups, parts), params)
        found = _by_position(call, parts * k * state.shape[-1], state, inputs, data)
        return [found[..., part, :, :, :] for part in range(parts)]

    def inputs_jacobian(
        self, step: Step, params: Params, state: Array, inputs: Array, data: StepData
    ) -> Array:
        """See `providers.Provider`."""
        if (made := self._compiled(step, params, state, inputs, data)) is None:
            return by_autograd.inputs_jacobian(step, params, state, inputs, data)
        call = functools.partial(made.inputs_jacobian, params)
        return _by_position(call, state.shape[-1] * inputs.shape[-1], state, inputs, data)

    def state_vjp(
        self, step: Step, params: Params, state: Array, inputs: Array, cotangent: Array, data: StepData
    ) -> Array:
        """See `providers.Provider`."""
        if (made := self._compiled(step, params, state, inputs, data)) is None:
            return by_autograd.state_vjp(step, params, state, inputs, cotangent, data)
        return _by_position(functools.partial(made.state_vjp, params), 1, state, inputs, data, cotangent)

    def inputs_vjp(
        self, step: Step, params: Params, state: Array, inputs: Array, cotangent: Array, data: StepData
    ) -> Array:
        """See `providers.Provider`."""
        if (made := self._compiled(step, params, state, inputs, data)) is None:
            return by_autograd.inputs_vjp(step, params, state, inputs, cotangent, data)
        return _by_position(functools.partial(made.inputs_vjp, params), 1, state, inputs, data, cotangent)

    def params_vjp(
        self, step: Step, params: Params, state: Array, inputs: Array, cotangent: Array, data: StepData
    ) -> Params:
        """See `providers.Provider`."""
        if (made := self._compiled(step, params, state, inputs, data)) is None:
            return by_autograd.params_vjp(step, params, state, inputs, cotangent, data)
        lead = state.shape[:-2]
        given = _flat((state, inputs, dict(data)), len(lead))
        count, cotangents = math.prod(lead), _flat(cotangent, len(lead))
        if not lead:  # one sum over many positions: then these are what varies in number
            given = jax.tree.map(lambda x: _filled(x[0], _room(len(x[0])))[None], given)
        room = _room(count)
        wide = np.zeros((room, *given[0].shape[1:-1], cotangent.shape[-1]), dtype=cotangent.dtype)
        wide[:count, : cotangents.shape[1]] = cotangents
        found = made.params_vjp(params, *_filled(given, room), wide)
        made_of = _as_named(found, params)
        return {n: x[:count].reshape(*lead, *x.shape[1:]) for n, x in made_of.items()}

    def bilinear_vjp(
        self,
        step: Step,
        params: Params,
        state: Array,
        inputs: Array,
        left: Array,
        right: Array,
        data: StepData,
    ) -> tuple[Params, Array]:
        """See `providers.Provider`."""
        if (made := self._compiled(step, params, state, inputs, data)) is None:
            return by_autograd.bilinear_vjp(step, params, state, inputs, left, right, data)
        lead = state.shape[:-1]
        given, count = _flat((state, inputs, dict(data)), len(lead)), math.prod(lead)
        room, copies = _room(count), _room(len(left))
        both = np.zeros((2, copies, room, state.shape[-1]), dtype=state.dtype)
        for wide, narrow in zip(both, (left, right), strict=True):
            wide[: len(narrow), :count] = narrow.reshape(len(narrow), count, -1)
        found, states = made.bilinear_vjp(params, *_filled(given, room), *both)
        return _as_named(found, params), np.asarray(states)[:count].reshape(state.shape)


def _by_position(
    call: Callable[..., Any], size: int, state: Array, inputs: Array, data: Any, *more: Array
) -> Array:
    """What is made at each position, `size` floats, as many positions at a time as fit."""
    lead = state.shape[:-1]
    given = _flat((state, inputs, dict(data), *more), len(lead))
    count, most = math.prod(lead), _room(max(1, _TRACE_BYTES // (size * state.itemsize)))
    pieces = []
    for first in range(0, count, most):
        here = slice(first, min(first + most, count))
        room = _room(here.stop - first)
        found = call(*_filled(jax.tree.map(lambda x, here=here: x[here], given), room))
        pieces.append(np.asarray(found)[: here.stop - first])
    whole = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
    return whole.reshape(*lead, *whole.shape[1:])


def _as_named(found: Any, params: Params) -> Params:
    """As NumPy arrays in the order of the parameters; JAX sorts names."""
    return {n: np.asarray(found[n]) for n in params}


def _flat(tree: Any, lead: int) -> Any:
    """All leading axes as one, of length 1 if there are none."""

    def joined(x: Array) -> Array:
        return x.reshape(math.prod(x.shape[:lead]), *x.shape[lead:])

    return jax.tree.map(joined, tree)


def _room(count: int) -> int:
    """The next power of two."""
    return 1 << (count - 1).bit_length()


def _filled(tree: Any, room: int) -> Any:
    """With the last row of each repeated, where derivatives are as finite as there."""

    def filled(x: Array) -> Array:
        if len(x) == room:
            return x
        wide = np.empty((room, *x.shape[1:]), dtype=x.dtype)
        wide[: len(x)], wide[len(x) :] = x, x[-1]
        return wide

    return jax.tree.map(filled, tree)


_known: OrderedDict[Any, Any] = OrderedDict()


def compiled(step: Step) -> Compiled:
    """The compiled functions of a step, or of one that computes the same."""
    key = look(step), open_paths()
    found = _known[key] = _known.pop(key, None) or Compiled(step)
    found.step = step  # what is still to be traced is this one: the first may have been changed since
    while len(_known) > _KEPT:
        _known.popitem(last=False)
    return found

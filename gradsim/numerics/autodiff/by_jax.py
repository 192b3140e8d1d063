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
import jax.numpy as jnp
import numpy as np
from jax import lax

from gradsim.errors import TracingError, cure
from gradsim.numerics.autodiff import by_autograd
from gradsim.numerics.autodiff.advice import advice
from gradsim.numerics.autodiff.alike import look
from gradsim.numerics.autodiff.tags import open_paths
from gradsim.numerics.scaled import ROOM
from gradsim.types import Array, Params, StepData

Step = Callable[..., Any]

_TRACE_BYTES = 4 * 2**20
"""Largest array of derivatives of one call; more positions are cut into pieces."""

_SEQUENCES = 16
_POSITIONS = 128
"""With fewer sequences, the gradient is a sum over so many positions at a time."""

_KEPT = 64
"""Steps whose compiled functions are kept."""

_HELD = {"xla_cpu_multi_thread_eigen": False}

CACHE = "GRADSIM_JAX_CACHE"
"""The environment variable that names a folder in which JAX keeps what it has compiled."""

if folder := os.environ.get(CACHE):
    settings: Any = jax.config  # which has no types
    settings.update("jax_compilation_cache_dir", folder)
    settings.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    settings.update("jax_persistent_cache_min_entry_size_bytes", -1)


@functools.cache
def cpu() -> Any:
    """The device that computes, whatever others there are."""
    return jax.local_devices(backend="cpu")[0]


def _jitted(function: Callable[..., Any]) -> Callable[..., Any]:
    fast: Any = jax.jit(function, compiler_options=_HELD)

    @functools.wraps(function)
    def call(*given: Any) -> Any:
        # JAX knows float64 only where it has been told; for the thread and the time of this call it is.
        with jax.enable_x64(True), jax.default_device(cpu()):
            return fast(*given)

    return call


class Compiled:
    """The compiled functions of one step."""

    def __init__(self, step: Step) -> None:
        self.step = step
        self.take, self.back = _jitted(self._take), _jitted(self._back)
        self.jacobian = functools.cache(lambda groups, parts: _jitted(self._jacobian(groups, parts)))
        self.state_vjp, self.params_vjp = _jitted(self._state_vjp), _jitted(self._params_vjp)
        self.inputs_jacobian, self.inputs_vjp = _jitted(self._inputs_jacobian), _jitted(self._inputs_vjp)
        self.bilinear_vjp = _jitted(self._bilinear_vjp)

    def refusal(self, params: Params, state: Array, inputs: Array, data: StepData) -> str | None:
        """Why JAX cannot trace the step, as the end of a sentence; None if it can."""
        try:
            with jax.enable_x64(True):
                made = jax.eval_shape(self._at, params, state, inputs, dict(data))
                found = made.dtype
        except Exception as error:  # of whatever kind a step raises when it meets what is no array
            why = str(error).partition("\n")[0]
            return f"{type(error).__name__}: {why}{advice(self.step) or cure(error)}"
        return None if found == state.dtype else f"it gives {found} of {state.dtype}{advice(self.step)}"

    def _at(self, params: Any, state: Any, inputs: Any, data: Any) -> Any:
        return self.step(params, state, inputs, jnp, **data)

    def _take(self, params: Any, state: Any, inputs: Any, data: Any, count: Any) -> Any:
        """All states (steps + 1, batch, m) of the first `count` steps."""
        states = jnp.zeros((len(inputs) + 1, *state.shape), state.dtype)

        def body(t: Any, so_far: Any) -> Any:
            states, state = so_far
            state = self._at(params, state, *_row((inputs, data), t))
            return _put(states, state, t + 1), state

        return lax.fori_loop(0, count, body, (_put(states, state, 0), state))[0]

    def _back(self, params: Any, steps: Any, incoming: Any, direct: Any, first: Any, count: Any) -> Any:
        """Adjoints (steps + 1, batch, m), gradient and the first row of `count` steps from `first` on.

        It goes from the last one back as far as the range of the dtype reaches. The gradient is made on the
        way, of the same derivatives; but for few sequences it would be adding to it at every step that
        takes the time, and a loop over more positions at once makes it.
        """
        together = len(incoming) >= _SEQUENCES
        adjoints = jnp.zeros((len(direct) + 1, *incoming.shape), incoming.dtype)
        zero = jax.tree.map(jnp.zeros_like, params)

        def body(so_far: Any) -> Any:
            t, adjoints, adjoint, _, gradient = so_far
            t -= 1
            state, inputs, data = _row(steps, first + t)
            _, pull = jax.vjp(lambda p, s: self._at(p, s, inputs, data), params, state)
            more, before = pull(adjoint)
            before += _row(direct, t)
            gradient = jax.tree.map(jnp.add, gradient, more) if together else gradient
            return t, _put(adjoints, before, t), before, _in_range(before, adjoint), gradient

        def goes_on(so_far: Any) -> Any:
            t, _, _, in_range, _ = so_far
            return (t > 0) & in_range

        start = count, _put(adjoints, incoming, count), incoming, True, zero
        row, adjoints, *_, gradient = lax.while_loop(goes_on, body, start)
        if not together:
            gradient = self._summed(params, steps, adjoints, first, row, count)
        return adjoints, gradient, row

    def _summed(self, params: Any, steps: Any, adjoints: Any, first: Any, row: Any, count: Any) -> Any:
        """The gradient of steps `row` to `count`, some positions at a time."""
        rows = jnp.arange(-(-_POSITIONS // adjoints.shape[1]))

        def sums(i: Any, gradient: Any) -> Any:
            t = row + i * len(rows) + rows
            last = jnp.minimum(t, count - 1)  # beyond the end: its derivatives again, times zero
            state, inputs, data = jax.tree.map(lambda x: _joined(x[first + last]), steps)
            cotangent = jnp.where((t < count)[:, None, None], adjoints[last + 1], 0)
            _, pull = jax.vjp(lambda p: self._at(p, state, inputs, data), params)
            return jax.tree.map(jnp.add, gradient, *pull(_joined(cotangent)))

        pieces = (count - row + len(rows) - 1) // len(rows)
        return lax.fori_loop(0, pieces, sums, jax.tree.map(jnp.zeros_like, params))

    def _jacobian(self, groups: int, parts: int) -> Callable[..., Any]:
        """Blocks (positions, parts, g, k, k), a column of all groups and positions at once."""

        def made(params: Any, state: Any, inputs: Any, data: Any) -> Any:
            k = state.shape[-1] // parts // groups
            column = jnp.repeat(jnp.eye(parts * k, dtype=state.dtype), groups, axis=1)

            def one(state: Any, inputs: Any, data: Any) -> Any:
                _, push = jax.linearize(lambda s: self._at(params, s, inputs, data), state)
                return jax.vmap(push)(column).reshape(parts, k, k, groups).transpose(0, 3, 2, 1)

            return jax.vmap(one)(state, inputs, data)

        return made

    def _inputs_jacobian(self, params: Any, state: Any, inputs: Any, data: Any) -> Any:
        """(positions, m, input)."""

        def one(state: Any, inputs: Any, data: Any) -> Any:
            return jax.jacfwd(lambda x: self._at(params, state, x, data))(inputs)

        return jax.vmap(one)(state, inputs, data)

    def _state_vjp(self, params: Any, state: Any, inputs: Any, data: Any, cotangent: Any) -> Any:
        return jax.vjp(lambda s: self._at(params, s, inputs, data), state)[1](cotangent)[0]

    def _inputs_vjp(self, params: Any, state: Any, inputs: Any, data: Any, cotangent: Any) -> Any:
        return jax.vjp(lambda x: self._at(params, state, x, data), inputs)[1](cotangent)[0]

    def _params_vjp(self, params: Any, state: Any, inputs: Any, data: Any, cotangent: Any) -> Any:
        def one(state: Any, inputs: Any, data: Any, cotangent: Any) -> Any:
            return jax.vjp(lambda p: self._at(p, state, inputs, data), params)[1](cotangent)[0]

        return jax.vmap(one)(state, inputs, data, cotangent)

    def _bilinear_vjp(self, params: Any, state: Any, inputs: Any, data: Any, left: Any, right: Any) -> Any:
        def scalar(params: Any, state: Any) -> Any:
            _, push = jax.linearize(lambda s: self._at(params, s, inputs, data), state)
            return jnp.sum(left * jax.vmap(push)(right))

        return jax.grad(scalar, argnums=(0, 1))(params, state)


def _row(tree: Any, t: Any) -> Any:
    return jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, t, keepdims=False), tree)


def _put(x: Any, value: Any, t: Any) -> Any:
    return lax.dynamic_update_index_in_dim(x, value, t, 0)


def _joined(x: Any) -> Any:
    return x.reshape(-1, *x.shape[2:])


def _in_range(adjoint: Any, after: Any) -> Any:
    """Whether the adjoint (batch, m) of no sequence has left the range; see `scaled.range_end`."""
    size, most = jnp.abs(adjoint).max(axis=-1), 2.0 ** ROOM[adjoint.dtype.itemsize]
    gone = ~(after != 0).any(axis=-1)
    return jnp.all((size < most) & ((size >= 1 / most) | ((size == 0) & gone)))


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

    What JAX cannot trace is an error if it was `asked` for, and else goes to autograd.
    """

    name = "jax"

    def __init__(self, asked: bool) -> None:
        self.asked = asked
        self._known: dict[Any, tuple[Step, Compiled | None]] = {}

    def _compiled(self, step: Step, params: Params, state: Array, inputs: Array, data: StepData) -> Any:
        """Its compiled functions; None if autograd is to do it."""
        key = getattr(step, "__func__", step), id(getattr(step, "__self__", None)), open_paths()
        if key not in self._known:
            found = compiled(step)
            if (why := found.refusal(params, state, inputs, data)) and self.asked:
                what = "output()" if getattr(step, "__name__", "") == "output" else "step()"
                raise TracingError(f"{what} cannot be traced by JAX ({why}); or leave out derivatives='jax'")
            # With the step, so that no other one takes its place in memory.
            self._known[key] = step, None if why else found
        return self._known[key][1]

    def unroll(
        self, step: Step, params: Params, state: Array, inputs: Array, step_data: StepData
    ) -> Block | None:
        """See `providers.Provider`."""
        first = (params, state, inputs[0], {n: x[0] for n, x in step_data.items()})
        if (made := self._compiled(step, *first)) is None:
            return None
        room, count = _room(len(inputs)), len(inputs)
        rest = _filled((inputs, dict(step_data)), room)
        return Block(made, params, made.take(params, state, *rest, count), count, rest)

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
    while len(_known) > _KEPT:
        _known.popitem(last=False)
    return found


def refusal(step: Step, params: Params, state: Array, inputs: Array, data: StepData) -> str | None:
    """Why JAX cannot trace a step, as the end of a sentence; None if it can."""
    return compiled(step).refusal(params, state, inputs, data)

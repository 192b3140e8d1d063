"""The functions of a step that JAX compiles: many steps at once, and derivatives at many positions."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from gradsim.errors import cure
from gradsim.numerics.autodiff.advice import advice
from gradsim.numerics.autodiff.hoisted import hoisted, moving
from gradsim.numerics.scaled import ROOM
from gradsim.types import Array, Params, StepData

Step = Callable[..., Any]

_POSITIONS = 128
"""Positions whose derivatives the way back makes at a time."""

_HELD = {"xla_cpu_multi_thread_eigen": False}

_FEW = 4
"""Positions at which a check looks at derivatives."""


@functools.cache
def cpu() -> Any:
    """The device that computes, whatever others there are."""
    return jax.local_devices(backend="cpu")[0]


class _Jitted:
    """A function that is compiled for each kind of arguments, when it meets them or ahead of that."""

    def __init__(self, function: Callable[..., Any], **options: Any) -> None:
        self._fast: Any = jax.jit(function, compiler_options=_HELD | options)
        self._under_way: list[Thread] = []

    def __call__(self, *given: Any) -> Any:
        for thread in self._under_way:
            thread.join()  # or it would be compiled here as well
        with _at_home():
            return self._fast(*given)

    def ahead(self, *given: Any) -> None:
        """Begin to compile on a thread beside this one; of arguments their shapes and dtypes are enough."""
        with contextlib.suppress(Exception), _at_home():  # what is wrong is told where it is called
            thread = Thread(target=_compile, args=[self._fast.lower(*given)])
            self._under_way.append(thread)
            thread.start()


class _ByPosition:
    """Such a function of positions side by side; of few of them less time is spent to compile it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._fast, self._few = _Jitted(function), _Jitted(function, xla_backend_optimization_level=0)

    def __call__(self, params: Any, state: Any, *more: Any) -> Any:
        return (self._few if len(state) <= _FEW else self._fast)(params, state, *more)


@contextmanager
def _at_home() -> Iterator[None]:
    """On the CPU, and with float64, which JAX knows only where it has been told: here, on this thread."""
    with jax.enable_x64(True), jax.default_device(cpu()):
        yield


def _compile(lowered: Any) -> None:
    with contextlib.suppress(Exception):
        lowered.compile()


class Compiled:
    """The compiled functions of one step.

    `indexes`: whether it picks numbers by others, where JAX takes any index for one that is there.
    """

    def __init__(self, step: Step) -> None:
        self.step, self.indexes = step, False
        self.take, self.back = _Jitted(self._take), _Jitted(self._back)
        self.jacobian = functools.cache(lambda groups, parts: _ByPosition(self._jacobian(groups, parts)))
        self.state_vjp, self.params_vjp = _ByPosition(self._state_vjp), _ByPosition(self._params_vjp)
        self.inputs_jacobian = _ByPosition(self._inputs_jacobian)
        self.inputs_vjp, self.bilinear_vjp = _ByPosition(self._inputs_vjp), _ByPosition(self._bilinear_vjp)
        self._refusals: dict[Any, str | None] = {}
        self._begun = set[Any]()

    def begin(self, params: Params, state: Array, steps: Any, count: int) -> None:
        """Compile both ways through such steps side by side; each takes about as long as the other."""
        key = tuple((x.shape, x.dtype) for x in jax.tree.leaves((params, state, steps)))
        if key in self._begun:
            return
        self._begun.add(key)
        self.take.ahead(params, state, *steps, count)
        like: Any = jax.ShapeDtypeStruct  # which has no types
        states, direct = (like((len(steps[0]) + n, *state.shape), state.dtype) for n in (1, 0))
        self.back.ahead(params, (states, *steps), state, direct, 0, count)

    def refusal(self, params: Params, state: Array, inputs: Array, data: StepData) -> str | None:
        """Why JAX cannot trace the step, as the end of a sentence; None if it can."""
        given = params, state, inputs, dict(data)
        key = tuple(x.dtype for x in (*params.values(), state, inputs, *data.values()))
        if key not in self._refusals:
            self._refusals[key] = self._refusal(*given)
        return self._refusals[key]

    def _refusal(self, *given: Any) -> str | None:
        dtype = given[1].dtype
        try:
            with jax.enable_x64(True):
                trace, shape = jax.make_jaxpr(self._at, return_shape=True)(*given)
                found = shape.dtype
        except Exception as error:  # of whatever kind a step raises when it meets what is no array
            why = str(error).partition("\n")[0]
            return f"{type(error).__name__}: {why}{advice(self.step) or cure(error)}"
        self.indexes |= any(name in str(trace) for name in ("gather[", "dynamic_slice["))
        return None if found == dtype else f"it gives {found} of {dtype}{advice(self.step)}"

    def _at(self, params: Any, state: Any, inputs: Any, data: Any) -> Any:
        return self.step(params, state, inputs, jnp, **data)

    def _take(self, params: Any, state: Any, inputs: Any, data: Any, count: Any) -> Any:
        """All states (steps + 1, batch, m) of the first `count` steps."""
        states = jnp.zeros((len(inputs) + 1, *state.shape), state.dtype)
        ahead, then = hoisted(self._at, params, state, *_row((inputs, data), 0))
        made = ahead(params)

        def body(t: Any, so_far: Any) -> Any:
            states, state = so_far
            state = then(made, state, *_row((inputs, data), t))
            return _put(states, state, t + 1), state

        return lax.fori_loop(0, count, body, (_put(states, state, 0), state))[0]

    def _back(self, params: Any, steps: Any, incoming: Any, direct: Any, first: Any, count: Any) -> Any:
        """Adjoints (steps + 1, batch, m), gradient and the first row of `count` steps from `first` on.

        It goes from the last one back, as far as the range of the dtype reaches, some steps at a time: the
        derivatives of all of them, the adjoint through one after the other, what they add to the gradient.
        """
        rows = jnp.arange(min(len(direct), max(1, _POSITIONS // len(incoming))))
        some = jax.tree.map(lambda x: x[rows], steps)
        one, all_of = _Linear(self._at, params, *_row(steps, 0)), _Linear(self._at, params, *_joined(some))

        def pulled(so_far: Any) -> Any:
            stop, adjoints, adjoint, _, gradient = so_far
            low = jnp.maximum(stop - len(rows), 0)
            at = jnp.minimum(low + rows, stop - 1)  # beyond the end: the last one again
            here = jax.tree.map(lambda x: x[first + at], steps)
            whole = all_of.residuals(stop > 0, *_joined(here))
            residuals = one.of_rows(whole, stop > 0, *here)

            def back(so_far: Any) -> Any:
                t, adjoints, adjoint, _ = so_far
                before = one.pull(residuals(t - 1 - low), adjoint)[1] + _row(direct, t - 1)
                return t - 1, _put(adjoints, before, t - 1), before, _in_range(before, adjoint)

            def goes_on(so_far: Any) -> Any:
                return (so_far[0] > low) & so_far[3]

            t, *so_far = lax.while_loop(goes_on, back, (stop, adjoints, adjoint, True))
            through = (low + rows < stop) & (at >= t)
            cotangent = jnp.where(through[:, None, None], so_far[0][at + 1], 0)
            added, _ = all_of.pull(whole, _joined(cotangent))
            return t, *so_far, jax.tree.map(jnp.add, gradient, added)

        def goes_on(so_far: Any) -> Any:
            return (so_far[0] > 0) & so_far[3]

        adjoints = jnp.zeros((len(direct) + 1, *incoming.shape), incoming.dtype)
        nothing = jax.tree.map(jnp.zeros_like, all_of.made)
        start = count, _put(adjoints, incoming, count), incoming, True, nothing
        row, adjoints, _, _, gradient = lax.while_loop(goes_on, pulled, start)
        return adjoints, all_of.home(gradient)[0], row

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


class _Linear:
    """The derivatives of a step at some positions, as residuals and a way back that takes them.

    Those by the parameters are by what is `made` of them ahead; `home` leads from there to the parameters.
    """

    def __init__(self, step: Step, params: Any, *place: Any) -> None:
        ahead, self._then = hoisted(step, params, *place)
        self.made, self.home = jax.vjp(ahead, params)
        self._still = self._residuals(self.made, *place)
        self._moving = moving(self._residuals, self.made, *place)

    def _residuals(self, made: Any, state: Any, inputs: Any, data: Any) -> list[Any]:
        _, pull = jax.vjp(lambda made, state: self._then(made, state, inputs, data), made, state)
        arrays, self._way = jax.tree.flatten(pull)
        return list(arrays)

    def residuals(self, always: Any, *place: Any) -> list[Any]:
        """All that the way back from some positions takes.

        XLA would make it again wherever it is used, were it not the outcome of a branch, `always` taken.
        """

        def make(*place: Any) -> list[Any]:
            return self._residuals(self.made, *place)

        def none(*place: Any) -> list[Any]:
            return [jnp.zeros(x.shape, x.dtype) for x in jax.eval_shape(make, *place)]

        return list(lax.cond(always, make, none, *place))

    def pull(self, residuals: list[Any], cotangent: Any) -> Any:
        """To what is made of the parameters, and to the states."""
        return jax.tree.unflatten(self._way, residuals)(cotangent)

    def of_rows(self, whole: list[Any], always: Any, *places: Any) -> Callable[[Any], list[Any]]:
        """The residuals at each row of some places, which `whole` has of all of them side by side."""
        rows = len(places[0])
        if all(self._is_row_of(rows, *xs) for xs in zip(whole, self._still, self._moving, strict=True)):
            moved = [
                x.reshape(rows, x.shape[0] // rows, *x.shape[1:]) if moves else x
                for x, moves in zip(whole, self._moving, strict=True)
            ]
        else:  # a step that turns axes around
            each: Any = jax.vmap(lambda *place: self.residuals(always, *place))
            moved = each(*places)
        still = self._still
        return lambda row: [
            _row(x, row) if moves else same for x, same, moves in zip(moved, still, self._moving, strict=True)
        ]

    @staticmethod
    def _is_row_of(rows: int, whole: Any, one: Any, moves: bool) -> bool:
        return not moves or (one.ndim > 0 and whole.shape == (rows * one.shape[0], *one.shape[1:]))


def _row(tree: Any, t: Any) -> Any:
    return jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, t, keepdims=False), tree)


def _put(x: Any, value: Any, t: Any) -> Any:
    return lax.dynamic_update_index_in_dim(x, value, t, 0)


def _joined(tree: Any) -> Any:
    """Steps and sequences as one axis."""
    return jax.tree.map(lambda x: x.reshape(x.shape[0] * x.shape[1], *x.shape[2:]), tree)


def _in_range(adjoint: Any, after: Any) -> Any:
    """Whether the adjoint (batch, m) of no sequence has left the range; see `scaled.range_end`."""
    size, most = jnp.abs(adjoint).max(axis=-1), 2.0 ** ROOM[adjoint.dtype.itemsize]
    gone = ~(after != 0).any(axis=-1)
    return jnp.all((size < most) & ((size >= 1 / most) | ((size == 0) & gone)))

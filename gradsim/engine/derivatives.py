"""Are the derivatives of a cell right? Central differences of `step` tell, in float64."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any
from weakref import WeakSet

import numpy as np

from gradsim.contracts.cell import Cell
from gradsim.contracts.plugin import Passed, calling
from gradsim.contracts.promises import kind, mend
from gradsim.contracts.trajectory import Trajectory, shortened
from gradsim.engine.pulled import adjoints_of, contributions_of, gradient_of
from gradsim.errors import DerivativeError, TracingError
from gradsim.numerics import autodiff
from gradsim.numerics.blocks import dense_blocks
from gradsim.types import Array, Params

METHODS: tuple[str, ...] = ("step_jacobian", "state_vjp", "params_vjp")
PULLED = METHODS[1:]
"""Those of a run that makes no step Jacobian."""

TOLERANCE = 1e-5
_STEP = 1e-5
_RATIO = 4.0
_WIDTHS = _RATIO ** -np.arange(3.0, 14.0)
_KINK = 1e-3
_CLOSE = {8: 1e-7, 4: 1e-2}
"""By bytes of the dtype."""

_MARGIN = 10
"""How much larger than the doubt in differences an error has to be."""


def picked(trajectory: Trajectory, rows: Array, batch: Array) -> Trajectory:
    """Some positions of a trajectory in float64, side by side as the batch of one step; integers stay."""

    def wide(x: Array) -> Array:
        return x.astype(np.float64) if x.dtype.kind == "f" else x

    t = trajectory
    return Trajectory(
        t.cell,
        {n: wide(p) for n, p in t.params.items()},
        wide(t.states[rows, batch])[None],
        wide(t.inputs[rows, batch])[None],
        {n: wide(x[rows, batch])[None] for n, x in t.step_data.items()},
    )


def errors(at: Trajectory, rng: np.random.Generator, methods: Iterable[str] = METHODS) -> dict[str, float]:
    """The relative error of each derivative along random directions, at positions as `picked` gives them.

    Where differences cannot be trusted, at a kink or where a gate is so saturated that rounding is larger
    than what it lets through, they do not count; NaN is the answer when no direction counted.
    """
    # One direction each is enough: a wrong derivative agrees with a random one by chance only.
    v, u = rng.standard_normal((2, *at.before.shape))
    along_state = Slope(at, v)
    found: dict[str, float] = {}
    if "step_jacobian" in methods:
        found["step_jacobian"] = _jacobian_error(at, v, along_state)
    if "state_vjp" in methods:
        found["state_vjp"] = _state_error(at, u, v, along_state)
    if "params_vjp" in methods:
        found.update(_params_errors(at, u, rng))
    return found


class Slope:
    """The derivative of a step along a direction in state or parameters, by central differences."""

    def __init__(self, at: Trajectory, direction: Array | Params) -> None:
        self._start, self._direction = at, direction
        self._known: dict[float, Array] = {}

    def __call__(self, width: float) -> Array:
        """(..., m), with this much to both sides."""
        return np.asarray((self._at(width) - self._at(-width)) / (2 * width))

    @property
    def size(self) -> float:
        """The largest number that it has met."""
        met = (self._start.before, self._start.inputs, *self._known.values())
        return max(float(np.abs(x).max(initial=0.0)) for x in met)

    def bend(self, width: float) -> Array:
        """The slope to the right less that to the left: proportional to the width, unless there is a kink."""
        return np.asarray((self._at(width) - 2 * self._at(0.0) + self._at(-width)) / width)

    def _at(self, h: float) -> Array:
        if h not in self._known:
            self._known[h] = self._moved(h)
        return self._known[h]

    def _moved(self, h: float) -> Array:
        at, direction = self._start, self._direction
        params, state = at.params, at.before
        if isinstance(direction, dict):
            params = {n: p + h * direction[n] if n in direction else p for n, p in params.items()}
        else:
            state = state + h * direction
        with calling(at.cell, "step", params):
            return np.asarray(at.cell.step(params, state, at.inputs, np, **at.step_data))


def _jacobian_error(at: Trajectory, v: Array, slope: Slope) -> float:
    g = at.cell.jacobian_groups
    k = at.cell.state_size // g
    blocks = _made(at, "step_jacobian")
    _refuse_other_shape(at.cell, "step_jacobian()", blocks, (*v.shape[:-1], g, k, k))
    return _relative(np.einsum("...ij,...j->...i", dense_blocks(blocks), v), slope, lambda d: d)


def _state_error(at: Trajectory, u: Array, v: Array, slope: Slope) -> float:
    pulled = _made(at, "state_vjp", u)
    _refuse_other_shape(at.cell, "state_vjp()", pulled, v.shape)
    ours = np.sum(pulled * v, axis=-1, keepdims=True)
    return _relative(ours, slope, lambda d: np.sum(u * d, axis=-1, keepdims=True))


def _params_errors(at: Trajectory, u: Array, rng: np.random.Generator) -> dict[str, float]:
    # A contribution is summed over the batch: each position is a step of its own here.
    alone = Trajectory(
        at.cell,
        at.params,
        at.before.swapaxes(0, 1),
        at.inputs.swapaxes(0, 1),
        {n: x.swapaxes(0, 1) for n, x in at.step_data.items()},
    )
    pulled = _made(alone, "params_vjp", u.swapaxes(0, 1))
    if not isinstance(pulled, dict) or set(pulled) != set(at.params):
        given = sorted(map(str, pulled)) if isinstance(pulled, dict) else kind(pulled)
        raise DerivativeError(
            f"{at.cell!r}: params_vjp() gives {given} for the parameters {sorted(at.params)}"
        )
    found = {}
    for name, param in at.params.items():
        _refuse_other_shape(at.cell, f"params_vjp()[{name!r}]", pulled[name], (u.shape[1], *param.shape))
        d = rng.standard_normal(param.shape)
        axes = tuple(range(1, param.ndim + 1))
        ours = np.sum(pulled[name] * d, axis=axes)[:, None]
        slope = Slope(at, {name: d})
        found[f"params_vjp[{name!r}]"] = _relative(ours, slope, lambda d: np.sum(u * d, axis=-1).T)
    return found


def _made(at: Trajectory, method: str, *more: Array) -> Any:
    """What a derivative of the cell gives; what is wrong with a free one is so with the step."""
    with calling(at.cell, method if at.cell.analytic(method) else "step", at.params):
        return at.call(getattr(at.cell, method), *more)


def _refuse_other_shape(cell: Cell, what: str, value: Any, expected: tuple[int, ...]) -> None:
    if not isinstance(value, np.ndarray):
        raise DerivativeError(
            f"{cell!r}: {what} is {kind(value)}, where an array of shape {expected} is needed"
        )
    if value.shape != expected:
        raise DerivativeError(f"{cell!r}: {what} has shape {value.shape} where {expected} is needed")


def check(at: Trajectory, rng: np.random.Generator, methods: Iterable[str] = METHODS) -> list[str]:
    """See that derivatives are right at `picked` positions; gives those that could not be checked there.

    Raises
    ------
    DerivativeError
        One is wrong; says where to look.
    PluginError
        The cell raises an error.
    """
    cell, found = at.cell, errors(at, rng, methods)
    for method, size in found.items():
        if size > TOLERANCE:
            raise DerivativeError(
                f"{cell!r}: {method} differs from central differences of step() by {size:.1e}; "
                f"{_advice(cell, method)}"
            )
    return [method for method, size in found.items() if np.isnan(size)]


def check_unroll(taken: Trajectory, rng: np.random.Generator) -> None:
    """See that the steps that a cell takes in its own way, and its way back, are those of `step`.

    Raises
    ------
    DerivativeError
        They are others.
    """
    cell = taken.cell
    plain = Trajectory(cell, taken.params, taken.states, taken.inputs, taken.step_data)
    incoming, direct = rng.standard_normal((2, *taken.after.shape)).astype(taken.states.dtype)
    # Where the adjoints leave the range, nothing can be said.
    with np.errstate(all="ignore"), calling(cell, "unroll", taken.params):
        pairs = [("the states of unroll()", taken.after, plain.call(cell.step, np))]
        # Contributions are as large as all parameters at each step; two will do.
        ways = (
            ("gradient()", gradient_of, taken.steps),
            ("contributions()", contributions_of, taken.steps[-2:]),
        )
        for name, made, steps in ways:
            ours, theirs = (t[steps].pull(incoming[-1], direct[-len(steps) :]) for t in (taken, plain))
            # Either may have stopped.
            first = -min(len(adjoints_of(taken[steps], ours)), len(theirs.adjoints))
            pairs.append(("the adjoints of unroll().pull()", ours.adjoints[first:], theirs.adjoints[first:]))
            here = plain[steps[first + 1 :]]
            mine, expected = (made(here, shortened(x, here)) for x in (ours, theirs))
            pairs += [(f"{name}[{n!r}] of unroll().pull()", mine[n], g) for n, g in expected.items()]
        for what, a, b in pairs:
            apart = np.abs(a - b).max(initial=0.0) / (np.abs(b).max(initial=0.0) + 1e-6)
            if np.shape(a) != np.shape(b) or apart > _CLOSE[taken.states.itemsize]:
                raise DerivativeError(
                    f"{cell!r}: {what} differ by {apart:.1e} from those of single steps; "
                    f"{mend(cell, 'unroll')}"
                )


def check_second(at: Trajectory, rng: np.random.Generator) -> None:
    """See that the `bilinear_vjp` of a cell is that of `step` by autograd, at `picked` positions.

    Raises
    ------
    DerivativeError
        It is another one. Of a step that autograd cannot see nothing is said.
    """
    cell = at.cell
    left, right = rng.standard_normal((2, 1, *at.before.shape))
    try:
        free = autodiff.bilinear_vjp(cell.step, at.params, at.before, at.inputs, left, right, at.step_data)
    except TracingError:
        return
    with np.errstate(all="ignore"), calling(cell, "bilinear_vjp", at.params):
        params, states = at.call(cell.bilinear_vjp, left, right)
        pairs = {f"[0][{n!r}]": (params[n], p) for n, p in free[0].items()} | {"[1]": (states, free[1])}
        for what, (a, b) in pairs.items():
            apart = np.abs(a - b).max(initial=0.0) / (np.abs(b).max(initial=0.0) + 1e-6)
            if np.shape(a) != np.shape(b) or apart > TOLERANCE:
                raise DerivativeError(
                    f"{cell!r}: bilinear_vjp(){what} differs by {apart:.1e} from the derivative of left @ J "
                    f"@ right by autograd; {_advice(cell, 'bilinear_vjp')}"
                )


_trusted: defaultdict[str, Passed] = defaultdict(Passed)

twice_trusted = Passed()
"""Cells whose own second derivatives have been checked."""


programs: defaultdict[tuple[str, ...], WeakSet[Any]] = defaultdict(WeakSet)
"""What a library has compiled of steps, by the derivatives that have been checked of it."""


def trusted() -> Passed:
    """Cells whose first derivatives have been checked, with the library in force where they are free."""
    return _trusted[autodiff.provider().name]


def _relative(ours: Array, slope: Slope, seen: Callable[[Array], Array]) -> float:
    """The largest relative error (positions, n) of a derivative, by what is seen of a slope."""
    coarse, fine = seen(slope(_STEP)), seen(slope(_STEP / 4))
    scale = _length(coarse) + _length(ours) + 1e-6
    error, doubt = _length(ours - fine) / scale, _length(coarse - fine) / scale
    # Where the two disagree there is a kink between them, and neither is a derivative.
    smooth = doubt < _KINK
    if (smooth & (error > TOLERANCE)).any():
        error, doubt = _careful(ours, slope, seen)
        smooth = doubt < _KINK
    return float(error[smooth].max()) if smooth.any() else float("nan")


def _careful(ours: Array, slope: Slope, seen: Callable[[Array], Array]) -> tuple[Array, Array]:
    """The same errors, and the doubt in them, by the differences at each position that doubt least.

    Three widths after one another should agree, as far as rounding lets them, and no kink lie at the place
    itself. An error is what is left of it after the doubt.
    """
    slopes, bends = ([seen(f(width)) for width in _WIDTHS] for f in (slope, slope.bend))
    rounding = 8 * np.finfo(ours.dtype).eps * max(slope.size, 1.0)
    error, least = np.zeros(ours.shape[:-1]), np.full(ours.shape[:-1], np.inf)
    for i, width in enumerate(_WIDTHS[2:]):
        wide, middle, narrow = slopes[i : i + 3]
        kink = (_RATIO * bends[i + 2] - bends[i + 1]) / (_RATIO - 1)
        apart = np.maximum(_length(wide - middle), _length(middle - narrow)) + _length(kink)
        noise, scale = rounding / width, _length(middle) + _length(ours) + 1e-6
        # Of what swings within these widths, differences say nothing, however large the derivative is.
        doubt = np.where(apart < _KINK * _length(middle) + _MARGIN * noise, (apart + noise) / scale, np.inf)
        here = np.maximum(_length(ours - middle) / scale - _MARGIN * doubt, 0)
        better = doubt < least
        error, least = np.where(better, here, error), np.where(better, doubt, least)
    return error, _MARGIN * least


def _length(x: Array) -> Array:
    return np.asarray(np.sqrt(np.vecdot(x, x)))


def singular(cell: Cell, method: str) -> str:
    """What to do where a derivative is NaN or infinite at a finite state, as the end of a sentence."""
    free = (
        ""
        if cell.analytic(method) and cell.written(method) != "unit"
        else "; or a part of step() has no derivative there, such as xp.sqrt at 0 "
        "or an xp.exp that is infinite (a sigmoid that never is: 0.5 + 0.5 * xp.tanh(0.5 * z))"
    )
    return f"; use smaller weights or inputs, or dtype='float64'{free}"


def _advice(cell: Cell, method: str) -> str:
    name = method.split("[")[0]
    if cell.analytic(name) and cell.written(name) != "unit":
        return mend(cell, name)
    if cures := autodiff.advice(cell.step):
        return f"autograd cannot see all of step(){cures}"
    written = [m for n in ("step", "mix", "unit") if (m := getattr(cell, n, None)) is not None]
    names = {name for m in written for name in getattr(m, "__code__", _advice.__code__).co_names}
    if cut := sorted({"detach", "surrogate"} & names):
        return f"its step is cut by {cut[0]}(); if that is on purpose, say exact = False in the class"
    suspects = ", ".join(sorted({use.call for m in written for use in autodiff.uses(m)}))
    cause = "autograd's derivative of what it computes is not that of step()"
    if suspects:
        cause = f"autograd's derivative of one of these is not that of step(): {suspects}"
    if (g := cell.jacobian_groups) > 1:
        return f"its jacobian_groups are {g}, and a step that mixes units between groups has 1; or {cause}"
    return cause

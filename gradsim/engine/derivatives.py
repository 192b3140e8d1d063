"""Are the derivatives of a cell right? Central differences of `step` tell, in float64."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from gradsim.contracts.cell import Cell
from gradsim.contracts.trajectory import Trajectory
from gradsim.errors import DerivativeError, PluginError
from gradsim.numerics import autodiff
from gradsim.numerics.blocks import dense_blocks
from gradsim.types import Array, Params

METHODS = ("step_jacobian", "state_vjp", "params_vjp")
TOLERANCE = 1e-5
_STEP = 1e-5
_KINK = 1e-3


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

    Directions across a kink, where central differences of two widths disagree, do not count; NaN
    is the answer when no direction counted.
    """
    # One direction each is enough: a wrong derivative agrees with a random one by chance only.
    v, u = rng.standard_normal((2, *at.before.shape))
    along_state = _difference(at, v)
    found: dict[str, float] = {}
    if "step_jacobian" in methods:
        found["step_jacobian"] = _jacobian_error(at, v, along_state)
    if "state_vjp" in methods:
        found["state_vjp"] = _state_error(at, u, v, along_state)
    if "params_vjp" in methods:
        found.update(_params_errors(at, u, rng))
    return found


def _jacobian_error(at: Trajectory, v: Array, along: tuple[Array, Array]) -> float:
    g = at.cell.jacobian_groups
    k = at.cell.state_size // g
    blocks = at.call(at.cell.step_jacobian)
    _same_shape("step_jacobian", blocks, (*v.shape[:-1], g, k, k))
    return _relative(np.einsum("...ij,...j->...i", dense_blocks(blocks), v), *along)


def _state_error(at: Trajectory, u: Array, v: Array, along: tuple[Array, Array]) -> float:
    pulled = at.call(at.cell.state_vjp, u)
    _same_shape("state_vjp", pulled, v.shape)
    inner = (np.sum(u * d, axis=-1, keepdims=True) for d in along)
    return _relative(np.sum(pulled * v, axis=-1, keepdims=True), *inner)


def _params_errors(at: Trajectory, u: Array, rng: np.random.Generator) -> dict[str, float]:
    # A contribution is summed over the batch: each position is a step of its own here.
    alone = Trajectory(
        at.cell,
        at.params,
        at.before.swapaxes(0, 1),
        at.inputs.swapaxes(0, 1),
        {n: x.swapaxes(0, 1) for n, x in at.step_data.items()},
    )
    pulled = alone.call(at.cell.params_vjp, u.swapaxes(0, 1))
    if set(pulled) != set(at.params):
        raise DerivativeError(
            f"{at.cell!r}: params_vjp() gives {sorted(pulled)} for parameters {sorted(at.params)}"
        )
    found = {}
    for name, param in at.params.items():
        _same_shape(f"params_vjp()[{name!r}]", pulled[name], (u.shape[1], *param.shape))
        d = rng.standard_normal(param.shape)
        inner = (np.sum(u * x, axis=-1).T for x in _difference(at, {name: d}))
        axes = tuple(range(1, param.ndim + 1))
        found[f"params_vjp[{name!r}]"] = _relative(np.sum(pulled[name] * d, axis=axes)[:, None], *inner)
    return found


def check(at: Trajectory, rng: np.random.Generator, methods: Iterable[str] = METHODS) -> None:
    """Raise DerivativeError if a derivative is wrong at `picked` positions, and say where to look."""
    cell = at.cell
    try:
        found = errors(at, rng, methods)
    except PluginError as error:
        raise type(error)(f"{cell!r}: {error}") from error
    for method, size in found.items():
        if size > TOLERANCE:
            raise DerivativeError(
                f"{cell!r}: {method} differs from central differences of step() by {size:.1e}; "
                f"{_advice(cell, method)}"
            )


def _difference(at: Trajectory, direction: Array | Params) -> tuple[Array, Array]:
    """Central differences of step along a direction in state or parameters, at two widths."""

    def moved(h: float) -> Array:
        params, state = at.params, at.before
        if isinstance(direction, dict):
            params = {n: p + h * direction[n] if n in direction else p for n, p in params.items()}
        else:
            state = state + h * direction
        return np.asarray(at.cell.step(params, state, at.inputs, np, **at.step_data))

    def width(h: float) -> Array:
        return (moved(h) - moved(-h)) / (2 * h)

    # Where the two disagree there is a kink between them, and neither is a derivative.
    return width(_STEP), width(_STEP / 4)


def _relative(ours: Array, coarse: Array, fine: Array) -> float:
    scale = np.linalg.norm(coarse, axis=-1) + np.linalg.norm(ours, axis=-1) + 1e-6
    smooth = np.linalg.norm(coarse - fine, axis=-1) < _KINK * scale
    if not smooth.any():
        return float("nan")
    return float((np.linalg.norm(ours - fine, axis=-1) / scale)[smooth].max())


def _same_shape(method: str, value: Array, expected: tuple[int, ...]) -> None:
    if value.shape != expected:
        raise DerivativeError(f"{method} has shape {value.shape} where {expected} is needed")


def _advice(cell: Cell, method: str) -> str:
    name = method.split("[")[0]
    if cell.analytic(name):
        return f"mend {type(cell).__name__}.{name}, or delete it to get the free derivative"
    if cures := autodiff.advice(cell.step):
        return f"autograd cannot see all of step(){cures}"
    suspects = ", ".join(sorted({use.call for use in autodiff.uses(cell.step)})) or "no xp function found"
    cause = f"autograd's derivative of one of these is not that of step(): {suspects}"
    if (g := cell.jacobian_groups) > 1:
        return f"its jacobian_groups are {g}, and a step that mixes units between groups has 1; or {cause}"
    return cause

"""Are the derivatives of a cell right? Central differences of `step` tell, in float64."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np

from gradsim.contracts.cell import Cell, dense_blocks
from gradsim.errors import DerivativeError, PluginError
from gradsim.types import Array, Params, StepData

METHODS = ("step_jacobian", "state_vjp", "params_vjp")
TOLERANCE = 1e-5
_STEP = 1e-5
_KINK = 1e-3


@dataclass(frozen=True)
class Point:
    """Where derivatives are checked: positions (n, ...) of a run, in float64."""

    params: Params
    state: Array
    inputs: Array
    step_data: dict[str, Array]

    @classmethod
    def of(cls, params: Params, state: Array, inputs: Array, step_data: StepData) -> Point:
        """The same in float64; integer data stay as they are."""
        widened = {n: x.astype(np.float64) if x.dtype.kind == "f" else x for n, x in step_data.items()}
        return cls(
            {n: p.astype(np.float64) for n, p in params.items()},
            state.astype(np.float64),
            inputs.astype(np.float64),
            widened,
        )


def errors(
    cell: Cell, point: Point, rng: np.random.Generator, methods: Iterable[str] = METHODS
) -> dict[str, float]:
    """The relative error of each derivative along random directions.

    Directions across a kink, where central differences of two widths disagree, do not count; NaN
    is the answer when no direction counted.
    """
    v, u = rng.standard_normal((2, *point.state.shape))
    along_state = _difference(cell, point, v)
    found: dict[str, float] = {}
    if "step_jacobian" in methods:
        found["step_jacobian"] = _jacobian_error(cell, point, v, along_state)
    if "state_vjp" in methods:
        found["state_vjp"] = _state_error(cell, point, u, v, along_state)
    if "params_vjp" in methods:
        found.update(_params_errors(cell, point, u, rng))
    return found


def _jacobian_error(cell: Cell, point: Point, v: Array, along: tuple[Array, Array]) -> float:
    g = cell.jacobian_groups
    k = cell.state_size // g
    blocks = cell.step_jacobian(point.params, point.state, point.inputs, **point.step_data)
    _same_shape("step_jacobian", blocks, (len(v), g, k, k))
    return _relative(np.einsum("nij,nj->ni", dense_blocks(blocks), v), *along)


def _state_error(cell: Cell, point: Point, u: Array, v: Array, along: tuple[Array, Array]) -> float:
    pulled = cell.state_vjp(point.params, point.state, point.inputs, u, **point.step_data)
    _same_shape("state_vjp", pulled, v.shape)
    inner = (np.sum(u * d, axis=-1, keepdims=True) for d in along)
    return _relative(np.sum(pulled * v, axis=-1, keepdims=True), *inner)


def _params_errors(cell: Cell, point: Point, u: Array, rng: np.random.Generator) -> dict[str, float]:
    pulled = cell.params_vjp(
        point.params,
        point.state[:, None],
        point.inputs[:, None],
        u[:, None],
        **{n: x[:, None] for n, x in point.step_data.items()},
    )
    if set(pulled) != set(point.params):
        raise DerivativeError(
            f"{cell!r}: params_vjp() gives {sorted(pulled)} for parameters {sorted(point.params)}"
        )
    found = {}
    for name, param in point.params.items():
        _same_shape(f"params_vjp()[{name!r}]", pulled[name], (len(u), *param.shape))
        d = rng.standard_normal(param.shape)
        inner = (np.sum(u * x, axis=-1, keepdims=True) for x in _difference(cell, point, {name: d}))
        axes = tuple(range(1, param.ndim + 1))
        found[f"params_vjp[{name!r}]"] = _relative(np.sum(pulled[name] * d, axis=axes)[:, None], *inner)
    return found


def check(cell: Cell, point: Point, rng: np.random.Generator, methods: Iterable[str] = METHODS) -> None:
    """Raise DerivativeError if a derivative is wrong, and say where to look."""
    try:
        found = errors(cell, point, rng, methods)
    except PluginError as error:
        raise type(error)(f"{cell!r}: {error}{_outside(cell)}") from error
    for method, size in found.items():
        if size > TOLERANCE:
            raise DerivativeError(
                f"{cell!r}: {method} differs from central differences of step() by {size:.1e}; "
                f"{_advice(cell, method)}"
            )


def _difference(cell: Cell, point: Point, direction: Array | Params) -> tuple[Array, Array]:
    """Central differences of step along a direction in state or parameters, at two widths."""

    def moved(h: float) -> Array:
        params, state = point.params, point.state
        if isinstance(direction, dict):
            params = {n: p + h * direction[n] if n in direction else p for n, p in params.items()}
        else:
            state = state + h * direction
        return np.asarray(cell.step(params, state, point.inputs, np, **point.step_data))

    def width(h: float) -> Array:
        return (moved(h) - moved(-h)) / (2 * h)

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
    if outside := _outside(cell):
        return f"autograd cannot see all of step(){outside}"
    used = sorted({use for use, _ in numpy_uses(cell)})
    suspects = ", ".join(used) or "no xp function found"
    return f"autograd's derivative of one of these is not that of step(): {suspects}"


def _outside(cell: Cell) -> str:
    """Where `step` calls numpy or math instead of xp, as the end of a sentence."""
    uses = [f"{use} (line {line})" for use, line in numpy_uses(cell) if not use.startswith("xp.")]
    return f"; use xp in place of {', '.join(uses)}" if uses else ""


def numpy_uses(cell: Cell) -> list[tuple[str, int]]:
    """Where `step`, of this cell and the cells inside it, calls xp, numpy or math: (call, line)."""
    found: list[tuple[str, int]] = []
    try:
        source = textwrap.dedent(inspect.getsource(type(cell).step))
    except (OSError, TypeError):
        source = ""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Attribute(value=ast.Name(id="np" | "numpy" | "math" | "xp")):
                found.append((ast.unparse(node), node.lineno))
    inner = [getattr(cell, f.name) for f in fields(cell)]  # type: ignore[arg-type]
    return found + [use for c in inner if isinstance(c, Cell) for use in numpy_uses(c)]

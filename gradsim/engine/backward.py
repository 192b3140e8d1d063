"""The backward pass: adjoints at every time, contributions at every step, the gradient.

Adjoints are kept as mantissa and exponent, so an exploding or vanishing run stays exact:
a_{t-1} = a_t J_t + q_{t-1}, with q_t = dL_t/ds_t the direct derivative of the loss at time t.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from gradsim.cell import Cell
from gradsim.engine.unroll import Trajectory
from gradsim.errors import NonFiniteError
from gradsim.recorder import Adjoints, Contributions
from gradsim.scaled import Scaled, shift_of
from gradsim.types import Array, Params

Pull = Callable[[int, Array], Array]
"""pull(t, a) = a @ J_t for adjoints a (batch, m) of the state at time t."""

Change = Callable[[int, Array], Array]
"""What mitigations do to the adjoint (batch, m) at one time."""

KEEP = {4: 24, 8: 200}
"""Sizes within 2**-KEEP..2**KEEP (by bytes of the dtype) need no exponent; squares stay in range."""

_CONTRIBUTION_BYTES = 64 * 2**20


def pull_with_cell(cell: Cell, params: Params, trajectory: Trajectory) -> Pull:
    """The raw backward step, from the cell's own vjp."""

    def pull(t: int, adjoint: Array) -> Array:
        state, inputs, data = trajectory.at(range(t, t + 1))
        here = {n: x[0] for n, x in data.items()}
        return np.asarray(cell.state_vjp(params, state[0], inputs[0], adjoint, **here))

    return pull


def pull_with_jacobians(blocks: Array) -> Pull:
    """The backward step through given step Jacobians (steps, batch, g, k, k)."""
    _, batch, groups, k, _ = blocks.shape

    def pull(t: int, adjoint: Array) -> Array:
        rows = adjoint.reshape(batch, k, groups).swapaxes(1, 2)[..., None, :]
        return np.asarray(np.matmul(rows, blocks[t - 1])[..., 0, :].swapaxes(1, 2).reshape(batch, -1))

    return pull


def backward(pull: Pull, direct: Array, reach: Array | None = None, change: Change | None = None) -> Adjoints:
    """All adjoints of a run.

    Parameters
    ----------
    direct
        q_t, shape (time 0..T, batch, m).
    reach
        Shape (T,): the earliest state that the loss at each step reaches. Losses that reach
        differently far travel in windows of their own.
    change
        Applied to the adjoint of each window at each time.
    """
    adjoint = np.zeros_like(direct)
    exponent = np.zeros((*direct.shape[:2], 1), dtype=np.int32)
    factor = np.ones(direct.shape[:2])
    reach_of = np.zeros(len(direct), dtype=np.int64) if reach is None else np.concatenate([[0], reach])
    windows: dict[int, Scaled] = {}
    with np.errstate(all="ignore"):
        for t in range(len(direct) - 1, -1, -1):
            windows = {r: pulled for r, pulled in windows.items() if r <= t}
            if (r := int(reach_of[t])) <= t and (direct[t].any() or not windows):
                windows[r] = _plus(windows.get(r), direct[t])
            if change is not None:
                before = _total(windows, direct[t])
                windows = {r: _changed(change, t, w) for r, w in windows.items()}
                factor[t] = _ratio(_total(windows, direct[t]), before)
            total = _total(windows, direct[t])
            adjoint[t], exponent[t] = total.mantissa, total.exponent
            if t:
                windows = {r: _ranged(pull(t, w.mantissa), w.exponent) for r, w in windows.items()}
    return Adjoints(Scaled(adjoint, exponent), factor)


def _total(windows: dict[int, Scaled], like: Array) -> Scaled:
    total = Scaled(np.zeros_like(like), np.zeros((len(like), 1), dtype=np.int32))
    for i, window in enumerate(windows.values()):
        total = window if i == 0 else _sum(total, window)
    return total


def _plus(window: Scaled | None, direct: Array) -> Scaled:
    fresh = _ranged(direct, np.zeros((len(direct), 1), dtype=np.int32))
    return fresh if window is None else _sum(window, fresh)


def _sum(a: Scaled, b: Scaled) -> Scaled:
    """A + b; a zero vector does not hold down the exponent of the other."""
    lowest = np.iinfo(np.int32).min // 4
    ea, eb = (np.where(x.mantissa.any(axis=-1, keepdims=True), x.exponent, lowest) for x in (a, b))
    top = np.maximum(ea, eb)
    parts = [np.ldexp(x.mantissa, np.maximum(e - top, -4000)) for x, e in ((a, ea), (b, eb))]
    return _ranged(parts[0] + parts[1], np.where(top == lowest, 0, top).astype(np.int32))


def _ranged(mantissa: Array, exponent: Array) -> Scaled:
    shift = shift_of(np.abs(mantissa).max(axis=-1, keepdims=True), KEEP[mantissa.itemsize])
    if not shift.any():
        return Scaled(mantissa, exponent)
    return Scaled(np.ldexp(mantissa, -shift), exponent + shift)


def _changed(change: Change, t: int, window: Scaled) -> Scaled:
    value = np.ldexp(window.mantissa, window.exponent)
    if not np.isfinite(value).all():
        raise NonFiniteError(
            f"the adjoint left the range of {value.dtype} at time {t}, before the mitigations of the "
            "backward step; clip harder, truncate, or use dtype='float64'"
        )
    return _ranged(change(t, value), np.zeros_like(window.exponent))


def _ratio(after: Scaled, before: Scaled) -> Array:
    sizes = [np.linalg.norm(s.mantissa.astype(np.float64), axis=-1) for s in (after, before)]
    shifted = np.ldexp(sizes[0], (after.exponent - before.exponent)[:, 0])
    return np.asarray(np.divide(shifted, sizes[1], out=np.ones_like(shifted), where=sizes[1] > 0))


def contributions(
    cell: Cell, params: Params, trajectory: Trajectory, adjoint: Scaled
) -> Iterator[Contributions]:
    """What enters dL/dparams at each step, block of steps by block of steps."""
    length = contribution_length({n: p.shape for n, p in params.items()}, adjoint.mantissa.dtype)
    for start in range(1, trajectory.steps + 1, length):
        steps = range(start, min(start + length, trajectory.steps + 1))
        cotangent, exponent = _common(adjoint[steps.start : steps.stop])
        state, inputs, data = trajectory.at(steps)
        parts = cell.params_vjp(params, state, inputs, cotangent, **data)
        yield Contributions(
            steps,
            {
                n: Scaled(p, exponent.reshape(-1, *(1,) * (p.ndim - 1)))
                for n, p in ((n, parts[n]) for n in params)
            },
        )


def contribution_length(shapes: Mapping[str, tuple[int, ...]], dtype: np.dtype) -> int:
    """Steps whose contributions are made in one call."""
    size = sum(math.prod(shape) for shape in shapes.values()) * dtype.itemsize
    return max(1, _CONTRIBUTION_BYTES // max(size, 1))


def gradient(cell: Cell, params: Params, trajectory: Trajectory, adjoint: Scaled) -> dict[str, Scaled]:
    """dL/dparams, the sum of all contributions, in one call."""
    flat = Scaled(*(x[1:].reshape(1, -1, x.shape[-1]) for x in (adjoint.mantissa, adjoint.exponent)))
    cotangent, exponent = _common(flat)
    state, inputs, data = trajectory.at(range(1, trajectory.steps + 1))

    def rows(x: Array) -> Array:
        return x.reshape(1, -1, *x.shape[2:])

    named = {n: rows(x) for n, x in data.items()}
    parts = cell.params_vjp(params, rows(state), rows(inputs), cotangent, **named)
    return {n: Scaled(parts[n][0], np.asarray(exponent[0])) for n in params}


def _common(adjoint: Scaled) -> tuple[Array, Array]:
    """Mantissas (n, batch, m) that share one exponent (n,) over the batch."""
    alive = adjoint.mantissa.any(axis=-1, keepdims=True)
    lowest = np.iinfo(np.int32).min // 4
    top = np.where(alive, adjoint.exponent, lowest).max(axis=(1, 2))
    top = np.where(top == lowest, 0, top).astype(np.int32)
    down = np.maximum(adjoint.exponent - top[:, None, None], -4000)
    with np.errstate(under="ignore"):
        return np.ldexp(adjoint.mantissa, np.where(alive, down, 0)), top

"""The backward pass: adjoints at every time, contributions at every step, the gradient.

Adjoints are kept as mantissa and exponent, so an exploding or vanishing run stays exact:
a_{t-1} = a_t J_t + q_{t-1}, with q_t = dL_t/ds_t the direct derivative of the loss at time t.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from gradsim.errors import NonFiniteError
from gradsim.scaled import Scaled, shift_of
from gradsim.types import Array, Params
from gradsim.unrolled import Pulled, Unrolled

Change = Callable[[int, Array], Array]
"""What mitigations do to the adjoint (batch, m) at one time."""

KEEP = {4: 24, 8: 200}
"""Sizes within 2**-KEEP..2**KEEP (by bytes of the dtype) need no exponent; squares stay in range."""

_STRETCH = {4: 60, 8: 480}
"""How far sizes may move within a granule that is pulled back in one go, in powers of two."""

_LOWEST = np.iinfo(np.int32).min // 4


@dataclass(frozen=True, eq=False)
class ThroughJacobians(Unrolled):
    """Steps whose adjoints are carried by given blocks (steps, batch, g, k, k)."""

    blocks: Array

    def pull_one(self, t: int, adjoint: Array) -> Array:
        """`adjoint` (batch, m) of `states[t + 1]` times the step Jacobian."""
        _, batch, groups, k, _ = self.blocks.shape
        rows = adjoint.reshape(batch, k, groups).swapaxes(1, 2)[..., None, :]
        return np.asarray(np.matmul(rows, self.blocks[t])[..., 0, :].swapaxes(1, 2).reshape(batch, -1))


@dataclass(frozen=True)
class Stretch:
    """Adjoints (n, batch, m) at the times after some steps, and their way into the gradient.

    `factor` (n, batch): size after the mitigations of the backward step over size before. `pulled`:
    the same adjoints over 2**`exponent`, if the granule could be pulled back in one go.
    """

    taken: Unrolled
    adjoint: Scaled
    factor: Array
    pulled: Pulled | None = None
    exponent: int = 0

    def after(self, adjoint: Scaled, factor: Array) -> tuple[Scaled, Array]:
        """Adjoints and factors with those of the time before in front."""
        both = (
            np.concatenate((x[None], y)) for x, y in zip(_fields(adjoint), _fields(self.adjoint), strict=True)
        )
        return Scaled(*both), np.concatenate((factor[None], self.factor))

    def contributions(self) -> dict[str, Scaled]:
        """What enters dL/dparams at each step: mantissas (n, *param), exponents (n, 1...)."""
        if self.pulled is not None:
            parts = self.pulled.contributions()
            exponent = np.full(len(self.factor), self.exponent, dtype=np.int32)
        else:
            cotangent, exponent = _common(self.adjoint)
            s = self.taken
            parts = s.cell.params_vjp(s.params, s.states[:-1], s.inputs, cotangent, **s.step_data)
        return {
            n: Scaled(parts[n], exponent.reshape(-1, *(1,) * (parts[n].ndim - 1))) for n in self.taken.params
        }

    def gradient(self) -> dict[str, Scaled]:
        """The sum of the contributions."""
        if self.pulled is not None:
            parts, exponent = self.pulled.gradient(), np.int32(self.exponent)
        else:
            flat = Scaled(
                *(x.reshape(1, -1, x.shape[-1]) for x in (self.adjoint.mantissa, self.adjoint.exponent))
            )
            cotangent, exponents = _common(flat)
            s, exponent = self.taken, exponents[0]
            data = {n: _flat(x) for n, x in s.step_data.items()}
            parts = s.cell.params_vjp(s.params, _flat(s.states[:-1]), _flat(s.inputs), cotangent[0], **data)
        return {n: Scaled(parts[n], np.asarray(exponent)) for n in self.taken.params}


class Return:
    """The adjoints on their way from the last time back.

    Losses that reach differently far travel in windows of their own. `change` is applied to the
    adjoint of each window at each time.
    """

    def __init__(self, batch: int, size: int, dtype: np.dtype, change: Change | None = None) -> None:
        self.change = change
        self._none = Scaled(np.zeros((batch, size), dtype=dtype), np.zeros((batch, 1), dtype=np.int32))
        self._windows: dict[int, Scaled] = {}

    def through(self, steps: range, taken: Unrolled, direct: Array, reach: Array | None = None) -> Stretch:
        """Carry the adjoints back through some steps.

        Parameters
        ----------
        direct
            q, shape (step, batch, m), at the times after these steps.
        reach
            Shape (step,): the earliest state that the loss at each step reaches; None is all the way.
        """
        whole = reach is None or not reach.any()
        if self.change is None and whole and self._windows.keys() <= {0}:
            stretch = self._in_one_go(taken, direct)
            if stretch is not None:
                return stretch
        return self._step_by_step(steps, taken, direct, np.zeros(len(steps)) if reach is None else reach)

    def start(self, direct: Array) -> tuple[Scaled, Array]:
        """The adjoint (batch, m) of the state at time 0, and the factor (batch,) of the mitigations."""
        return self._arrive(0, direct, 0)

    def _in_one_go(self, taken: Unrolled, direct: Array) -> Stretch | None:
        """The fast way, for what moves little enough; None if it does not."""
        room = _STRETCH[direct.itemsize]
        last = _plus(self._windows.get(0), direct[-1])
        earlier = np.concatenate((np.zeros_like(direct[:1]), direct[:-1]))
        alive = np.asarray(last.mantissa.any(axis=-1, keepdims=True))
        exponent = int(last.exponent[alive].max()) if alive.any() else 0
        if earlier.any():
            largest = int(np.frexp(np.abs(earlier).max())[1])
            exponent = max(exponent, largest) if exponent or abs(largest) > room // 2 else 0
        with np.errstate(all="ignore"):
            down = np.clip(last.exponent - exponent, -4000, 4000)
            incoming = np.ldexp(last.mantissa, down) if down.any() else last.mantissa
            scaled = np.ldexp(earlier, -exponent) if exponent else earlier
            pulled = taken.pull(incoming, scaled)
        adjoints = np.concatenate((pulled.adjoints, incoming[None]))
        sizes = np.abs(adjoints).max(axis=-1)
        # A loss that has come in must not have vanished from sight, here or before.
        entered = np.concatenate((direct[:-1].any(axis=-1), alive[None, :, 0]))
        present = np.logical_or.accumulate(np.concatenate((entered[:1], entered))[::-1])[::-1]
        if not (sizes.max() < 2.0**room and (sizes >= 2.0**-room)[present].all()):
            return None
        exponents = np.full((len(adjoints), len(last.exponent), 1), exponent, dtype=np.int32)
        self._windows = {0: _ranged(adjoints[0], exponents[0])}
        adjoint = Scaled(adjoints[1:], exponents[1:])
        return Stretch(taken, adjoint, np.ones(sizes[1:].shape), pulled, exponent)

    def _step_by_step(self, steps: range, taken: Unrolled, direct: Array, reach: Array) -> Stretch:
        adjoint = np.empty_like(direct)
        exponent = np.empty((*direct.shape[:2], 1), dtype=np.int32)
        factor = np.empty(direct.shape[:2])
        with np.errstate(all="ignore"):
            for i in range(len(steps) - 1, -1, -1):
                total, factor[i] = self._arrive(steps[i], direct[i], int(reach[i]))
                adjoint[i], exponent[i] = total.mantissa, total.exponent
                self._windows = {
                    r: _ranged(taken.pull_one(i, w.mantissa), w.exponent) for r, w in self._windows.items()
                }
        return Stretch(taken, Scaled(adjoint, exponent), factor)

    def _arrive(self, time: int, direct: Array, reach: int) -> tuple[Scaled, Array]:
        """Add the loss of this time, let the mitigations act; the adjoint, and their factor (batch,)."""
        windows = {r: w for r, w in self._windows.items() if r <= time}
        if reach <= time and direct.any():
            windows[reach] = _plus(windows.get(reach), direct)
        factor = np.ones(len(direct))
        if self.change is not None:
            windows = windows or {reach: self._none}
            before = self._sum(windows.values())
            windows = {r: _changed(self.change, time, w) for r, w in windows.items()}
            factor = _ratio(self._sum(windows.values()), before)
        self._windows = windows
        return self._sum(windows.values()), factor

    def _sum(self, parts: Iterable[Scaled]) -> Scaled:
        total = self._none
        for i, part in enumerate(parts):
            total = part if i == 0 else add(total, part)
        return total


class GradientSum:
    """Adds up gradients whose exponents may differ: {name: mantissa (*param), exponent ()}."""

    def __init__(self) -> None:
        self._total: dict[str, Scaled] = {}

    def add(self, parts: dict[str, Scaled]) -> None:
        """Add the part of some steps."""
        for name, part in parts.items():
            total = self._total.get(name)
            self._total[name] = part if total is None else _added(total, part)

    def values(self) -> Params:
        """The sum; an element that leaves the range of the dtype is NaN."""
        return {n: g.value for n, g in self._total.items()}


def _added(a: Scaled, b: Scaled) -> Scaled:
    if a.exponent == b.exponent:
        return Scaled(a.mantissa + b.mantissa, a.exponent)
    (high, low) = (a, b) if (a.exponent > b.exponent and a.mantissa.any()) or not b.mantissa.any() else (b, a)
    with np.errstate(all="ignore"):
        moved = np.ldexp(low.mantissa, np.clip(low.exponent - high.exponent, -4000, 4000))
        return Scaled(high.mantissa + moved, high.exponent)


def add(a: Scaled, b: Scaled) -> Scaled:
    """A + b, with one exponent for each vector; a zero vector does not hold down that of the other."""
    ea, eb = (np.where(x.mantissa.any(axis=-1, keepdims=True), x.exponent, _LOWEST) for x in (a, b))
    top = np.maximum(ea, eb)
    parts = [np.ldexp(x.mantissa, np.maximum(e - top, -4000)) for x, e in ((a, ea), (b, eb))]
    return _ranged(parts[0] + parts[1], np.where(top == _LOWEST, 0, top).astype(np.int32))


def _plus(window: Scaled | None, direct: Array) -> Scaled:
    fresh = _ranged(direct, np.zeros((len(direct), 1), dtype=np.int32))
    if window is None:
        return fresh
    return add(window, fresh) if direct.any() else window


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


def _fields(scaled: Scaled) -> tuple[Array, Array]:
    return scaled.mantissa, scaled.exponent


def _flat(x: Array) -> Array:
    return x.reshape(-1, *x.shape[2:])


def _common(adjoint: Scaled) -> tuple[Array, Array]:
    """Mantissas (n, batch, m) that share one exponent (n,) over the batch."""
    alive = adjoint.mantissa.any(axis=-1, keepdims=True)
    top = np.where(alive, adjoint.exponent, _LOWEST).max(axis=(1, 2))
    top = np.where(top == _LOWEST, 0, top).astype(np.int32)
    down = np.maximum(adjoint.exponent - top[:, None, None], -4000)
    with np.errstate(under="ignore"):
        return np.ldexp(adjoint.mantissa, np.where(alive, down, 0)), top

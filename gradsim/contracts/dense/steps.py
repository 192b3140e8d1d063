"""A block of steps of a cell with dense weights, and the way back through it.

Forward, the input's part of all sums is one matrix product, and the sums are kept; backward, the slopes of
the units are had for many steps at once, and a step is elementwise work and one product with the weights.
The cotangents of the sums are kept in turn, and the gradient is one product of them with what the weights
multiplied.

Threads take some rows of the batch each, through all steps, in compiled kernels or in NumPy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np

from gradsim.contracts.dense.gradient import Gradient
from gradsim.contracts.dense.kernels import compiled
from gradsim.contracts.dense.slopes import SlopesByStep, slopes_at, steps_at_once
from gradsim.contracts.dense.weights import Term, Weights, add_terms, room, slices, weights_of
from gradsim.contracts.trajectory import Parallel, Trajectory, pulled_back
from gradsim.machine import accelerator
from gradsim.types import Array, Params

if TYPE_CHECKING:
    from gradsim.contracts.dense.cell import Dense

_NUMPY_NUMBERS = 8192
"""Sums that one call of NumPy should have at least, so that calling is not the cost."""

_COMPILED_PRODUCTS = 2**23
"""Multiplications that one job should have at least, so that to wake a thread for it is not the cost."""

_CONTRIBUTION_STEPS = 16
"""Steps whose contributions are one job."""


def compiles(cell: Dense) -> bool:
    """Whether the passes of a cell are compiled."""
    return cell.kernel is not None and accelerator.enabled()


@dataclass(frozen=True, eq=False)
class DenseSteps(Trajectory):
    """Steps that have been taken; `saved` (steps, batch, saved_size) are the sums, or what a kernel left."""

    by_step = ("saved",)

    cell: Dense
    saved: Array
    parallel: Parallel

    @cached_property
    def weights(self) -> Weights:
        """Those of the cell."""
        return weights_of(self.cell, self.params)

    @property
    def size(self) -> int:
        """The length n of the block h of the state."""
        return self.cell.units

    def take(self) -> None:
        """Fill `states` and `saved` from the first state on."""
        if compiles(self.cell):
            arrays = np.ascontiguousarray(self.inputs), *self.weights.forward, self.states, self.saved
            self._split_compiled("forward", arrays)
        else:
            weight = np.ascontiguousarray(self.weights.state.T)
            self._split(self._numpy_rows, partial(self._take_rows, weight))

    def pull(self, incoming: Array, direct: Array) -> PulledDense:
        """See `Trajectory.pull`."""
        w, adjoints = self.weights, np.empty_like(self.states)
        adjoints[-1] = incoming
        d = np.empty((*self.inputs.shape[:2], len(w.bias)), dtype=self.states.dtype)
        ends = np.zeros(self.states.shape[1], dtype=np.intp)
        if compiles(self.cell):
            given = self.states, self.saved, w.backward, np.ascontiguousarray(direct)
            self._split_compiled("backward", (*given, adjoints, d, ends))
        else:
            self._split(self._numpy_rows, partial(self._pull_rows, direct, adjoints, d, ends))
        # Some rows of the batch may have gone on where others have left their range.
        first = int(ends.max())
        return PulledDense(self[self.steps[first:]] if first else self, adjoints[first:], d[first:])

    def contributions(self, adjoints: Array) -> Params:
        """See `Trajectory.contributions`."""
        return self._made_of(adjoints).contributions()

    def gradient(self, adjoints: Array) -> Params:
        """See `Trajectory.gradient`."""
        return self._made_of(adjoints).gradient()

    def _made_of(self, adjoints: Array) -> PulledDense:
        """What is made of adjoints after each step, wherever they come from."""
        cell, (steps, batch, _) = self.cell, adjoints.shape
        d = np.empty((steps, batch, len(self.weights.bias)), dtype=adjoints.dtype)
        beside = np.zeros_like(adjoints)
        for at in slices(steps, steps_at_once(cell, batch, adjoints.dtype)):
            data = {n: x[at] for n, x in self.step_data.items()}
            slopes = slopes_at(cell, self._sums[at], self.before[at], data)
            slopes.pull(cell.parted(adjoints[at]), cell.parted(d[at]), cell.parted(beside[at]))
        return PulledDense(self, adjoints, d)

    def pull_one(self, row: int, adjoint: Array) -> Array:
        """See `Trajectory.pull_one`."""
        w, parted = self.weights, self.cell.parted
        d, beside = np.empty((len(adjoint), len(w.bias)), dtype=adjoint.dtype), np.zeros_like(adjoint)
        self._slopes.pull(row, parted(adjoint), parted(d), parted(beside))
        beside[:, : self.size] += d[:, w.column :] @ w.state
        return beside

    @cached_property
    def _slopes(self) -> SlopesByStep:
        return self._slopes_of(slice(None))

    def _slopes_of(self, rows: slice) -> SlopesByStep:
        data = {n: x[:, rows] for n, x in self.step_data.items()}
        return SlopesByStep(self.cell, self._sums[:, rows], self.before[:, rows], data)

    @cached_property
    def _sums(self) -> Array:
        if compiles(self.cell):  # whose kernel keeps something else
            return self.weights.sums(self.inputs, self.before[..., : self.size])
        return self.saved

    def _split_compiled(self, way: str, arrays: tuple[Array, ...]) -> None:
        run = compiled(self.cell.kernel, way, self.states.dtype)
        more = self.cell.kernel_options
        self._split(self._compiled_rows, lambda part: run(*arrays, part.start, part.stop, *more))

    @property
    def _compiled_rows(self) -> int:
        """More are faster, and leave fewer jobs; tiles have 8 or 4."""
        batch, product = self.states.shape[1], self.weights.input.size + self.weights.state.size
        rows = 4 if batch < 16 else 8
        while rows < batch and rows * len(self.inputs) * product < _COMPILED_PRODUCTS:
            rows *= 2
        return rows

    @property
    def _numpy_rows(self) -> int:
        return max(16, _NUMPY_NUMBERS // len(self.weights.bias))

    def _split(self, size: int, job: Callable[[slice], None]) -> None:
        self.parallel([partial(job, rows) for rows in slices(self.states.shape[1], size)])

    def _take_rows(self, weight: Array, rows: slice) -> None:
        w, cell, states, saved = self.weights, self.cell, self.states[:, rows], self.saved[:, rows]
        np.matmul(self.inputs[:, rows], w.input.T, out=saved)
        saved += w.bias
        names, own = list(self.step_data), (x[:, rows] for x in self.step_data.values())
        data = ({n: x for n, x in zip(names, here, strict=True)} for here in zip(*own, strict=True))
        along = (
            saved[..., w.column :],
            states[:-1, :, : self.size],
            *(zip(*cell.parted(x), strict=True) for x in (_locked(saved), _locked(states[:-1]), states[1:])),
        )
        for onto, h, sums, old, new in zip(*along, strict=True):
            onto += h @ weight
            made = cell.unit(sums, old, np, **next(data, {}))
            for block, x in zip(new, made if isinstance(made, tuple | list) else (made,), strict=True):
                block[...] = x

    def _pull_rows(self, direct: Array, adjoints: Array, cotangents: Array, ends: Array, rows: slice) -> None:
        w, cell, slopes = self.weights, self.cell, self._slopes_of(rows)
        here, added, to_sums = adjoints[:, rows], direct[:, rows], cotangents[:, rows]
        blocks, d = (list(cell.parted(x).swapaxes(0, 1)) for x in (here, to_sums))
        h, from_h = here[..., : self.size], to_sums[..., w.column :]

        def pull(t: int) -> None:
            here[t] = added[t]
            slopes.pull(t, blocks[t + 1], d[t], blocks[t])
            h[t] += from_h[t] @ w.state

        ends[rows] = pulled_back(adjoints[:, rows], pull)


def _locked(x: Array) -> Array:
    """The same numbers, which a unit may not change."""
    locked = x.view()
    locked.flags.writeable = False
    return locked


@dataclass(frozen=True, eq=False)
class PulledDense:
    """Adjoints (steps + 1, batch, m) of states, and cotangents of all sums (steps, batch, G)."""

    steps: DenseSteps
    adjoints: Array
    cotangents: Array

    def contributions(self) -> Params:
        """See `Pulled`."""
        s, terms = self.steps, self.steps.weights.terms
        found = room(s.params, terms, self.cotangents.dtype, len(s.inputs))

        def job(steps: slice, term: Term) -> None:
            factors = {n: f[steps] for n, f in self._factors.items()}
            add_terms([term], self.cotangents[steps], factors, {n: p[steps] for n, p in found.items()})

        blocks = slices(len(s.inputs), _CONTRIBUTION_STEPS)
        s.parallel([partial(job, steps, term) for steps in blocks for term in terms])
        return found

    def gradient(self) -> Params:
        """See `Pulled`."""
        s, terms = self.steps, self.steps.weights.terms
        found = room(s.params, terms, self.cotangents.dtype)
        if accelerator.enabled():
            Gradient(s.weights, self.cotangents, **self._factors).fill(found, s.parallel)
            return found
        d = self.cotangents.reshape(-1, self.cotangents.shape[-1])
        flat = {n: f.reshape(-1, f.shape[-1]) for n, f in self._factors.items()}
        pieces = [piece for term in terms for piece in term.pieces()]
        s.parallel([partial(add_terms, [piece], d, flat, found) for piece in pieces])
        return found

    @property
    def _factors(self) -> dict[str, Array]:
        s = self.steps
        return {"x": s.inputs, "h": s.states[:-1, :, : s.size]}

"""A block of steps of a cell with dense weights, and the way back through it.

Forward, the input's part of all preactivations is one matrix product, and what the activations made is kept;
backward, a step is then elementwise work and one product with the weights. The cotangents of all
preactivations are kept in turn, and the gradient is one product of them with what the weights multiplied.

Threads take some rows of the batch each, through all steps, in compiled kernels or in NumPy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np

from gradsim.contracts.trajectory import Parallel, Trajectory, pulled_back
from gradsim.machine import accelerator
from gradsim.types import Array, Params
from gradsim_cells.kernels import compiled
from gradsim_cells.weights import Term, Weights, add_term, slices, weights_of

if TYPE_CHECKING:
    from gradsim_cells.dense import Dense

_NUMPY_NUMBERS = 8192
"""Preactivations that one call of NumPy should have at least, so that calling is not the cost."""

_CONTRIBUTION_STEPS = 16
"""Steps whose contributions are one job."""


@dataclass(frozen=True, eq=False)
class DenseSteps(Trajectory):
    """Steps that have been taken; `saved` (steps, batch, saved_size) is what `activate` left."""

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
        return self.weights.state.shape[1]

    def take(self) -> None:
        """Fill `states` and `saved` from the first state on."""
        if self._compiled:
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
        if self._compiled:
            given = self.states, self.saved, w.backward, np.ascontiguousarray(direct)
            self._split_compiled("backward", (*given, adjoints, d, ends))
        else:
            self._split(self._numpy_rows, partial(self._pull_rows, direct, adjoints, d, ends))
        # Some rows of the batch may have gone on where others have left their range.
        first = int(ends.max())
        return PulledDense(self[self.steps[first:]] if first else self, adjoints[first:], d[first:])

    def contributions(self, adjoints: Array) -> Params:
        """See `Trajectory.contributions`; nothing that `activate` made is made again."""
        return self._made_of(adjoints).contributions()

    def gradient(self, adjoints: Array) -> Params:
        """See `Trajectory.gradient`."""
        return self._made_of(adjoints).gradient()

    def _made_of(self, adjoints: Array) -> PulledDense:
        """What is made of adjoints after each step, wherever they come from."""
        d = np.empty((*adjoints.shape[:2], len(self.weights.bias)), dtype=adjoints.dtype)
        slopes = self.cell.slopes(self.before, self.after, self.saved)
        self.cell.deactivate(adjoints, slopes, d, np.empty_like(adjoints))
        return PulledDense(self, adjoints, d)

    @property
    def _compiled(self) -> bool:
        return self.cell.kernel is not None and accelerator.enabled()

    def _split_compiled(self, way: str, arrays: tuple[Array, ...]) -> None:
        run = compiled(self.cell.kernel, way, self.states.dtype)
        more = self.cell.kernel_options
        rows = 4 if self.states.shape[1] < 16 else 8  # tiles have 4; more is faster, but leaves fewer jobs
        self._split(rows, lambda part: run(*arrays, part.start, part.stop, *more))

    @property
    def _numpy_rows(self) -> int:
        return max(16, _NUMPY_NUMBERS // len(self.weights.bias))

    def _split(self, size: int, job: Callable[[slice], None]) -> None:
        self.parallel([partial(job, rows) for rows in slices(self.states.shape[1], size)])

    def _take_rows(self, weight: Array, rows: slice) -> None:
        w, states = self.weights, self.states[:, rows]
        a = self.inputs[:, rows] @ w.input.T
        a += w.bias
        for t, row in enumerate(a):
            row[:, w.column :] += states[t, :, : self.size] @ weight
            self.cell.activate(row, states[t], states[t + 1], self.saved[t, rows])

    def _pull_rows(self, direct: Array, adjoints: Array, cotangents: Array, ends: Array, rows: slice) -> None:
        w = self.weights
        slopes = self.cell.slopes(self.states[:-1, rows], self.states[1:, rows], self.saved[:, rows])

        def pull(t: int) -> None:
            adjoint, d = adjoints[t, rows], cotangents[t, rows]
            self.cell.deactivate(adjoints[t + 1, rows], slopes[t], d, adjoint)
            adjoint[:, : self.size] += d[:, w.column :] @ w.state
            adjoint += direct[t, rows]

        ends[rows] = pulled_back(adjoints[:, rows], pull)


@dataclass(frozen=True, eq=False)
class PulledDense:
    """Adjoints (steps + 1, batch, m) of states, and cotangents of all preactivations (steps, batch, G)."""

    steps: DenseSteps
    adjoints: Array
    cotangents: Array

    def contributions(self) -> Params:
        """See `Pulled`."""
        s = self.steps
        found = self._room(len(s.inputs))

        def job(steps: slice, term: Term) -> None:
            factors = {n: f[steps] for n, f in self._factors.items()}
            add_term(term, self.cotangents[steps], factors, {n: p[steps] for n, p in found.items()})

        blocks = slices(len(s.inputs), _CONTRIBUTION_STEPS)
        s.parallel([partial(job, steps, term) for steps in blocks for term in s.cell.terms()])
        return found

    def gradient(self) -> Params:
        """See `Pulled`."""
        found = self._room()
        d = self.cotangents.reshape(-1, self.cotangents.shape[-1])
        flat = {n: f.reshape(-1, f.shape[-1]) for n, f in self._factors.items()}
        terms = [piece for term in self.steps.cell.terms() for piece in term.pieces()]
        self.steps.parallel([partial(add_term, term, d, flat, found) for term in terms])
        return found

    @property
    def _factors(self) -> dict[str, Array]:
        s = self.steps
        return {"x": s.inputs, "h": s.states[:-1, :, : s.size]}

    def _room(self, *lead: int) -> Params:
        params, dtype = self.steps.params, self.cotangents.dtype
        return {n: np.empty((*lead, *p.shape), dtype=dtype) for n, p in params.items()}

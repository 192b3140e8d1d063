"""Second derivatives of dense cells, made of how the slopes of a unit bend."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gradsim.contracts.dense.slopes import slopes_at, steps_at_once
from gradsim.contracts.dense.weights import room, slices, weights_of
from gradsim.errors import PluginError
from gradsim.types import Array, Params, StepData

if TYPE_CHECKING:
    from gradsim.contracts.dense.cell import Dense

_ARRAYS = 4
"""How many times as much a second derivative holds of a position as its slopes do."""


class SecondDerivative:
    """How a sum over step Jacobians changes with parameters and old states, added up piece by piece.

    It changes with the slopes of the units, by as much as it weighs each of them, and these change with sums
    and old blocks; at fixed slopes it changes with the weights that the state is multiplied with.
    """

    def __init__(self, cell: Dense, params: Params, state: Array, inputs: Array, data: StepData) -> None:
        self.cell, self.params, self.shape, lead = cell, params, state.shape, state.shape[:-1]
        self.count = math.prod(lead)  # -1 would not do for arrays of no size
        self.weights = weights_of(cell, params)
        self.state, self.inputs = (x.reshape(self.count, x.shape[-1]) for x in (state, inputs))
        self.data = {n: x.reshape(self.count, *x.shape[len(lead) :]) for n, x in data.items()}
        w = self.weights
        self._by = {"x": np.zeros_like(w.input), "h": np.zeros_like(w.state), "1": np.zeros_like(w.bias)}
        self._by_old = np.empty_like(self.state)

    @property
    def seeing(self) -> slice:
        """The sums that see the state."""
        return slice(self.weights.column // self.cell.units, self.cell.sums)

    def pieces(self, copies: int = 1) -> Iterator[Piece]:
        """All positions, as many at a time as stay in cache."""
        for at in slices(self.count, steps_at_once(self.cell, _ARRAYS * copies, self.state.dtype)):
            sums = self.weights.sums(self.inputs[at], self.state[at, : self.cell.units])
            data = {n: x[at] for n, x in self.data.items()}
            slopes = slopes_at(self.cell, sums, self.state[at], data)
            each = len(sums), self.cell.units
            yield Piece(at, sums, data, slopes.whole(self.cell.sums, len(self.cell.blocks), each, sums.dtype))

    def add(self, piece: Piece, weights: Array, by_state: Array) -> None:
        """Add those of one piece; `by_state` (G - column, n) is what slopes times weights give."""
        cell, w, n, at = self.cell, self.weights, self.cell.units, piece.at
        bent = cell.bends(piece.sums, self.state[at], weights, piece.data)
        if bent.shape != weights.shape[1:]:
            raise PluginError(
                f"{cell!r}: bends() has shape {bent.shape}, where {weights.shape[1:]} is needed"
            )
        by_sums, by_old = (x.swapaxes(0, 1).reshape(len(piece.sums), -1) for x in np.split(bent, [cell.sums]))
        seeing = by_sums[:, w.column :]
        self._by["x"] += by_sums.T @ self.inputs[at]
        self._by["h"] += seeing.T @ self.state[at, :n] + by_state
        self._by["1"] += by_sums.sum(axis=0)
        self._by_old[at] = by_old
        self._by_old[at, :n] += seeing @ w.state

    def result(self) -> tuple[Params, Array]:
        """The derivatives with respect to the parameters, and to the old states."""
        found = room(self.params, self.weights.terms, self.state.dtype)
        for term in self.weights.terms:
            first = self.weights.column if term.factor == "h" else 0
            span = slice(term.columns.start - first, term.columns.stop - first)
            found[term.param][term.rows] = self._by[term.factor][span]
        return found, self._by_old.reshape(self.shape)


@dataclass(frozen=True, eq=False)
class Piece:
    """Some positions, in a row: sums (positions, G), and slopes (blocks, sums + blocks, positions, n)."""

    at: slice
    sums: Array
    data: StepData
    slopes: Array


def of_pairs(second: SecondDerivative, left: Array, right: Array) -> tuple[Params, Array]:
    """Of the sum of left @ J @ right, each of shape (copies, ..., m)."""
    cell, w, n, sums = second.cell, second.weights, second.cell.units, second.cell.sums
    left, right = (x.reshape(len(x), second.count, x.shape[-1]) for x in (left, right))
    for piece in second.pieces(len(left)):
        old, new = (cell.parted(x[:, piece.at]) for x in (right, left))
        weights, by_state = np.zeros_like(piece.slopes), np.zeros_like(w.state)
        weights[:, sums:] = np.einsum("kcpn,icpn->kipn", new, old)
        if len(w.state):
            pushed = right[:, piece.at, :n]
            weights[:, second.seeing] = np.einsum("kcpn,icpn->kipn", new, cell.parted(pushed @ w.state.T))
            through = np.einsum("kipn,kcpn->cpin", piece.slopes[:, second.seeing], new)
            by_state = through.reshape(-1, len(w.state)).T @ pushed.reshape(-1, n)
        second.add(piece, weights, by_state)
    return second.result()


def of_matrices(second: SecondDerivative, cotangent: Array) -> tuple[Params, Array]:
    """Of the sum of cotangent * J, of shape (..., g, k, k)."""
    cell, w, n, sums = second.cell, second.weights, second.cell.units, second.cell.sums
    by_unit = w.state.reshape(len(w.state) // n, n, n).transpose(1, 2, 0)
    cotangent = cotangent.reshape(second.count, *cotangent.shape[-3:])
    for piece in second.pieces():
        given, weights = cotangent[piece.at], np.zeros_like(piece.slopes)
        by_state = np.zeros((n, by_unit.shape[-1], n), dtype=w.state.dtype)
        if not len(w.state):
            weights[:, sums:] = given.transpose(2, 3, 0, 1)
        else:
            for k in range(len(cell.blocks)):
                rows = given[:, 0, k * n : k * n + n].swapaxes(0, 1)
                # Row j of all Jacobians at these positions meets the weights of unit j alone.
                weights[k, second.seeing] = (rows[..., :n] @ by_unit).transpose(2, 1, 0)
                by_state += piece.slopes[k, second.seeing].transpose(2, 0, 1) @ rows[..., :n]
                for q in range(len(cell.blocks)):
                    weights[k, sums + q] = np.einsum("jpj->pj", rows[..., q * n : q * n + n])
        second.add(piece, weights, by_state.swapaxes(0, 1).reshape(w.state.shape))
    return second.result()

"""What is made of the slopes of units: pulled cotangents and step Jacobians."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradsim.contracts.dense.weights import Weights
from gradsim.contracts.promises import kind
from gradsim.errors import PluginError
from gradsim.types import Array, StepData

if TYPE_CHECKING:
    from gradsim.contracts.dense.cell import Dense

_PIECE_BYTES = 2**18
"""An array of one number for each unit, at as many steps as are traced together: many such stay in cache."""


def steps_at_once(cell: Dense, batch: int, dtype: np.dtype) -> int:
    """How many steps are traced together."""
    return max(1, _PIECE_BYTES // (batch * cell.units * dtype.itemsize))


@dataclass(slots=True)
class Slopes:
    """How new blocks change with the sums, with the old blocks and with each other.

    `by_sums`: of the new block k by the sums from `first` on, as (k, first, slopes (sums, ..., n)); `by_old`:
    of the new block k by the old block q, as (q, k, slopes (..., n)); `by_new`: of the new block k by another
    one, j, that it was made of, as (j, k, slopes), in an order in which k is not made of any j further on.
    """

    by_sums: list[tuple[int, int, Array]]
    by_old: list[tuple[int, int, Array]]
    by_new: list[tuple[int, int, Array]]

    def pull(self, cotangents: Array, d: Array, beside: Array, at: slice | int = slice(None)) -> None:
        """Pull cotangents (blocks, ..., n) back: fill d (sums, ..., n), add what is `beside` it.

        All may be those at one place along the first of the leading axes of the slopes.
        """
        total: Any = cotangents
        if self.by_new:
            total = list(cotangents)
            for j, k, slope in self.by_new:
                total[j] = total[j] + slope[at] * total[k]
        left = len(d)
        for _, _, slopes in self.by_sums:
            left -= len(slopes)
        if left:  # not each of the sums just once
            d[...] = 0
        for k, first, slopes in self.by_sums:
            out = d[first : first + len(slopes)]
            if left:
                out += slopes[:, at] * total[k]
            else:
                np.multiply(slopes[:, at], total[k], out=out)
        for q, k, slope in self.by_old:
            beside[q] += slope[at] * total[k]

    def whole(self, sums: int, blocks: int, each: tuple[int, ...], dtype: np.dtype) -> Array:
        """Those of each new block by each sum, and then by each old block: (blocks, sums + blocks, *each)."""
        found = np.zeros((blocks, sums + blocks, *each), dtype=dtype)
        for k, first, slopes in self.by_sums:
            found[k, first : first + len(slopes)] = slopes
        for q, k, slope in self.by_old:
            found[k, sums + q] = slope
        for j, k, slope in self.by_new[::-1]:
            found[k] += slope * found[j]
        return found

    def fill_jacobian(self, found: Array, w: Weights) -> None:
        """Write the step Jacobians (steps, batch, m, m)."""
        m, n = found.shape[-1], w.state.shape[1]
        sums = len(w.bias) // n
        whole = self.whole(sums, m // n, (*found.shape[:2], n), found.dtype)
        by_unit = np.ascontiguousarray(w.state.reshape(-1, n, n).swapaxes(0, 1))[:, None]
        for k, slopes in enumerate(whole):
            rows, through = found[..., k * n : k * n + n, :], slopes[w.column // n : sums]
            if len(through) == 1:
                np.multiply(through[0, ..., None], w.state, out=rows[..., :n])
            else:
                # Row i of all Jacobians at a step is a product of its slopes, one for each sum, with weights.
                left = np.ascontiguousarray(through.transpose(3, 1, 0, 2)).swapaxes(-1, -2)
                np.matmul(left, by_unit, out=rows[..., :n].transpose(2, 0, 1, 3))
            rows[..., n:] = 0
            for q in {q for q, _, _ in self.by_old}:
                diagonal = np.einsum("tbii->tbi", rows[..., q * n : q * n + n])
                diagonal += slopes[sums + q]

    def fill_unit_jacobians(self, found: Array) -> None:
        """Write those of units that do not see each other (steps, batch, n, blocks, blocks)."""
        whole = np.zeros((*found.shape[3:], *found.shape[:3]), dtype=found.dtype)
        for q, k, slope in self.by_old:
            whole[k, q] = slope
        for j, k, slope in self.by_new[::-1]:
            whole[k] += slope * whole[j]
        found[...] = whole.transpose(2, 3, 4, 0, 1)


def slopes_at(cell: Dense, sums: Array, old: Array, data: StepData) -> Slopes:
    """The slopes of a cell, of sums (..., G) and states before (..., m).

    Raises
    ------
    PluginError
        Its `slopes` gives something else than `Slopes`, or in them arrays of other shapes.
    """
    found = cell.slopes(sums, old, data)
    if not isinstance(found, Slopes):
        raise PluginError(
            f"{cell!r}: slopes() gives {kind(found)}, where a gradsim.contracts.dense.Slopes is needed"
        )
    each = *sums.shape[:-1], cell.units
    many = {f"by_sums ({k}, {first})": x.shape[1:] for k, first, x in found.by_sums}
    single = {f"by_old ({q}, {k})": x.shape for q, k, x in found.by_old}
    single |= {f"by_new ({j}, {k})": x.shape for j, k, x in found.by_new}
    for before, shapes in (((), single), (("sums",), many)):
        for name, shape in shapes.items():
            if shape != each:
                needed, given = (", ".join(map(str, (*before, *x))) for x in (each, shape))
                raise PluginError(
                    f"{cell!r}: slopes() gives {name} of shape ({given}), where ({needed}) is needed"
                )
    return found


class SlopesByStep:
    """Those of some batch elements at all steps of a block, made for many at once, from the last on."""

    def __init__(self, cell: Dense, sums: Array, states: Array, data: StepData) -> None:
        self._cell, self._sums, self._states, self._data = cell, sums, states, data
        self._rows = range(0)

    def pull(self, row: int, cotangents: Array, d: Array, beside: Array) -> None:
        """`Slopes.pull` at one step."""
        if row not in self._rows:
            batch = self._sums.shape[1]
            first = max(0, row + 1 - steps_at_once(self._cell, batch, self._sums.dtype))
            self._rows, at = range(first, row + 1), slice(first, row + 1)
            data = {n: x[at] for n, x in self._data.items()}
            self._made = slopes_at(self._cell, self._sums[at], self._states[at], data)
        self._made.pull(cotangents, d, beside, row - self._rows.start)

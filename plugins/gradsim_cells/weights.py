"""The weights of dense cells, laid out for one pass or the other, and the way to their gradients."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gradsim.types import Array, Params

if TYPE_CHECKING:
    from gradsim_cells.dense import Dense


@dataclass(frozen=True, eq=False)
class Weights:
    """Preactivations a = x input^T + bias, to which h state^T is added from `column` on.

    input (G, input_size), bias (G), state (G - column, n) for the first block h of the state.
    """

    input: Array
    state: Array
    bias: Array
    column: int = 0

    @cached_property
    def forward(self) -> tuple[Array, Array, Array]:
        """For compiled kernels: what x and h are multiplied with, as strips, and the bias."""
        return _strips(self.input.T), _strips(self.state.T), np.ascontiguousarray(self.bias)

    @cached_property
    def backward(self) -> Array:
        """For compiled kernels: what the cotangents of the preactivations are multiplied with."""
        return _strips(self.state)


def _strips(weight: Array) -> Array:
    """`weight` (K, columns) as (strips, K, width), to be read from start to end; zeros fill the last one."""
    from gradsim_cells.kernels.parts import STRIP_BYTES  # with numba, which need not be there

    width = STRIP_BYTES // weight.itemsize
    strips = np.zeros((-(-weight.shape[1] // width), len(weight), width), dtype=weight.dtype)
    for i, strip in enumerate(strips):
        part = weight[:, i * width : (i + 1) * width]
        strip[:, : part.shape[1]] = part
    return strips


_held: tuple[Dense, tuple[Array, ...], Weights] | None = None


def weights_of(cell: Dense, params: Params) -> Weights:
    """The weights of a cell. The last ones are kept, because a run asks for them at every block."""
    global _held
    arrays, held = tuple(params.values()), _held
    if held and held[0] is cell and all(a is b for a, b in zip(arrays, held[1], strict=True)):
        return held[2]
    weights = cell.weights(params)
    if all(a.base is None and not a.flags.writeable for a in arrays):  # nobody can change them
        _held = cell, arrays, weights
    return weights


class Term(NamedTuple):
    """Some rows of a parameter's gradient: these columns of the cotangents d of a, times a factor.

    `factor` is what the parameter multiplies: "x", "h" or, for a bias, "1".
    """

    param: str
    rows: slice
    columns: slice
    factor: str

    def pieces(self) -> Iterator[Term]:
        """The term in parts for threads, which are not so small that packing for the product dominates."""
        first, shift = self.rows.start, self.columns.start - self.rows.start
        length = self.rows.stop - first
        for part in slices(length, max(64, length // 8)):
            rows = slice(first + part.start, first + part.stop)
            yield Term(self.param, rows, slice(rows.start + shift, rows.stop + shift), self.factor)


def add_term(term: Term, d: Array, factors: dict[str, Array], found: Params) -> None:
    """Write a term, summed over the last leading axis: d (..., batch, G), factors (..., batch, size)."""
    part = d[..., term.columns].swapaxes(-1, -2)
    if term.factor == "1":
        one = np.ones(part.shape[-1], dtype=d.dtype)
        np.matmul(part, one, out=found[term.param][..., term.rows])
    else:
        np.matmul(part, factors[term.factor], out=found[term.param][..., term.rows, :])


def slices(length: int, size: int) -> list[slice]:
    """0..length, cut into pieces of `size`."""
    return [slice(i, min(i + size, length)) for i in range(0, length, size)]

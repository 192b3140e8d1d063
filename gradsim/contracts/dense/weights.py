"""The weights of dense cells, laid out for one pass or the other, and the way to their gradients."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gradsim.errors import PluginError, unknown
from gradsim.types import Array, Params

if TYPE_CHECKING:
    from gradsim.contracts.dense.cell import Dense


class Term(NamedTuple):
    """Some rows of a parameter, all of them unless told, which add to the sums from `column` on.

    `factor` is what they multiply: "x", the first block "h" of the state or, for a bias, "1". The sums of n
    units lie side by side: sum i has the columns i n to (i + 1) n. So ``Term("p", "1", column=n)`` makes p,
    of length n, the second sum, or a part of it.
    """

    param: str
    factor: str
    rows: slice = slice(None)
    column: int = 0

    @property
    def columns(self) -> slice:
        """The sums; of a term whose rows are counted."""
        return slice(self.column, self.column + self.rows.stop - self.rows.start)

    @property
    def span(self) -> range:
        """The same, one by one."""
        return range(self.columns.start, self.columns.stop)

    def pieces(self) -> Iterator[Term]:
        """The term in parts for threads, which are not so small that packing for the product dominates."""
        first, length = self.rows.start, self.rows.stop - self.rows.start
        for part in slices(length, max(64, length // 8)):
            rows = slice(first + part.start, first + part.stop)
            yield self._replace(rows=rows, column=self.column + part.start)


def counted(cell: Dense, params: Params) -> list[Term]:
    """The terms of a cell, with the numbers of their rows.

    Raises
    ------
    PluginError
        They do not fit the parameters or the units of the cell.
    """
    n = cell.units
    shapes = {"x": (cell.input_size,), "h": (n,), "1": ()}
    found, rows = [], dict[str, list[int]]()
    for term in cell.terms:
        if term.param not in params:
            raise PluginError(f"{cell!r}: terms: {unknown('parameter', term.param, params)}")
        if term.factor not in shapes:
            raise PluginError(f"{cell!r}: terms: {unknown('factor', term.factor, shapes)}")
        param = params[term.param]
        first, last, _ = term.rows.indices(param.shape[0])
        whole = term._replace(rows=slice(first, last))
        if param.shape[1:] != shapes[term.factor]:
            expected = ("rows", *shapes[term.factor])
            raise PluginError(
                f"{cell!r}: the parameter {term.param!r} has shape {param.shape}, where a term with "
                f"{term.factor!r} needs ({', '.join(map(str, expected))})"
            )
        if first % n or last % n or term.column % n or whole.columns.stop > cell.sums * n:
            raise PluginError(
                f"{cell!r}: rows {first} to {last} of {term.param!r} should be those of some of the "
                f"{cell.sums} sums of {n} units, each as a whole, from row {term.column} of all sums on"
            )
        found.append(whole)
        rows.setdefault(term.param, []).extend(range(first, last))
    for name, met in rows.items():
        if sorted(met) != list(range(params[name].shape[0])):
            raise PluginError(
                f"{cell!r}: each row of {name!r} should be in one of the terms, and in no other"
            )
    without = set(range(cell.sums)).difference(
        *(range(t.columns.start // n, t.columns.stop // n) for t in found)
    )
    if without:
        raise PluginError(
            f"{cell!r}: no term adds to sum {min(without)} of the {cell.sums} sums of {n} units; give "
            f"one with column={min(without) * n}, or fewer sums"
        )
    return found


@dataclass(frozen=True, eq=False)
class Weights:
    """All sums a = x input^T + bias, to which h state^T is added from `column` on, and their terms.

    input (G, input_size), bias (G), state (G - column, n) for the first block h of the state.
    """

    input: Array
    state: Array
    bias: Array
    column: int
    terms: list[Term]

    @classmethod
    def of(cls, cell: Dense, params: Params) -> Weights:
        """Those of a cell."""
        terms = cell.counted(params)
        dtype = np.result_type(*params.values())
        size, widths = cell.sums * cell.units, {"x": (cell.input_size,), "h": (cell.units,), "1": ()}
        column = min((t.column for t in terms if t.factor == "h"), default=size)

        def joined(factor: str, start: int = 0) -> Array:
            mine = [t for t in terms if t.factor == factor]
            if len(mine) == 1 and mine[0].columns == slice(start, size):
                return params[mine[0].param][mine[0].rows]
            found = np.zeros((size - start, *widths[factor]), dtype=dtype)
            for t in mine:
                found[t.column - start : t.columns.stop - start] += params[t.param][t.rows]
            return found

        return cls(joined("x"), joined("h", column), joined("1"), column, terms)

    def sums(self, inputs: Array, h: Array) -> Array:
        """All sums (..., G), of inputs (..., input_size) and the first block (..., n) of the state."""
        a = inputs @ self.input.T
        a += self.bias
        a[..., self.column :] += h @ self.state.T
        return np.asarray(a)

    @cached_property
    def forward(self) -> tuple[Array, Array, Array]:
        """For compiled kernels: what x and h are multiplied with, as strips, and the bias."""
        return _strips(self.input.T), _strips(self.state.T), np.ascontiguousarray(self.bias)

    @cached_property
    def backward(self) -> Array:
        """For compiled kernels: what the cotangents of the sums are multiplied with."""
        return _strips(self.state)


def _strips(weight: Array) -> Array:
    """`weight` (K, columns) as (strips, K, width), to be read from start to end; zeros fill the last one."""
    from gradsim.contracts.dense.parts import STRIP_BYTES  # with numba, which need not be there

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
    weights = Weights.of(cell, params)
    if all(a.base is None and not a.flags.writeable for a in arrays):  # nobody can change them
        _held = cell, arrays, weights
    return weights


def add_terms(terms: list[Term], d: Array, factors: dict[str, Array], found: Params) -> None:
    """Write terms, summed over the last leading axis: d (..., batch, G), factors (..., batch, size)."""
    for term in terms:
        part = d[..., term.columns].swapaxes(-1, -2)
        if term.factor == "1":
            one = np.ones(part.shape[-1], dtype=d.dtype)
            np.matmul(part, one, out=found[term.param][..., term.rows])
        else:
            np.matmul(part, factors[term.factor], out=found[term.param][..., term.rows, :])


def room(params: Params, terms: list[Term], dtype: np.dtype, *lead: int) -> Params:
    """Arrays like parameters, to be written; zeros for those that are in no term."""
    written = {term.param for term in terms}
    return {n: (np.empty if n in written else np.zeros)((*lead, *p.shape), dtype) for n, p in params.items()}


def slices(length: int, size: int) -> list[slice]:
    """0..length, cut into pieces of `size`."""
    return [slice(i, min(i + size, length)) for i in range(0, length, size)]

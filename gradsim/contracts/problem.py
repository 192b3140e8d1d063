"""The sizes of a run: which products are recorded, and the length of every dim."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from gradsim.contracts.cell import Cell
from gradsim.contracts.validation import constructed, settle
from gradsim.errors import InputError, unknown
from gradsim.types import Array, NonNegativeInt


@constructed
@dataclass(frozen=True)
class Pairs:
    """Which Jacobian products P(t, k) are recorded; all pairs t >= k unless narrowed.

    Parameters
    ----------
    times
        Chosen t in 0..T, negative ones counted from the end; the dim is then `chosen_time`.
    sources
        Chosen k in 0..T, negative ones counted from the end.
    max_lag
        Only t - k <= max_lag; the dims are then (source, lag) instead of (time, source).
    lags
        Chosen t - k in 0..T; the dims are then (source, lag).
    blocks_out, blocks_in
        Chosen blocks of the state at t and at k, such as ``("h",)`` and ``("c",)`` for dh_t/dc_k: products,
        their norms and singular values are then those of this part of P. Where only one of the two is given,
        the other is the whole state. What is no product, such as dL_t/ds_k, stays whole.
    """

    times: tuple[int, ...] | None = None
    sources: tuple[int, ...] | None = None
    max_lag: NonNegativeInt | None = None
    lags: tuple[NonNegativeInt, ...] | None = None
    blocks_out: tuple[str, ...] | None = None
    blocks_in: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        settle(self, "pairs")
        for name in ("times", "sources", "lags", "blocks_out", "blocks_in"):
            if getattr(self, name) == ():
                raise InputError(f"pairs: {name} should name at least one (got ()); leave it out for all")
        ways = [name for name in ("max_lag", "lags", "times") if getattr(self, name) is not None]
        if len(ways) > 1:
            raise InputError(f"pairs: give {' or '.join(ways[:2])}, not both")

    @property
    def every(self) -> bool:
        """Whether nothing is narrowed."""
        return not any(value is not None for value in vars(self).values())

    @property
    def partial(self) -> bool:
        """Whether only some blocks of the products are recorded."""
        return self.blocks_out is not None or self.blocks_in is not None

    def refuse_none(self, steps: int) -> None:
        """Refuse what does not fit into a run of so many steps, or holds no pair t >= k at all."""
        times, sources = self.resolved(steps)
        if self.resolved_lags(steps)[0] > times[-1] - sources[0]:
            given = ", ".join(f"{n}={v}" for n, v in vars(self).items() if v is not None)
            raise InputError(
                f"pairs: in {steps} steps none of them has a time t at or behind its source k, so that there "
                f"is no product P(t, k) (got {given})"
            )

    def resolved(self, steps: int) -> tuple[Array, Array]:
        """The times and sources as increasing arrays."""
        return _chosen("times", self.times, steps), _chosen("sources", self.sources, steps)

    def resolved_lags(self, steps: int) -> Array:
        """The lags t - k as an increasing array."""
        if self.lags is not None:
            return _chosen("lags", self.lags, steps)
        return np.arange(min(self.max_lag, steps) + 1 if self.max_lag is not None else steps + 1)

    @property
    def dims(self) -> tuple[str, str]:
        """How pairs (t, k) are laid out."""
        if self.max_lag is not None or self.lags is not None:
            return ("source", "lag")
        return ("time" if self.times is None else "chosen_time", "source")


def _chosen(what: str, wanted: tuple[int, ...] | None, steps: int) -> Array:
    if wanted is None:
        return np.arange(steps + 1)
    outside = [i for i in wanted if not -steps - 1 <= i <= steps]
    if outside:
        raise InputError(f"pairs: {what} should lie in 0..{steps} (got {list(wanted)})")
    return np.unique([i % (steps + 1) for i in wanted])


EVERY_PAIR = Pairs()
"""All of them."""

OF_TRAINING = ("update", "probe_update", "validation_update", "train_lag", "weight_block")
"""The dims that a dataset of a training has besides."""


@dataclass(frozen=True)
class Problem:
    """The sizes of a run, from which plans, recorders and the dataset are made."""

    cell: Cell
    steps: int
    batch: int
    dtype: np.dtype
    param_shapes: Mapping[str, tuple[int, ...]]
    pairs: Pairs = field(default_factory=Pairs)
    own_dims: Mapping[str, Array] = field(default_factory=dict)
    """The dims that recorders bring along, and the coordinate of each."""

    @cached_property
    def groups(self) -> int:
        """g, the number of diagonal blocks of a step Jacobian."""
        return self.cell.jacobian_groups

    @cached_property
    def block(self) -> int:
        """k, the size of a diagonal block."""
        return self.cell.state_size // self.groups

    @property
    def pair_dims(self) -> tuple[str, str]:
        """How pairs (t, k) are laid out."""
        return self.pairs.dims

    @cached_property
    def resolved(self) -> tuple[Array, Array]:
        """The times and sources of the pairs, increasing."""
        return self.pairs.resolved(self.steps)

    @cached_property
    def resolved_lags(self) -> Array:
        """The lags, increasing."""
        return self.pairs.resolved_lags(self.steps)

    @property
    def lags(self) -> int:
        """The longest lag that is multiplied."""
        return int(self.resolved_lags[-1])

    @cached_property
    def lag_rows(self) -> Array:
        """Where each lag 0..T is recorded along `lag`; -1 where it is not."""
        rows = np.full(self.steps + 1, -1)
        lags = self.resolved_lags
        rows[lags] = np.arange(len(lags))
        return rows

    @cached_property
    def ends(self) -> Array:
        """The last time to which each source is multiplied: that of its longest recorded lag."""
        (times, sources), lags = self.resolved, self.resolved_lags
        fitting = np.searchsorted(lags, times[-1] - sources, side="right")
        return np.asarray(sources + np.concatenate([[0], lags])[fitting])

    @property
    def matrix_dims(self) -> tuple[str, ...]:
        """How a step Jacobian is laid out: only the diagonal blocks are kept."""
        return ("state_out", "state_in") if self.groups == 1 else ("group", "row", "column")

    @property
    def product_dims(self) -> tuple[str, ...]:
        """How a product is laid out: as a step Jacobian, or that of it which is recorded."""
        if not self.pairs.partial:
            return self.matrix_dims
        return ("chosen_out", "chosen_in") if self.groups == 1 else ("group", "chosen_row", "chosen_column")

    @property
    def mode_dim(self) -> str:
        """The dim of the singular values of a product."""
        return "chosen_mode" if self.pairs.partial else "mode"

    @cached_property
    def product_blocks(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The blocks at t and those at k of which products are recorded, in the order of the state.

        Raises
        ------
        InputError
            The cell has no such block.
        """
        found = []
        for side in ("blocks_out", "blocks_in"):
            wanted = getattr(self.pairs, side)
            for name in wanted or ():
                if name not in self.cell.blocks:
                    what = f"block of {self.cell.name} in pairs.{side}"
                    raise unknown(what, name, self.cell.blocks)
            found.append(tuple(n for n in self.cell.blocks if wanted is None or n in wanted))
        return found[0], found[1]

    @cached_property
    def product_rows(self) -> tuple[Array, Array]:
        """Which rows and which columns of the diagonal blocks of products are recorded.

        Raises
        ------
        InputError
            Blocks are chosen that lie in different rows of one group than of another one.
        """
        g, blocks = self.groups, self.cell.blocks
        if not self.pairs.partial:
            return np.arange(self.block), np.arange(self.block)
        if any(size % g for size in blocks.values()):
            raise InputError(
                f"pairs: no block of {self.cell.name} can be chosen, as not all sizes {dict(blocks)} are "
                f"multiples of its {g} diagonal groups; leave blocks_out and blocks_in out"
            )
        out, into = (
            np.concatenate([np.arange(b.start // g, b.stop // g) for b in map(self.cell.block, names)])
            for names in self.product_blocks
        )
        return out, into

    @property
    def product_label(self) -> str:
        """What a product is, in short: ds_t/ds_k, or dh_t/dh_k."""
        chosen = self.pairs.blocks_out, self.pairs.blocks_in
        out, into = (
            "s" if names is None else joined(known)
            for names, known in zip(chosen, self.product_blocks, strict=True)
        )
        return f"d{out}_t/d{into}_k"

    @property
    def pair_count(self) -> int:
        """The number of recorded pairs t >= k, for one batch element."""
        (times, sources), lags = self.resolved, self.resolved_lags
        if self.pairs.times is None:
            return int(np.searchsorted(lags, self.steps - sources, side="right").sum())
        return int((len(times) - np.searchsorted(times, sources)).sum())

    @property
    def product_count(self) -> int:
        """The number of products to multiply, recorded or not, for one batch element."""
        return int((self.ends - self.resolved[1]).sum())

    def sizes(self) -> dict[str, int]:
        """The length of every dim that a variable of this run may have."""
        return self._sizes

    @cached_property
    def _sizes(self) -> dict[str, int]:
        m, g, k = self.cell.state_size, self.groups, self.block
        times, sources = self.resolved
        fixed = {
            "time": self.steps + 1,
            "step": self.steps,
            "batch": self.batch,
            "component": m,
            "state_out": m,
            "state_in": m,
            "group": g,
            "row": k,
            "column": k,
            "mode": m,
            "chosen_time": len(times),
            "source": len(sources),
            "lag": len(self.resolved_lags),
            "param": len(self.param_shapes),
        }
        axes = {
            axis_dim(n, i): size for n, shape in self.param_shapes.items() for i, size in enumerate(shape)
        }
        if self.pairs.partial:
            rows, columns = map(len, self.product_rows)
            fixed |= dict.fromkeys(("chosen_out", "chosen_row"), rows)
            fixed |= dict.fromkeys(("chosen_in", "chosen_column"), columns)
            fixed["chosen_mode"] = g * min(rows, columns)
        return {**fixed, **axes, **{dim: len(values) for dim, values in self.own_dims.items()}}


def joined(blocks: Sequence[str]) -> str:
    """Several blocks in a name such as d(h, c)_t."""
    return blocks[0] if len(blocks) == 1 else f"({', '.join(blocks)})"


def axis_dim(param: str, axis: int) -> str:
    """The dim of one axis of a parameter: its rows, its columns, and further axes by number."""
    return f"{param}_{('row', 'column')[axis] if axis < 2 else f'axis{axis}'}"

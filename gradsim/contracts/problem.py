"""The sizes of a run: which products are recorded, and the length of every dim."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from gradsim.contracts.cell import Cell
from gradsim.contracts.validation import constructed, settle
from gradsim.errors import InputError
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
    """

    times: tuple[int, ...] | None = None
    sources: tuple[int, ...] | None = None
    max_lag: NonNegativeInt | None = None
    lags: tuple[NonNegativeInt, ...] | None = None

    def __post_init__(self) -> None:
        settle(self, "pairs")
        for name in ("times", "sources", "lags"):
            if getattr(self, name) == ():
                raise InputError(f"pairs: {name} should name at least one (got ()); leave it out for all")
        ways = [name for name in ("max_lag", "lags", "times") if getattr(self, name) is not None]
        if len(ways) > 1:
            raise InputError(f"pairs: give {' or '.join(ways[:2])}, not both")

    @property
    def every(self) -> bool:
        """Whether nothing is narrowed."""
        return not any(value is not None for value in vars(self).values())

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
        """How a step Jacobian or a product is laid out: only the diagonal blocks are kept."""
        return ("state_out", "state_in") if self.groups == 1 else ("group", "row", "column")

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
        return {**fixed, **axes, **{dim: len(values) for dim, values in self.own_dims.items()}}


def axis_dim(param: str, axis: int) -> str:
    """The dim of one axis of a parameter: its rows, its columns, and further axes by number."""
    return f"{param}_{('row', 'column')[axis] if axis < 2 else f'axis{axis}'}"

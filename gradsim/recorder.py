"""The contract of a recorder, and the pieces of a run that pass by it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar

import numpy as np

from gradsim.cell import Cell
from gradsim.errors import InputError
from gradsim.plugin import Plugin
from gradsim.scaled import Scaled
from gradsim.types import Array


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
    max_lag: int | None = None
    lags: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.max_lag is not None and self.max_lag < 0:
            raise InputError(f"pairs: max_lag should be 0 or more (got {self.max_lag})")
        if self.lags is not None and min(self.lags, default=-1) < 0:
            raise InputError(f"pairs: lags should name at least one, 0 or more each (got {list(self.lags)})")
        ways = [name for name in ("max_lag", "lags", "times") if getattr(self, name) is not None]
        if len(ways) > 1:
            raise InputError(f"pairs: give {' or '.join(ways[:2])}, not both")

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
    if outside or not wanted:
        raise InputError(f"pairs: {what} should lie in 0..{steps} (got {list(wanted)})")
    return np.unique([i % (steps + 1) for i in wanted])


@dataclass(frozen=True)
class Problem:
    """The sizes of a run, from which plans, recorders and the dataset are made."""

    cell: Cell
    steps: int
    batch: int
    dtype: np.dtype
    param_shapes: Mapping[str, tuple[int, ...]]
    pairs: Pairs = field(default_factory=Pairs)

    @property
    def groups(self) -> int:
        """g, the number of diagonal blocks of a step Jacobian."""
        return self.cell.jacobian_groups

    @property
    def block(self) -> int:
        """k, the size of a diagonal block."""
        return self.cell.state_size // self.groups

    @property
    def pair_dims(self) -> tuple[str, str]:
        """How pairs (t, k) are laid out."""
        return self.pairs.dims

    @property
    def lags(self) -> int:
        """The longest lag that is multiplied."""
        return int(self.pairs.resolved_lags(self.steps)[-1])

    @property
    def ends(self) -> Array:
        """The last time to which each source is multiplied: that of its longest recorded lag."""
        times, sources = self.pairs.resolved(self.steps)
        lags = self.pairs.resolved_lags(self.steps)
        fitting = np.searchsorted(lags, times[-1] - sources, side="right")
        return np.asarray(sources + np.concatenate([[0], lags])[fitting])

    @property
    def matrix_dims(self) -> tuple[str, ...]:
        """How a step Jacobian or a product is laid out: only the diagonal blocks are kept."""
        return ("state_out", "state_in") if self.groups == 1 else ("group", "row", "column")

    @property
    def pair_count(self) -> int:
        """The number of recorded pairs t >= k, for one batch element."""
        times, sources = self.pairs.resolved(self.steps)
        lags = self.pairs.resolved_lags(self.steps)
        if self.pairs.times is None:
            return int(np.searchsorted(lags, self.steps - sources, side="right").sum())
        return int((len(times) - np.searchsorted(times, sources)).sum())

    @property
    def product_count(self) -> int:
        """The number of products to multiply, recorded or not, for one batch element."""
        return int((self.ends - self.pairs.resolved(self.steps)[1]).sum())

    def sizes(self) -> dict[str, int]:
        """The length of every dim that a variable of this run may have."""
        return self._sizes

    @cached_property
    def _sizes(self) -> dict[str, int]:
        m, g, k = self.cell.state_size, self.groups, self.block
        times, sources = self.pairs.resolved(self.steps)
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
            "lag": len(self.pairs.resolved_lags(self.steps)),
            "param": len(self.param_shapes),
        }
        axes = {
            axis_dim(n, i): size for n, shape in self.param_shapes.items() for i, size in enumerate(shape)
        }
        return {**fixed, **axes}


def axis_dim(param: str, axis: int) -> str:
    """The dim of one axis of a parameter."""
    return f"{param}_axis{axis}"


@dataclass(frozen=True)
class Variable:
    """One variable of the dataset. `dtype` None is the dtype of the run; units "1" is a pure number."""

    name: str
    dims: tuple[str, ...]
    long_name: str
    units: str = "1"
    dtype: str | None = None

    def bytes(self, problem: Problem) -> int:
        """Its size, uncompressed."""
        sizes = problem.sizes()
        return math.prod(sizes[d] for d in self.dims) * np.dtype(self.dtype or problem.dtype).itemsize


# The pieces of a run. Each knows where it lies: `region` maps dims to slices or index arrays.

Region = Mapping[str, "slice | int | Array"]


def local(index: slice | int | Array, start: int) -> slice | int | Array:
    """An index of the whole dataset, seen from a part that starts at `start`."""
    if isinstance(index, slice):
        return index if index.start is None else slice(index.start - start, index.stop - start)
    return index - start


def steps_region(steps: range) -> dict[str, slice]:
    """Step s lies at index s - 1."""
    return {"step": slice(steps.start - 1, steps.stop - 1)}


def times_region(steps: range) -> dict[str, slice]:
    """The times after some steps; time 0 goes with step 1."""
    return {"time": slice(steps.start if steps.start > 1 else 0, steps.stop)}


@dataclass(frozen=True)
class Forward:
    """The forward pass at some times: states (time, batch, m)."""

    states: Array
    region: Region


@dataclass(frozen=True)
class LossTerms:
    """The weighted losses of some steps, (step, batch), before the mean over batch."""

    values: Array
    region: Region


@dataclass(frozen=True)
class Jacobians:
    """Step Jacobians of a range of steps: blocks (steps, batch, g, k, k)."""

    steps: range
    blocks: Array

    @property
    def region(self) -> Region:
        """Where these steps lie."""
        return steps_region(self.steps)


@dataclass(frozen=True)
class Products:
    """P(t, k) for one time and a tile of sources and batch elements.

    `product` has shape (source, batch, g, k, k) and exponents (source, batch, g, 1, 1).
    """

    product: Scaled
    region: Region


@dataclass(frozen=True)
class ProductNorms:
    """Frobenius norms of P(t, k) for a range of sources and batch elements and all their pairs.

    `norm` is laid out as the pairs are, then batch; NaN where there is no product.
    """

    norm: Scaled
    region: Region


@dataclass(frozen=True)
class LossRows:
    """dL_t/ds_k for some pairs (t, k): rows (pair, batch, g, k), exponents (pair, batch, g, 1).

    L_t is the part of the loss at time t.
    """

    rows: Scaled
    region: Region


@dataclass(frozen=True)
class Adjoints:
    """dL/ds_t at some times: adjoint (time, batch, m), exponent (time, batch, 1).

    `factor` (time, batch): size after the mitigations of the backward step over size before.
    """

    adjoint: Scaled
    factor: Array
    region: Region


@dataclass(frozen=True)
class Contributions:
    """What enters dL/dparams in a range of steps: mantissas (steps, *param), exponents (steps, 1...)."""

    steps: range
    parts: Mapping[str, Scaled]

    @property
    def region(self) -> Region:
        """Where these steps lie."""
        return steps_region(self.steps)


@dataclass(frozen=True)
class Gradient:
    """dL/dparams, and the factor by which the mitigations changed its norm."""

    values: Mapping[str, Array]
    factor: float

    region: ClassVar[Region] = {}


@dataclass(frozen=True)
class Exponents:
    """Finite-time Lyapunov exponents (batch, mode), decreasing, per step."""

    values: Array

    region: ClassVar[Region] = {}


Piece = (
    Forward
    | LossTerms
    | Jacobians
    | ProductNorms
    | Products
    | LossRows
    | Adjoints
    | Contributions
    | Gradient
    | Exponents
)


@dataclass(frozen=True, eq=False)
class Recorder(Plugin, ABC):
    """Computes variables of the dataset from the pieces of one kind that pass by.

    ``effective`` asks for the run as changed by the mitigations; the variables are then named
    ``effective_<name>``. ``raw`` and ``twin`` say whether the quantity exists of the raw dynamics and
    of the effective run.
    """

    stream: ClassVar[type]
    raw: ClassVar[bool] = True
    twin: ClassVar[bool] = True

    effective: bool = False

    @abstractmethod
    def variables(self, problem: Problem) -> tuple[Variable, ...]:
        """What it will write, without the prefix of its effective twin."""

    @abstractmethod
    def compute(self, piece: Piece) -> Mapping[str, Array | Scaled]:
        """The values for the region of this piece, by variable name, dims in order.

        The arrays of a piece may be used again for the next one: copy what is to be kept.
        """

    def flops(self, problem: Problem) -> float:
        """The floating-point operations of `compute` over the whole run, for the plan."""
        return 0.0

    def declared(self, problem: Problem) -> tuple[Variable, ...]:
        """Its variables, named in full."""
        if not self.effective:
            return self.variables(problem)
        return tuple(_effective(v) for v in self.variables(problem))

    @property
    def full_name(self) -> str:
        """The name that asks for this recorder."""
        return f"effective_{self.name}" if self.effective else self.name


def _effective(variable: Variable) -> Variable:
    head, log, size = variable.long_name.rpartition("log10 of the ")
    return replace(variable, name=f"effective_{variable.name}", long_name=f"{head}{log}effective {size}")

"""The contract of a recorder, and the pieces of a run that pass by it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from gradsim.contracts.plugin import Plugin
from gradsim.contracts.problem import Problem
from gradsim.numerics.scaled import Scaled
from gradsim.types import Array


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
        return self.bytes_in(problem.sizes(), problem.dtype)

    def bytes_in(self, lengths: Mapping[str, int], dtype: np.dtype) -> int:
        """Its size, uncompressed, where dims have these lengths; `dtype` if it names none."""
        return math.prod(lengths[d] for d in self.dims) * np.dtype(self.dtype or dtype).itemsize


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
    """dL/dparams, and the factor by which the mitigations changed its norm.

    `before`: the norm before them, if there are any.
    """

    values: Mapping[str, Array]
    factor: float
    before: float | None = None

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

"""The pieces of a run that pass by recorders, a class for each stream.

Each knows where it lies: `region` maps dims to slices or index arrays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gradsim.contracts.jacobians import Jacobians
from gradsim.contracts.problem import Problem
from gradsim.contracts.trajectory import Trajectory, step_rows, time_rows
from gradsim.numerics.scaled import Scaled
from gradsim.types import Array

Region = Mapping[str, "slice | int | Array"]


def local(index: slice | int | Array, start: int) -> slice | int | Array:
    """An index of the whole dataset, seen from a part that starts at `start`."""
    if isinstance(index, slice):
        return index if index.start is None else slice(index.start - start, index.stop - start)
    return index - start


def along(steps: range) -> dict[str, slice]:
    """Where what belongs to some steps lies, and what belongs to the times after them."""
    return {"step": step_rows(steps), "time": time_rows(steps)}


@dataclass(frozen=True)
class _AlongTime:
    """What lies along some steps, or along the times after them."""

    trajectory: Trajectory

    @property
    def region(self) -> Region:
        """Where it lies."""
        return along(self.trajectory.steps)


@dataclass(frozen=True)
class Forward(_AlongTime):
    """The forward pass over some steps."""

    @property
    def states(self) -> Array:
        """The states after these steps, (time, batch, m), and with step 1 the one before it."""
        return self.trajectory.states if self.trajectory.first == 1 else self.trajectory.after


@dataclass(frozen=True)
class LossTerms(_AlongTime):
    """The weighted losses of some steps, (step, batch), before the mean over batch."""

    values: Array


@dataclass(frozen=True)
class Products:
    """P(t, k) for one time and a tile of sources and batch elements.

    `product` has shape (source, batch, g, k, k) and exponents (source, batch, g, 1, 1); where `Pairs` name
    blocks, only their rows and columns of each diagonal block are in it. `problem` knows
    which these are (`product_rows`).
    """

    product: Scaled
    region: Region
    problem: Problem


@dataclass(frozen=True)
class ProductNorms:
    """Frobenius norms of P(t, k) for a range of sources and batch elements and all their pairs.

    Of the part that leads from block to block, where `Pairs` name these. `norm`, 0 or infinite where float64
    cannot hold it, and its `log10` are laid out as the pairs are, then batch; NaN where there is no product.
    """

    norm: Array
    log10: Array
    region: Region


@dataclass(frozen=True)
class LossRows:
    """dL_t/ds_k for some pairs (t, k): rows (pair, batch, g, k), exponents (pair, batch, g, 1).

    L_t is the part of the loss at time t.
    """

    rows: Scaled
    region: Region


@dataclass(frozen=True)
class Adjoints(_AlongTime):
    """dL/ds_t at some times: adjoint (time, batch, m), exponent (time, batch, 1).

    `factor` (time, batch): size after the mitigations of the adjoint over size before. The times are those
    after the steps of the trajectory, and with step 1 time 0.
    """

    adjoint: Scaled
    factor: Array


@dataclass(frozen=True)
class FullAdjoints(Adjoints):
    """Adjoints, and what the loss feels with no state in between.

    `inputs` (steps, batch, input): its derivative where the output of the cell sees x_t, else None. `params`:
    that of the parameters of readout and output, of each batch element, (batch, *param), summed over steps.
    """

    inputs: Array | None
    params: Mapping[str, Array]


@dataclass(frozen=True)
class Contributions(_AlongTime):
    """What enters dL/dparams in some steps: mantissas (steps, *param), exponents (steps, 1...)."""

    parts: Mapping[str, Scaled]


@dataclass(frozen=True)
class Gradient:
    """dL/dparams, and the factor by which the mitigations changed its norm.

    `parts`: mantissas (*param), exponents (). `before`: the norm before the mitigations, if there are any.
    """

    parts: Mapping[str, Scaled]
    factor: float
    before: float | None = None

    region: ClassVar[Region] = {}

    @property
    def values(self) -> dict[str, Array]:
        """The plain arrays."""
        return {n: part.value for n, part in self.parts.items()}


@dataclass(frozen=True)
class GradientByLag:
    """dL/dparams by the lag t - k from step k, in which parameters take part, to the loss at time t.

    `parts`: mantissas (lag, *param), exponents (lag, 1...), at the lags of the pairs, whose times and sources
    make no difference; over all lags they sum to the gradient. What a loss feels with no state in between is
    of lag 0.
    """

    parts: Mapping[str, Scaled]

    region: ClassVar[Region] = {}


@dataclass(frozen=True)
class Exponents:
    """Finite-time Lyapunov exponents (batch, mode), decreasing, per step."""

    values: Array

    region: ClassVar[Region] = {}


@dataclass(frozen=True)
class Both:
    """The same piece of the raw flow and of the effective one; see `Recorder.both`."""

    raw: Any
    effective: Any

    @property
    def region(self) -> Region:
        """Where they lie."""
        found: Region = self.raw.region
        return found


Piece = (
    Forward
    | LossTerms
    | Jacobians
    | ProductNorms
    | Products
    | LossRows
    | Adjoints
    | FullAdjoints
    | Contributions
    | Gradient
    | GradientByLag
    | Exponents
    | Both
)

IN_ORDER = (
    *(Forward, LossTerms, Jacobians, Adjoints, FullAdjoints, Contributions),
    *(Gradient, GradientByLag, Exponents),
)
"""Streams whose pieces come one after the other, forward or back along time; a carry goes with these."""

TOGETHER = (Adjoints, Contributions, Gradient, GradientByLag)
"""Streams that give the raw and the effective piece at one time."""


def set_writeable(piece: Any, writeable: bool) -> None:
    """Whether the arrays of a piece may be written to: not while recorders look at it."""
    for value in piece.values() if isinstance(piece, dict) else vars(piece).values():
        match value:
            case np.ndarray():
                value.flags.writeable = writeable
            case Scaled() | dict() | Adjoints() | Contributions() | Gradient() | GradientByLag():
                set_writeable(value, writeable)

"""The gradient by the lag t - k from step k, in which parameters take part, to the loss at time t."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np

from gradsim.contracts.jacobians import Jacobians
from gradsim.contracts.trajectory import Trajectory
from gradsim.engine.carried import Go, GradientSum
from gradsim.errors import NonFiniteError
from gradsim.numerics.blocks import through_blocks
from gradsim.numerics.scaled import Scaled
from gradsim.types import Array


def gradients_by_lag(
    trajectory: Trajectory,
    jacobians: Jacobians,
    direct: Array,
    ranges: Sequence[range],
    lags: Collection[int],
) -> Iterator[tuple[int, dict[str, Scaled]]]:
    """The part of dL/dparams of the cell at each of some lags, the shortest first.

    The loss rows of lag l, q_{k+l} P(k+l, k) for all k, are made at once of those of the lag before: that of
    k + 1 times J_{k+1}.

    Parameters
    ----------
    trajectory, jacobians
        All steps, and what carries adjoints back through them.
    direct
        q, shape (time, batch, m).
    ranges
        The steps, cut into those whose gradient is made in one call.
    """
    times = np.arange(len(direct))
    reach = np.concatenate((times[:1], jacobians.reach))
    rows = Scaled(direct, np.zeros((*direct.shape[:2], 1), dtype=np.int32))
    for lag in range(max(lags) + 1):
        if lag:
            rows = _carried(rows[1:], jacobians.blocks[: len(rows.mantissa) - 1])
        beyond = reach[lag:] > times[: len(times) - lag]
        if beyond.any():
            rows = Scaled(np.where(beyond[:, None, None], 0, rows.mantissa), rows.exponent)
        if lag in lags:
            yield lag, _gradient(trajectory, rows, ranges)


def stacked(found: Sequence[Mapping[str, Scaled]]) -> dict[str, Scaled]:
    """Arrays with exponents (), by name, as one each: mantissas (n, ...), exponents (n, 1...)."""
    by_name = {n: [parts[n] for parts in found] for n in found[0]}
    return {
        n: Scaled(
            np.stack([part.mantissa for part in parts]),
            np.array([part.exponent for part in parts]).reshape(-1, *(1,) * parts[0].mantissa.ndim),
        )
        for n, parts in by_name.items()
    }


def _carried(rows: Scaled, blocks: Array) -> Scaled:
    """Rows (steps, batch, m) of the states after some steps, at those before: times their Jacobians."""
    pulled = _through(rows, blocks)
    if not np.isfinite(pulled.mantissa).all():
        pulled = _through(rows.settled(keep=0), blocks)  # perhaps they are only too large
        if not np.isfinite(pulled.mantissa).all():
            raise NonFiniteError(
                f"what a loss feels of a state leaves the range of {blocks.dtype} in one step; use smaller "
                "weights or dtype='float64'"
            )
    return pulled.settled()


def _through(rows: Scaled, blocks: Array) -> Scaled:
    steps, batch, m = rows.mantissa.shape
    with np.errstate(all="ignore"):
        pulled = through_blocks(rows.mantissa.reshape(-1, m), blocks.reshape(-1, *blocks.shape[2:]))
    return Scaled(pulled.reshape(steps, batch, m), rows.exponent)


def _gradient(trajectory: Trajectory, rows: Scaled, ranges: Sequence[range]) -> dict[str, Scaled]:
    """What the parameters of the cell have to do with the states after all steps that there are rows of."""
    total = GradientSum()
    none = np.zeros((), dtype=np.int32)
    total.add({n: Scaled(np.zeros_like(p), none) for n, p in trajectory.params.items()})
    for steps in ranges:
        here = steps[: max(0, len(rows.mantissa) - steps.start)]
        adjoints = rows[here.start - 1 : here.stop] if here else None
        if adjoints is not None and adjoints.mantissa[1:].any():
            total.add(Go(trajectory[here], adjoints).gradient())
    return total.parts()

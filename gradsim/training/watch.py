"""What is noted of every update, because it costs next to nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from gradsim.contracts.cell import Cell
from gradsim.contracts.problem import Problem
from gradsim.contracts.recorder import Variable
from gradsim.numerics.horizon import horizon
from gradsim.training.gradients import BatchResult
from gradsim.types import Array, Params

_LEVEL = -2.0
"""log10 of the size, next to that at lag 0, below which an adjoint is gone; see `analysis.horizon`."""

_EIGENVALUE_COST = 15_000
"""Operations of matrix products, over n^3, of which eigenvalues (n, n) take 1 % of the time."""


class Watch:
    """The variables of every update.

    Eigenvalues are slow: the spectral radius is computed at every `radius_every`-th update, so that it
    takes about 1 % of the time, and is NaN at the others.
    """

    def __init__(self, problem: Problem, lags: Array, penalised: bool) -> None:
        self.lags, self.penalised = lags, penalised
        self.blocks = weight_blocks(problem.cell, problem.param_shapes)
        work = 6 * problem.steps * problem.batch * sum(map(math.prod, problem.param_shapes.values()))
        eigenvalues = _EIGENVALUE_COST * sum(
            (rows.stop - rows.start) ** 3 for _, rows in self.blocks.values()
        )
        self.radius_every = max(1, eigenvalues // work)

    def variables(self) -> list[Variable]:
        """All of them."""
        found = [
            _variable("train_loss", "loss of the batch"),
            _variable("train_gradient_norm", "norm of the gradient, before the mitigations of the gradient"),
            _variable(
                "train_gradient_factor", "factor that the mitigations of the gradient apply to its norm"
            ),
            _variable("train_gradient_norm_by_param", "norm of the gradient, after mitigations", "param"),
            _variable("learning_rate", "learning rate"),
            _variable("train_adjoint_norm_log10", "log10 of the norm of the adjoint dL/ds_t", "train_lag"),
            _variable(
                "train_horizon", "lag from which on the adjoint is below 1 % of that at lag 0", units="step"
            ),
        ]
        if self.blocks:
            found.append(_variable("spectral_radius", "spectral radius of recurrent weights", "weight_block"))
        if self.penalised:
            found.append(_variable("train_penalty", "terms that mitigations add to the loss"))
        return found

    def row(
        self, update: int, params: Params, result: BatchResult, size: float, norms: Array, rate: float
    ) -> dict[str, Any]:
        """The values of an update, from the `params` before it.

        `size`: the norm of the gradient before the mitigations of the gradient; `norms` (param,): of each
        parameter, after them.
        """
        log10 = result.adjoint_norm.log10
        found: dict[str, Any] = {
            "train_loss": result.loss,
            "train_gradient_norm": size,
            "train_gradient_factor": result.gradient.factor,
            "train_gradient_norm_by_param": norms,
            "learning_rate": rate,
            "train_adjoint_norm_log10": log10,
            "train_horizon": horizon(log10, self.lags, _LEVEL),
        }
        if self.blocks and (update - 1) % self.radius_every == 0:
            found["spectral_radius"] = [
                np.abs(np.linalg.eigvals(params[name][rows])).max() for name, rows in self.blocks.values()
            ]
        if self.penalised:
            found["train_penalty"] = result.penalty
        return found


def _variable(name: str, long_name: str, *dims: str, units: str = "1") -> Variable:
    return Variable(name, ("update", *dims), long_name, units, "float64")


def weight_blocks(cell: Cell, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[str, slice]]:
    """The square blocks of the recurrent weights: label -> (parameter, rows)."""
    found = {}
    for name in cell.recurrent_weights:
        rows, n = shapes[name]
        for i in range(rows // n):
            label = name if rows == n else f"{name}[{i * n}:{i * n + n}]"
            found[label] = (name, slice(i * n, i * n + n))
    return found

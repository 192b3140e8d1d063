"""Cells whose step sees weights that are made of the parameters, such as U - U^T."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from gradsim import Cell, Dense, Derived, Term, Weighted
from gradsim.contracts.cell import keywords
from gradsim.types import Params
from gradsim_cells.algebra import normal


class DerivedWeights(Derived):
    """A cell that makes the one inside itself: it gives `cell`, `weights` and `init_params`.

    As with any `Derived`, the weights are made once for all the steps that are taken together.
    """

    prefix = ""

    recurrent_weights: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()

    @property
    def gates(self) -> Mapping[str, tuple[str, ...]]:
        """See `Cell`; those of the cell inside are for weights that are no parameters."""
        return {}

    @abstractmethod
    def weights(self, params: Params, xp: Any) -> Params:
        """All parameters of the cell inside."""

    def derive(self, own: Params, inner: Params, xp: Any) -> Params:
        """Those weights; the cell inside has no others."""
        return self.weights(own, xp)


@dataclass(frozen=True, eq=False)
class DerivedDense(Weighted, DerivedWeights):
    """A cell that is `Dense` in its weights: it gives `weights` and `unit`, and `sums` and `terms` of those.

    Its own parameters are W, U and b of one sum, unless its `init_params` draws others; they start as it is
    told, see `Weighted`.
    """

    sums: ClassVar[int] = 1
    terms = Term("W", "x"), Term("U", "h"), Term("b", "1")
    paths = ()
    recurrent_weights = ("U",)

    @abstractmethod
    def unit(self, sums: tuple[Any, ...], old: tuple[Any, ...], xp: Any) -> Any:
        """See `Dense`."""

    @cached_property
    def cell(self) -> Cell:
        """The dense cell inside."""
        return _Inside(self.input_size, self.hidden_size, outer=self)

    def init_params(self, rng: np.random.Generator) -> Params:
        """W ~ N(0, 1 / input_size), U ~ N(0, 1 / n), and b = 0."""
        n = self.hidden_size
        return {"W": normal(rng, n, self.input_size), "U": normal(rng, n, n), "b": np.zeros(n)}


@dataclass(frozen=True, eq=False)
class _Inside(Dense):
    """The cell that `outer` describes, whose parameters are its weights."""

    name = "inside"

    outer: Any = field(kw_only=True)

    @property
    def sums(self):
        return self.outer.sums

    @property
    def terms(self):
        return self.outer.terms

    @property
    def paths(self):
        return self.outer.paths

    @cached_property
    def step_data(self):
        return keywords(self.outer.unit)

    def init_params(self, rng):
        return self.outer.weights(self.outer.init_params(rng), np)

    def unit(self, sums, old, xp, **data):
        return self.outer.unit(sums, old, xp, **data)

"""Cells whose step sees weights that are made of the parameters, such as U - U^T."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from gradsim import Cell, Dense, Derived, Initializer, Term
from gradsim.contracts.cell import keywords
from gradsim.types import Array, NonNegativeFloat, Params, PositiveInt
from gradsim_cells.algebra import normal, recurrent


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
class DerivedDense(DerivedWeights):
    """A cell that is `Dense` in its weights: it gives `weights` and `unit`, and `sums` and `terms` of those.

    Its own parameters are W, U and b of one sum, unless it gives `first_params`. `input_init` is for W and
    `bias_init` for b, in which `keeps` names the rows that belong to a gate that keeps the state.
    """

    input_size: PositiveInt = 1
    hidden_size: PositiveInt = 32
    recurrent_scale: NonNegativeFloat = field(default=1.0, kw_only=True)
    recurrent_init: Initializer | None = field(default=None, kw_only=True)
    input_init: Initializer | None = field(default=None, kw_only=True)
    bias_init: Initializer | None = field(default=None, kw_only=True)

    keeps: ClassVar[tuple[str, ...]] = ()
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
        """Those of `first_params`, with W and b as told."""
        params, n = self.first_params(rng), self.hidden_size
        if self.input_init is not None:
            w = params["W"]
            params["W"] = self.input_init.weight(rng, (len(w) // n, n, w.shape[1])).reshape(w.shape)
        if self.bias_init is not None:
            rows = len(params["b"]) // n
            keeps = [int(gate in self.keeps) for gate in self.gates.get("b", ("",) * rows)]
            params["b"] = self.bias_init.bias(rng, (rows, n), keeps).reshape(-1)
        return params

    def first_params(self, rng: np.random.Generator) -> Params:
        """W ~ N(0, 1 / input_size), U as `drawn`, and b = 0."""
        w = normal(rng, self.hidden_size, self.input_size)
        return {"W": w, "U": self.drawn(rng), "b": np.zeros(self.hidden_size)}

    def drawn(self, rng: np.random.Generator) -> Array:
        """A weight (n, n) as `recurrent_init` has it, or N(0, 1 / n), times `recurrent_scale`."""
        return self.recurrent_scale * recurrent(rng, self.recurrent_init, *2 * (self.hidden_size,))


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

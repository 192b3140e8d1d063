"""The contract of a cell whose weights start as it is told."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from gradsim.contracts.cell import Cell
from gradsim.contracts.initializer import Initializer
from gradsim.contracts.start import Start
from gradsim.errors import InputError
from gradsim.types import NonNegativeFloat, Params, PositiveInt

_Draw = Callable[[Any, np.random.Generator], Params]


def _as_told(draw: _Draw) -> _Draw:
    """An `init_params` that starts parameters as the cell is told, unless another one makes use of it."""

    @functools.wraps(draw)
    def init_params(self: Any, rng: np.random.Generator) -> Params:
        params = draw(self, rng)
        if type(self).init_params is not init_params or self._told == Start():
            return params
        factors = self.factors(params)
        self._refuse_idle(factors.values())
        found: Params = self.started(params, rng, self._told)
        return found

    return init_params


@dataclass(frozen=True, eq=False)
class Weighted(Cell):
    """A cell of `hidden_size` units, one block h unless it says otherwise, with weights W, U and biases b.

    However its `init_params` draws: what multiplies the inputs starts as `input_init` says, its
    `recurrent_weights` as `recurrent_init`, times `recurrent_scale`, and biases as `bias_init`; as the cell
    has it where there is none.
    """

    input_size: PositiveInt = 1
    hidden_size: PositiveInt = 32
    recurrent_scale: NonNegativeFloat = field(default=1.0, kw_only=True)
    recurrent_init: Initializer | None = field(default=None, kw_only=True)
    input_init: Initializer | None = field(default=None, kw_only=True)
    bias_init: Initializer | None = field(default=None, kw_only=True)

    keeps: ClassVar[tuple[str, ...]] = ()
    """The gates that keep the state where they are open, for initializers of biases."""

    admits: ClassVar[tuple[str, ...]] = ()
    """The gates that let something new into the state where they are open."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Let parameters start as the cell is told, whatever draws them."""
        super().__init_subclass__(**options)
        if "init_params" in vars(cls):
            setattr(cls, "init_params", _as_told(cls.init_params))  # noqa: B010 - mypy refuses an assignment

    @property
    def blocks(self) -> Mapping[str, int]:
        """One block, h."""
        return {"h": self.hidden_size}

    def factors(self, params: Params) -> dict[str, str]:
        """See `Cell`.

        By their names, W, U or b, or such as W_v and U1; all `recurrent_weights` multiply the state.
        """
        named = {"W": "x", "U": "h", "b": "1"}
        found = {n: named[n[0]] for n in params if re.fullmatch(r"[WUb](_\w+|\d+)?", n)}
        return found | dict.fromkeys(self.recurrent_weights, "h")

    def parts_of(self, name: str, rows: int) -> int:
        """How many gates, or other parts that are drawn by themselves, the rows of a parameter belong to."""
        return len(self.gates.get(name, ("",)))

    def keeping(self, name: str, params: Params) -> list[int]:
        """For each part of a bias: 1 for a gate that keeps the state, -1 for one that admits, or else 0."""
        gates = self.gates.get(name, ("",) * self.parts_of(name, params[name].shape[0]))
        return [(gate in self.keeps) - (gate in self.admits) for gate in gates]

    def started(self, params: Params, rng: np.random.Generator, start: Start) -> Params:
        """See `Cell`."""
        factors, found = self.factors(params), dict(params)
        keeping = {n: self.keeping(n, params) for n, factor in factors.items() if factor == "1"}
        gated = any(map(any, keeping.values()))
        for name, factor in factors.items():
            keeps = keeping.get(name)
            told = keeps if any(keeps or ()) or not gated else None
            parts = self.parts_of(name, params[name].shape[0])
            found[name] = start.parameter(rng, params[name], factor, parts, told)
        return found

    @property
    def _told(self) -> Start:
        return Start(self.recurrent_scale, self.recurrent_init, self.input_init, self.bias_init)

    def _refuse_idle(self, factors: Iterable[str]) -> None:
        """Raise where the cell is told how to start what it does not have."""
        for option, lack in self._told.lacking(factors):
            raise InputError(
                f"{type(self).__name__}: {option} would start nothing, as the cell has {lack}; leave it out"
            )

"""How weights and biases start, as a cell or a mitigation is told."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from gradsim.contracts.initializer import Initializer
from gradsim.types import Array

_OPTIONS = {"recurrent_scale": "h", "recurrent_init": "h", "input_init": "x", "bias_init": "1"}
"""What can be told, and what the parameters that it is for multiply."""

_LACKS = {"h": "no weight matrix for the state", "x": "no weights for the inputs", "1": "no biases"}
"""What a cell is without where there is nothing to tell."""


@dataclass(frozen=True)
class Start:
    """How parameters start: those that see the state, those that see the inputs, and biases.

    What is not told of stays as the cell draws it. `recurrent_scale` multiplies what sees the state, whatever
    draws it.
    """

    recurrent_scale: float = 1.0
    recurrent_init: Initializer | None = None
    input_init: Initializer | None = None
    bias_init: Initializer | None = None

    def lacking(self, factors: Iterable[str]) -> Iterator[tuple[str, str]]:
        """The options told in vain where parameters multiply `factors`, each with what there is none of."""
        known = set(factors)
        for option, factor in _OPTIONS.items():
            if getattr(self, option) not in (None, 1.0) and factor not in known:
                yield option, _LACKS[factor]

    def parameter(
        self,
        rng: np.random.Generator,
        value: Array,
        factor: str,
        parts: int | None = None,
        keeps: Sequence[int] | None = None,
    ) -> Array:
        """What a parameter starts at that the cell draws as `value`.

        `factor` is what it multiplies, see `Cell.factors`; `parts` of its rows are drawn one by one, square
        ones where that is not said; `keeps` see `Initializer.bias`.
        """
        rows, *columns = value.shape
        parts = parts or rows // columns[0]
        by_part = parts, rows // parts, *columns
        if factor == "1" and self.bias_init is not None:
            return self.bias_init.bias(rng, by_part, keeps).reshape(value.shape)
        if factor == "x" and self.input_init is not None:
            return self.input_init.weight(rng, by_part).reshape(value.shape)
        if factor != "h":
            return value
        if self.recurrent_init is not None:
            value = self.recurrent_init.weight(rng, by_part).reshape(value.shape)
        return self.recurrent_scale * value

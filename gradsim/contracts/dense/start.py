"""How the parameters of a dense cell start, where it is told."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from gradsim.contracts.dense.weights import counted
from gradsim.errors import InputError
from gradsim.types import Params

if TYPE_CHECKING:
    from gradsim.contracts.dense.cell import Dense

_STARTS = {"recurrent_scale": "h", "recurrent_init": "h", "input_init": "x", "bias_init": "1"}
"""What a cell is told, and the factor of the terms that it is for."""

_Draw = Callable[[Any, np.random.Generator], Params]


def as_told(draw: _Draw) -> _Draw:
    """An `init_params` that starts parameters as the cell is told, unless another one makes use of it."""

    @functools.wraps(draw)
    def init_params(self: Any, rng: np.random.Generator) -> Params:
        params = draw(self, rng)
        return _started(self, params, rng) if type(self).init_params is init_params else params

    return init_params


def refuse_idle(cell: Dense) -> None:
    """Raise where a cell is told how to start what it does not have."""
    for option, factor in _STARTS.items():
        if _is_told(cell, option) and not any(t.factor == factor for t in cell.terms):
            raise InputError(f"{type(cell).__name__}: {option} would start nothing; leave it out")


def _is_told(cell: Dense, option: str) -> bool:
    return getattr(cell, option) not in (None, 1.0)


def _started(cell: Dense, params: Params, rng: np.random.Generator) -> Params:
    if not any(_is_told(cell, option) for option in _STARTS):
        return params
    n, found, biases, terms = cell.units, dict(params), 0, counted(cell, params)
    seeing = {i for t in terms if t.factor != "1" for i in range(t.columns.start, t.columns.stop)}
    # What is alone in its sums, such as peephole weights, is no bias.
    terms = [t for t in terms if not seeing.isdisjoint(range(t.columns.start, t.columns.stop))]
    for name, factor in {t.param: t.factor for t in terms}.items():
        shape = params[name].shape
        r = shape[0] // n
        if factor == "1" and cell.bias_init is not None:
            gates = cell.gates.get(name, ("",) * r)
            keeps = [(gate in cell.keeps) - (gate in cell.admits) for gate in gates]
            found[name] = cell.bias_init.bias(rng, (r, n), None if biases else keeps).reshape(shape)
            biases += 1
        elif factor == "x" and cell.input_init is not None:
            found[name] = cell.input_init.weight(rng, (r, n, shape[1])).reshape(shape)
        elif factor == "h":
            if cell.recurrent_init is not None:
                found[name] = cell.recurrent_init.weight(rng, (r, n, n)).reshape(shape)
            found[name] = cell.recurrent_scale * found[name]
    return found

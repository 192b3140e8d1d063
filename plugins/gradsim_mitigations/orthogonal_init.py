"""Orthogonal initial weights."""

from __future__ import annotations

from dataclasses import dataclass

from gradsim import Mitigation, hookimpl
from gradsim.errors import InputError, unknown
from gradsim.types import PositiveFloat
from gradsim_initializers import Orthogonal


@dataclass(frozen=True, eq=False)
class OrthogonalInit(Mitigation):
    """Start each recurrent weight at scale * Q, with Q orthogonal, uniform over the orthogonal group.

    A weight of shape (r n, n) is taken as r blocks, each with its own Q. `names` says which
    parameters; by default those that the cell calls its recurrent weights.

    Saxe, McClelland & Ganguli (2014), Exact solutions to the nonlinear dynamics of learning in deep
    linear neural networks.
    """

    name = "orthogonal_init"

    scale: PositiveFloat = 1.0
    names: tuple[str, ...] | None = None

    @hookimpl(wrapper=True)
    def gradsim_params(self, cell, rng):
        params = yield
        names = cell.recurrent_weights if self.names is None else self.names
        if not names:
            raise InputError(
                f"orthogonal_init: {cell.name} has no recurrent weights; leave it out or give names"
            )
        return params | {n: self._orthogonal(n, params, rng) for n in names}

    def _orthogonal(self, name, params, rng):
        if name not in params:
            raise unknown("parameter in orthogonal_init", name, params)
        shape = params[name].shape
        if len(shape) != 2 or shape[0] % shape[1]:
            raise InputError(f"orthogonal_init: {name} should have shape (r n, n), not {shape}")
        drawn = Orthogonal().weight(rng, (shape[0] // shape[1], shape[1], shape[1]))
        return self.scale * drawn.reshape(shape)

"""Gradients without their mean."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gradsim import hookimpl
from gradsim.errors import InputError
from gradsim_mitigations.acting import OnParams


@dataclass(frozen=True, eq=False)
class GradientCentralisation(OnParams):
    """Take from the gradient of each unit's weights their mean: g_ij <- g_ij - (1 / n) sum over j of g_ij.

    It projects the gradient of a row of weights (n) onto those that sum to 0, so that the sum of the row
    stays as it is under plain gradient descent. `names` says which parameters; by default all with two or
    more axes, of which the first one counts units. A row of one weight is left alone, or would never train.

    Yong, Huang, Hua & Zhang (2020), Gradient centralization: a new optimization technique for deep neural
    networks, eq. 1.
    """

    name = "gradient_centralisation"

    def refuse(self, cell, shapes):
        super().refuse(cell, shapes)
        for name in self.names or ():
            if not _has_rows(shapes[name]):
                raise InputError(f"{self.name}: {name} has no rows of two or more weights; leave it out")

    @hookimpl(wrapper=True)
    def gradsim_gradient(self):
        gradient = yield
        chosen = self.acts_on({n: g.shape for n, g in gradient.items()})
        return {n: _centred(g) if n in chosen and _has_rows(g.shape) else g for n, g in gradient.items()}


def _has_rows(shape):
    return len(shape) >= 2 and math.prod(shape[1:]) >= 2


def _centred(g):
    return g - g.mean(axis=tuple(range(1, g.ndim)), keepdims=True)

"""Gradients without their mean."""

from __future__ import annotations

from dataclasses import dataclass

from gradsim import Mitigation, hookimpl
from gradsim_mitigations.acting import refuse_unknown


@dataclass(frozen=True, eq=False)
class GradientCentralisation(Mitigation):
    """Take from the gradient of each unit's weights their mean: g_ij <- g_ij - (1 / n) sum over j of g_ij.

    It projects the gradient of a row of weights (n) onto those that sum to 0, so that the sum of the row
    stays as it is under plain gradient descent. `names` says which parameters; by default all with two or
    more axes, of which the first one counts units. A row of one weight is left alone, or would never train.

    Yong, Huang, Hua & Zhang (2020), Gradient centralization: a new optimization technique for deep neural
    networks, eq. 1.
    """

    name = "gradient_centralisation"

    names: tuple[str, ...] | None = None

    def refuse(self, shapes):
        refuse_unknown(self, self.names, shapes)

    @hookimpl(wrapper=True)
    def gradsim_gradient(self):
        gradient = yield
        return {n: self._centred(g) if self._acts_on(n) else g for n, g in gradient.items()}

    def _acts_on(self, name):
        return self.names is None or name in self.names

    @staticmethod
    def _centred(g):
        if g.ndim < 2 or g[0].size < 2:
            return g
        return g - g.mean(axis=tuple(range(1, g.ndim)), keepdims=True)

"""Weights that are orthogonal, or nearly so, by the way they are made."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Cell, Derived, hookimpl
from gradsim.types import Probability
from gradsim_cells.exp_rnn import rotation
from gradsim_mitigations.acting import OnWeights, by_square


@dataclass(frozen=True, eq=False)
class Turning(Derived):
    """The cell that `OrthogonalWeights` makes: with exp(W - W^T) diag(s) exp(V - V^T) in place of W."""

    name = "turning"

    cell: Cell
    names: tuple[str, ...]
    margin: Probability

    def own_params(self, rng, inner):
        if not self.margin:
            return {}
        turns = {f"{n}_turn": np.zeros_like(inner[n]) for n in self.names}
        return turns | {f"{n}_stretch": np.zeros(len(inner[n])) for n in self.names}

    def derive(self, own, inner, xp):
        found = {n: self._turned(inner[n], xp) for n in self.names}
        if not self.margin:
            return found
        return {n: self._stretched(n, w, own, xp) for n, w in found.items()}

    def _turned(self, weight, xp):
        return by_square(lambda w: rotation(w - xp.matrix_transpose(w), xp), weight, xp)

    def _stretched(self, name, weight, own, xp):
        turn, n = self._turned(own[f"{name}_turn"], xp), weight.shape[1]
        sizes = 1 + self.margin * xp.tanh(0.5 * own[f"{name}_stretch"])
        parts = [slice(i, i + n) for i in range(0, weight.shape[0], n)]
        made = [(weight[part, :] * sizes[part][None, :]) @ turn[part, :] for part in parts]
        return made[0] if len(made) == 1 else xp.concat(made, axis=0)


@dataclass(frozen=True, eq=False)
class OrthogonalWeights(OnWeights):
    """Let the cell see orthogonal matrices exp(W - W^T) in place of each block W (n, n), which is trained.

    With a margin m > 0 it sees exp(W - W^T) diag(s) exp(V - V^T), of singular values s_i = 1 + 2 m
    (sigmoid(p_i) - 1/2) between 1 - m and 1 + m; V and p start at 0, as parameters of their own. Whatever the
    optimizer does, a product over T steps of a linear network has its singular values within (1 - m)^T and
    (1 + m)^T; with m = 0 they are 1. W starts as the cell draws it: only its skew-symmetric part matters, and
    W = I gives I.

    Lezcano-Casado & Martinez-Rubio (2019), Cheap orthogonal constraints in neural networks: a simple
    parametrization of the orthogonal and unitary group (exp); Vorontsov, Trabelsi, Kadoury & Pal (2017), On
    orthogonality and learning recurrent networks with long term dependencies (margin), who keep
    both factors orthogonal by steps along the Stiefel manifold, as `stiefel` does.
    """

    name = "orthogonal_weights"

    margin: Probability = 0.0

    @hookimpl(wrapper=True)
    def gradsim_cell(self):
        cell = yield
        self.refuse_params(cell, cell.init_params(np.random.default_rng(0)))
        return Turning(cell, self.acts_on(cell), self.margin)

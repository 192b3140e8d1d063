"""Noise on the weights that a cell sees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Cell, Derived, Wrapper, hookimpl
from gradsim.errors import InputError
from gradsim.types import NonNegativeFloat
from gradsim_mitigations.acting import OnParams


@dataclass(frozen=True, eq=False)
class NoisyWeights(Derived):
    """The cell that `WeightNoise` makes: with W + size N in place of W."""

    name = "noisy_weights"

    cell: Cell
    names: tuple[str, ...]
    size: NonNegativeFloat

    def own_noise(self, rng, inner, moment):
        noise = {n: self.size * rng.standard_normal(inner[n].shape) for n in self.names}
        return {n: np.zeros_like(x) for n, x in noise.items()} if moment.validating else noise

    def derive(self, own, inner, xp, **noise):
        return {n: inner[n] + noise[n] for n in self.names}


@dataclass(frozen=True, eq=False)
class WeightNoise(OnParams):
    """Let the cell see W + N(0, size^2) in place of its weights, drawn anew for each pass.

    All steps and sequences of a batch see the same noise, and the gradient is that at the noisy weights.
    `names` says which; by default all with two or more axes, which leaves biases alone. The readout has none,
    nor has a validation.

    Graves (2011), Practical variational inference for neural networks, and Graves, Mohamed & Hinton (2013),
    Speech recognition with deep recurrent neural networks, section 4, who draw once for each sequence, with
    size = 0.075. Noise that is another one at each step, as in Jim, Giles & Horne (1996), An analysis of
    noise in recurrent neural networks, is beyond a wrapper.
    """

    name = "weight_noise"
    idle = {"size": 0.0}

    size: NonNegativeFloat = 0.075

    def refuse(self, cell, task):
        while isinstance(cell, Wrapper) and not isinstance(cell, NoisyWeights):
            cell = cell.cell
        if task is not None and isinstance(cell, NoisyWeights) and cell.own_output:
            raise InputError(
                f"weight_noise: the output of {cell.cell.name} is made with weights, too, and would see them "
                "without their noise; leave it out, or take a cell whose readout sees its state"
            )

    @hookimpl(wrapper=True)
    def gradsim_cell(self):
        cell = yield
        shapes = {n: p.shape for n, p in cell.init_params(np.random.default_rng(0)).items()}
        self.refuse_none(cell, shapes)
        return NoisyWeights(cell, self.acts_on(shapes), self.size) if self.size else cell

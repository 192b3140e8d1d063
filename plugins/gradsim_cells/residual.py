"""A residual connection around any cell."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from gradsim import Cell, Wrapper, through
from gradsim.types import PositiveFloat
from gradsim_cells.lstm import LSTM


@dataclass(frozen=True, eq=False)
class Residual(Wrapper):
    """o_t = x_t + scale * o(s_t), or s_t = s_{t-1} + scale * f(s_{t-1}, x_t): what a cell does is added.

    f: the step of the cell inside; o(s_t): its output; x_t: input; o_t: output.

    ``around="layer"`` is what residual recurrent networks mostly mean: the inputs of a layer are added to its
    output, for the layer above and the readout, and the recurrence stays what it was. In a `Stack` the
    Jacobian of the outputs of one layer by those of another at the same step has the identity in it, and the
    layers inside see each other's sums; that way is the path "skip" of the stack. Where input and output
    differ in size, P (output, input) ~ N(0, 1 / input) takes the inputs across: P x_t in place of x_t.

    ``around="step"`` adds the old state instead: J_t = I + scale J_f, an explicit Euler step of length
    `scale` along f, in which "skip" is the path of I. With a constant J_f its products grow along each
    eigenvector whose eigenvalue has a positive real part.

    Wu et al. (2016), Google's neural machine translation system, eq. 6, for layers (there scale = 1); P as in
    He et al. (2016), Deep residual learning for image recognition, eq. 2; for steps Liao & Poggio (2016),
    Bridging the gaps between residual learning, recurrent neural networks and visual cortex.
    """

    name = "residual"

    cell: Cell = field(default_factory=LSTM)
    scale: PositiveFloat = 1.0
    around: Literal["layer", "step"] = "layer"

    @property
    def paths(self):
        return self.cell.paths if self.around == "layer" else _with_skip(self.cell.paths)

    @property
    def output_paths(self):
        inside = self.cell.output_paths
        return _with_skip(inside) if self.around == "layer" else inside

    @property
    def time_step(self):
        return super().time_step if self.around == "layer" else self.scale

    @property
    def own_output(self):
        return self.around == "layer" or self.cell.own_output

    def own_params(self, rng):
        rows, columns = self.output_size, self.input_size
        if self.around == "step" or rows == columns:
            return {}
        return {"P": rng.standard_normal((rows, columns)) / np.sqrt(columns)}

    def mix(self, own, state, inputs, new, xp):
        return new if self.around == "layer" else through(state, "skip") + self.scale * new

    def output(self, params, state, inputs, xp):
        inside = super().output(params, state, inputs, xp)
        if self.around == "step":
            return inside
        own, _ = self._parted(params)
        across = inputs @ own["P"].T if own else inputs
        return through(across, "skip") + self.scale * inside


def _with_skip(paths):
    return tuple(dict.fromkeys((*paths, "skip")))

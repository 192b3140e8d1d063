"""An auxiliary loss at random anchors: the state there should know the inputs around it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from gradsim import Cell, Mitigation, Penalty, Wrapper, hookimpl
from gradsim.errors import InputError
from gradsim.types import NonNegativeFloat, PositiveInt


@dataclass(frozen=True, eq=False)
class Decoding(Wrapper):
    """The cell that `AuxiliaryLoss` makes: the same steps, and a decoder D (n length, m), d beside them."""

    name = "decoding"

    cell: Cell
    owner: Mitigation

    def own_params(self, rng):
        outputs, m = self.owner.length * self.input_size, self.state_size
        return {"D": rng.standard_normal((outputs, m)) / np.sqrt(m), "d": np.zeros(outputs)}


@dataclass(frozen=True, eq=False)
class AuxiliaryLoss(Mitigation):
    """Add weight * mean of (D s_F + d - x)^2 to the loss: a decoder of the state at random anchors F.

    x (n length) are the inputs of `length` steps: those up to F, to be reconstructed, or those behind it, to
    be predicted. Each sequence has `anchors` times F of its own, uniform and all different; the mean is over
    anchors, sequences and components of x. D and d are parameters, which train along. The adjoint of this
    loss is carried back from F, as far as truncation beside it lets it: steps far from the end of a long
    sequence learn from losses nearby.

    After Trinh, Dai, Luong & Le (2018), Learning longer-term dependencies in RNNs with auxiliary losses.
    Their decoder is a recurrent network that starts from s_F; a linear one stands in its place here.
    """

    name = "auxiliary_loss"
    idle = {"weight": 0.0}

    weight: NonNegativeFloat = 1.0
    of: Literal["before", "after"] = "before"
    length: PositiveInt = 3
    anchors: PositiveInt = 1

    def draw(self, rng, steps, batch):
        places = steps - self.length + 1
        if places < self.anchors:
            raise InputError(
                f"auxiliary_loss: {self.anchors} anchors with {self.length} inputs each do not fit into "
                f"{steps} steps; use fewer, or shorter ones"
            )
        return {"first": np.argsort(rng.random((places, batch)), axis=0)[: self.anchors]}

    @hookimpl(wrapper=True)
    def gradsim_cell(self):
        cell = yield
        return Decoding(cell, self) if self.weight else cell

    @hookimpl(wrapper=True)
    def gradsim_penalty(self, trajectory, draws):
        penalty = yield
        return penalty + self._of_anchors(trajectory, draws[self]["first"]) if self.weight else penalty

    def _of_anchors(self, trajectory, first):
        cell = trajectory.cell
        while getattr(cell, "owner", None) is not self:
            cell = cell.cell
        decoder = {n: trajectory.params[cell.prefix + n] for n in ("D", "d")}
        sequence = np.arange(first.shape[1])
        # Rows of inputs: that of step t is t - 1.
        seen = trajectory.inputs[first[..., None] + np.arange(self.length), sequence[:, None]]
        time = first + (self.length if self.of == "before" else 0)
        h = trajectory.states[time, sequence]
        error = h @ decoder["D"].T + decoder["d"] - seen.reshape(*first.shape, -1)
        scale = self.weight / error.size
        slope = 2 * scale * error
        states = np.zeros_like(trajectory.states)
        np.add.at(states, (time, sequence), slope @ decoder["D"])
        gradient = {"D": np.einsum("abi,abj->ij", slope, h), "d": slope.sum(axis=(0, 1))}
        named = {cell.prefix + n: g for n, g in gradient.items()}
        return Penalty(float(scale * np.sum(error**2)), named, states)

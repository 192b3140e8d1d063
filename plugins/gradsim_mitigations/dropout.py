"""Dropout of the state that the next step sees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Interval

from gradsim import hookimpl
from gradsim_mitigations.acting import OnBlocks
from gradsim_mitigations.seeing import Seeing

Rate = Annotated[float, Interval(ge=0, lt=1)]


class Dropping(Seeing):
    """The cell that `Dropout` makes."""

    name = "dropping"

    def own_draw(self, rng, steps, batch, moment):
        data, by = super().own_draw(steps, batch), self.by
        if not moment.validating:
            units = by.units(self.cell)
            shape = 1 if by.per == "sequence" else steps, batch, len(units)
            data["keep"][:, :, units] = (rng.random(shape) >= by.rate) / (1 - by.rate)
        return data


@dataclass(frozen=True, eq=False)
class Dropout(OnBlocks):
    """Let each step see s_{t-1} * m / (1 - rate) in place of s_{t-1}, with m ~ Bernoulli(1 - rate).

    m: a mask of `blocks`, by default of those that a readout sees, such as h of an LSTM, whose c goes on as
    it is; drawn for each sequence of the batch. It is the same at all steps with ``per="sequence"``, as in
    the paper, and another one at each with ``per="step"``. In a validation nothing is dropped.

    J_t = J_f diag(m) / (1 - rate): with one mask a sequence no product leads through the units that are
    dropped, and the others keep their long paths; with one a step hardly any long path is left, as a unit is
    spared lag steps in a row with probability (1 - rate)^lag.

    Gal & Ghahramani (2016), A theoretically grounded application of dropout in recurrent neural networks,
    section 4.
    """

    name = "dropout"
    idle = {"rate": 0.0}

    rate: Rate = 0.25
    per: Literal["sequence", "step"] = "sequence"

    @hookimpl(wrapper=True)
    def gradsim_cell(self):
        cell = yield
        self.units(cell)
        return Dropping(cell, self) if self.rate else cell

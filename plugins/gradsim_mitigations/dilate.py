"""A recurrence with a longer step."""

from __future__ import annotations

from dataclasses import dataclass

from gradsim import Mitigation, hookimpl
from gradsim.types import PositiveInt
from gradsim_mitigations.remembering import Remembering


class Dilated(Remembering):
    """The cell that `Dilate` makes: s_t = f(s_{t-delay}, x_t)."""

    name = "dilated"
    scale = 0.0

    def seen(self, size):
        return slice(-size, None)


@dataclass(frozen=True, eq=False)
class Dilate(Mitigation):
    """Let each step go on from an older state: s_t = f(s_{t-delay}, x_t), with the first state before time 1.

    f: the step of the cell. The last `delay` states are carried, as further blocks. ds_t/ds_k is a product of
    (t - k) / delay step Jacobians where `delay` divides t - k, and zero elsewhere: the steps fall into
    `delay` chains that do not see each other, which the paper joins by layers of other delays.

    Chang et al. (2017), Dilated recurrent neural networks, eq. 1.
    """

    name = "dilate"
    idle = {"delay": 1}

    delay: PositiveInt = 4

    @hookimpl(wrapper=True)
    def gradsim_cell(self):
        cell = yield
        return cell if self.delay == 1 else Dilated(cell, self.delay)

"""A state that holds what it was before."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np

from gradsim import Cell, Wrapper
from gradsim.types import PositiveInt


@dataclass(frozen=True, eq=False)
class Remembering(Wrapper):
    """A cell whose state holds the last `delay` states s_{t-1}, ..., s_{t-delay} of the one inside.

    A concrete one says in `new` what becomes of the first and the last of them. Of those of
    the cell inside, an older block is called such as `dilated1_h_1`, with the number of steps behind it.
    """

    cell: Cell
    delay: PositiveInt

    @property
    def blocks(self):
        older = {
            f"{self.prefix}{n}_{d}": size
            for d in range(1, self.delay)
            for n, size in self.cell.blocks.items()
        }
        return {**self.cell.blocks, **older}

    def initial_state(self):
        return np.tile(self.cell.initial_state(), self.delay)

    def output(self, params, state, inputs, xp):
        return self.cell.output(params, state[..., : self.cell.state_size], inputs, xp)

    @property
    def own_output(self):
        return self.cell.own_output

    @abstractmethod
    def new(self, inside, newest, oldest, xp):
        """The state s_t: `inside` is the step of the cell inside, of a state."""

    def step(self, params, state, inputs, xp, **data):
        m = self.cell.state_size

        def inside(s):
            return self.cell.step(params, s, inputs, xp, **self._inside(data))

        new = self.new(inside, state[..., :m], state[..., -m:], xp)
        return new if self.delay == 1 else xp.concat((new, state[..., :-m]), axis=-1)

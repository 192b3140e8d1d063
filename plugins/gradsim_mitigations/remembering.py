"""A state that holds what it was before."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np

from gradsim import Cell, Wrapper, through
from gradsim.types import PositiveInt


@dataclass(frozen=True, eq=False)
class Remembering(Wrapper):
    """A cell whose state holds the last `delay` states s_{t-1}, ..., s_{t-delay} of the one inside.

    s_t = f(seen) + scale s_{t-delay}, with f the step of the cell inside, which goes on from what it has
    `seen`: one of those states. A concrete one says which, and has a `scale`. An older block of the cell
    inside is called such as `dilated1_h_1`, with the number of steps behind it.

    The derivatives are those of the cell inside, between the states that it leads from and to, beside those
    of states that move on by one place.
    """

    cell: Cell
    delay: PositiveInt

    @abstractmethod
    def seen(self, size):
        """Where the state that the cell inside goes on from lies among `delay` of this size."""

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

    def step(self, params, state, inputs, xp, **data):
        m = self.cell.state_size
        new = self.cell.step(params, state[..., self.seen(m)], inputs, xp, **data)
        if self.scale:
            new = new + self.scale * through(state[..., -m:], "skip")
        return new if self.delay == 1 else xp.concat((new, state[..., :-m]), axis=-1)

    @property
    def free(self):
        """Its derivatives are only quicker ones."""
        return self.cell.free

    def step_jacobian(self, params, state, inputs, **data):
        inner = self.cell.step_jacobian(params, self._seen(state), inputs, **data)
        k = inner.shape[-1]  # of each group; the groups lie side by side in older states, too
        found = np.zeros((*inner.shape[:-2], self.delay * k, self.delay * k), dtype=inner.dtype)
        new, older = np.arange(k), np.arange((self.delay - 1) * k)
        found[..., :k, self.seen(k)] = inner
        found[..., new, new - k] += self.scale
        found[..., older + k, older] = 1
        return found

    def state_vjp(self, params, state, inputs, cotangent, **data):
        m = self.cell.state_size
        new = cotangent[..., :m]
        inner = self.cell.state_vjp(params, self._seen(state), inputs, new, **data)
        return self._placed(inner, np.concatenate((cotangent[..., m:], self.scale * new), axis=-1))

    def params_vjp(self, params, state, inputs, cotangent, **data):
        new = cotangent[..., : self.cell.state_size]
        return self.cell.params_vjp(params, self._seen(state), inputs, new, **data)

    def bilinear_vjp(self, params, state, inputs, left, right, **data):
        new, seen = left[..., : self.cell.state_size], self._seen(right)
        found, inner = self.cell.bilinear_vjp(params, self._seen(state), inputs, new, seen, **data)
        return found, self._placed(inner, np.zeros_like(state))

    def jacobian_vjp(self, params, state, inputs, cotangent, **data):
        k = cotangent.shape[-1] // self.delay
        inside = cotangent[..., :k, self.seen(k)]
        found, inner = self.cell.jacobian_vjp(params, self._seen(state), inputs, inside, **data)
        return found, self._placed(inner, np.zeros_like(state))

    def _seen(self, state):
        return state[..., self.seen(self.cell.state_size)]

    def _placed(self, inner, rest):
        """What goes back by way of the cell inside, added to the rest."""
        rest[..., self.seen(self.cell.state_size)] += inner
        return rest

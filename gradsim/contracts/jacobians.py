"""Step Jacobians of a range of steps, and how far losses reach back through them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property

import numpy as np

from gradsim.contracts.trajectory import step_rows
from gradsim.types import Array


class Jacobians:
    """What carries the adjoint back through some steps.

    Parameters
    ----------
    steps
        The numbers of the steps.
    blocks
        Shape (steps, batch, g, k, k); or a function that makes them when they are first read.
    reach
        Shape (steps,), int: the earliest state that the loss at each step reaches; 0 is all the way, as
        without it. The loss at step s acts on state k only if k >= reach.
    own
        Whether these are the Jacobians of the cell's own step, so that its own way back will do.
    """

    def __init__(
        self,
        steps: range,
        blocks: Array | Callable[[], Array],
        reach: Array | None = None,
        *,
        own: bool = False,
    ) -> None:
        self.steps, self.own = steps, own
        self.reach = np.zeros(len(steps), dtype=np.int64) if reach is None else np.asarray(reach)
        self._given = blocks

    @cached_property
    def blocks(self) -> Array:
        """Shape (steps, batch, g, k, k)."""
        return self._given() if callable(self._given) else self._given

    def changed(self, change: Callable[[Array], Array]) -> Jacobians:
        """Others in their place, which `change` makes of the blocks when they are read."""
        return Jacobians(self.steps, lambda: change(self.blocks), self.reach)

    def reaching(self, earliest: Array) -> Jacobians:
        """The same, with the loss at each step reaching no state before `earliest`, shape (steps,)."""
        reach = np.maximum(self.reach, earliest)
        return Jacobians(self.steps, lambda: self.blocks, reach, own=self.own)

    def same_as(self, given: Jacobians) -> bool:
        """Whether these, made of others that were given, have not changed them. Makes none of the others."""
        if self.own:
            return True
        blocks = self.blocks
        return "blocks" in vars(given) and np.array_equal(blocks, given.blocks)

    @property
    def shown(self) -> Jacobians:
        """The same as a record of the run: zero where not even the loss at the same step passes."""
        beyond = self.reach >= np.array(self.steps)
        if not beyond.any():
            return self
        return self.changed(lambda blocks: np.where(beyond[:, None, None, None, None], 0, blocks))

    @property
    def region(self) -> Mapping[str, slice]:
        """Where these steps lie in the dataset."""
        return {"step": step_rows(self.steps)}

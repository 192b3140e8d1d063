"""What mitigations refuse, all of it told at once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from gradsim.contracts.cell import Cell
from gradsim.contracts.hooks import RunHooks
from gradsim.contracts.mitigation import Mitigation
from gradsim.contracts.plugin import call_with, calling
from gradsim.contracts.promises import initial_params
from gradsim.contracts.task import Task
from gradsim.engine.loss import init_readout
from gradsim.errors import GradsimError, InputError, UnknownNameError


class Refusals:
    """What is wrong with some mitigations, until it is told."""

    def __init__(self) -> None:
        self._found: dict[Mitigation, GradsimError] = {}

    def __contains__(self, mitigation: Mitigation) -> bool:
        return mitigation in self._found

    @contextmanager
    def of(self, mitigation: Mitigation) -> Iterator[None]:
        """Keep what this one refuses; its message names it, one way or other."""
        try:
            yield
        except (InputError, UnknownNameError) as error:
            named = re.search(rf"\b{re.escape(mitigation.name)}\b", str(error))
            self._found[mitigation] = error if named else type(error)(f"{mitigation.name}: {error}")

    def ask(
        self, hooks: RunHooks, cell: Cell, shapes: Mapping[str, tuple[int, ...]], task: Task | None
    ) -> None:
        """Ask all mitigations that have not refused anything yet."""
        for mitigation in hooks.mitigations:
            if mitigation not in self:
                with self.of(mitigation), calling(mitigation, "refuse", shapes):
                    call_with(mitigation.refuse, cell=cell, shapes=shapes, task=task)

    def tell(self) -> None:
        """Raise what was refused, if anything was: one as it is, several a line each.

        Raises
        ------
        InputError, UnknownNameError
            The latter if all that was refused are names.
        """
        errors = list(self._found.values())
        if len(errors) == 1:
            raise errors[0]
        if errors:
            unknown_only = all(isinstance(error, UnknownNameError) for error in errors)
            lines = "\n  ".join([f"{len(errors)} mitigations do not fit:", *map(str, errors)])
            raise (UnknownNameError if unknown_only else InputError)(lines)


def refuse_together(hooks: RunHooks, cell: Cell, task: Task | None) -> None:
    """Where some mitigations do not change a cell: raise what they and all others refuse.

    The others are asked as if these were left out.
    """
    refusals, rng = Refusals(), np.random.default_rng(0)
    for mitigation in hooks.mitigations:
        with refusals.of(mitigation):
            cell = RunHooks([mitigation])("gradsim_cell", cell=cell)
    params = {**initial_params(cell, rng), **(init_readout(cell, task, rng) if task else {})}
    refusals.ask(hooks, cell, {n: np.shape(p) for n, p in params.items()}, task)
    refusals.tell()

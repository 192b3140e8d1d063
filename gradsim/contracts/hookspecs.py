"""Every hook there is.

Registration hooks are called once a process, on all installed plugin packages; each returns a list
of classes. Run hooks are called during one run, on its own manager, which holds only the mitigations
chosen for it, in the order written. The core gives the first result; a mitigation *wraps* it
(``@gradsim.hookimpl(wrapper=True)``): ``result = yield``, then ``return`` the changed result.
A wrapper must return; arguments are read-only; an implementation names only the arguments it needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pluggy

from gradsim.types import Array, Params

if TYPE_CHECKING:
    from gradsim.contracts.cell import Cell
    from gradsim.contracts.mitigation import BackwardJacobian, Draws, Mitigation, Pass, Penalty
    from gradsim.contracts.optimizer import Optimizer, Schedule
    from gradsim.contracts.recorder import Recorder
    from gradsim.contracts.task import Task

hookspec = pluggy.HookspecMarker("gradsim")


@hookspec
def gradsim_register_cells() -> list[type[Cell]]:
    """The cells of this package."""


@hookspec
def gradsim_register_mitigations() -> list[type[Mitigation]]:
    """The mitigations of this package."""


@hookspec
def gradsim_register_tasks() -> list[type[Task]]:
    """The tasks of this package."""


@hookspec
def gradsim_register_recorders() -> list[type[Recorder]]:
    """The recorders of this package."""


@hookspec
def gradsim_register_optimizers() -> list[type[Optimizer]]:
    """The optimizers of this package."""


@hookspec
def gradsim_register_schedules() -> list[type[Schedule]]:
    """The learning-rate schedules of this package."""


@hookspec(firstresult=True)
def gradsim_prepare_cell(cell: Cell) -> Cell:
    """Before anything is drawn: the cell to run."""


@hookspec(firstresult=True)
def gradsim_init_params(cell: Cell, rng: np.random.Generator) -> Params:
    """Once, unless the run is given parameters: the initial parameters."""


@hookspec(firstresult=True)
def gradsim_backward_jacobian(
    run: Pass, steps: range, jacobian: Array, measured: Mapping[str, Array], draws: Draws
) -> BackwardJacobian:
    """For each range of steps, after the raw Jacobians are known: what carries the adjoint back.

    `jacobian`, shape (steps, batch, g, k, k), is the raw one; `measured` holds the raw results of the
    recorders that the mitigations require, by variable name. An implementation that changes only how far
    losses reach returns ``result.reaching(...)`` and does without `jacobian`: then none need be made.
    """


@hookspec(firstresult=True)
def gradsim_backward_step(run: Pass, time: int, adjoint: Array, draws: Draws) -> Array:
    """At each time, from the last back: the adjoint (..., batch, m) that acts at this time and earlier."""


@hookspec(firstresult=True)
def gradsim_penalty(
    run: Pass, adjoint: Array, jacobian: Array, measured: Mapping[str, Array], draws: Draws
) -> Penalty:
    """Once, after the raw backward pass and before the effective one: the terms added to the loss.

    `adjoint`, shape (time, batch, m), and `jacobian`, shape (step, batch, g, k, k), are raw; each is
    computed only if an implementation asks for it. `measured` is as in `gradsim_backward_jacobian`.
    """


@hookspec(firstresult=True)
def gradsim_backward(run: Pass, gradient: Params, draws: Draws) -> Params:
    """Once, after the effective backward pass: the gradient, penalties and readout included."""

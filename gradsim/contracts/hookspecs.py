"""Every hook there is.

Registration hooks are called once a process, on all installed plugin packages; each returns a list
of classes. Run hooks are called during one run, on its own manager, which holds only the mitigations
chosen for it. Each is a phase of the run and is named after what it hands on; phases come in the order of
this page, and within one the mitigations act in the order written. The core gives the first result; a
mitigation *wraps* it (``@gradsim.hookimpl(wrapper=True)``): ``result = yield``, then ``return`` the changed
result. A wrapper must return; arguments are read-only; an implementation names only the arguments it needs.

Of the arguments, `cell` is the one that runs (in `gradsim_cell` the one so far), `draws[self]` what the
mitigation drew, `measured[self]` the raw results that it requires, `moment` says where in a training the pass
lies and what the mitigation remembers, `params` holds all parameters, the readout's included, and `episode`
is what the task drew (None without a task).
"""

from __future__ import annotations

import numpy as np
import pluggy

from gradsim.contracts.cell import Cell
from gradsim.contracts.initializer import Initializer
from gradsim.contracts.jacobians import Jacobians
from gradsim.contracts.layout import Layout
from gradsim.contracts.mitigation import Draws, Measured, Mitigation, Penalty
from gradsim.contracts.moment import Moment
from gradsim.contracts.optimizer import Optimizer, Schedule
from gradsim.contracts.recorder import Recorder
from gradsim.contracts.task import Episode, Task
from gradsim.contracts.trajectory import Trajectory
from gradsim.types import Array, Params, StepData

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


@hookspec
def gradsim_register_initializers() -> list[type[Initializer]]:
    """The initializers of this package."""


@hookspec
def gradsim_register_layouts() -> list[type[Layout]]:
    """The layouts of weights of this package."""


@hookspec(firstresult=True)
def gradsim_cell(cell: Cell) -> Cell:
    """Once, before anything is drawn: the cell to run."""


@hookspec(firstresult=True)
def gradsim_params(cell: Cell, inputs: Array, rng: np.random.Generator) -> Params:
    """Once, unless the run is given parameters: the first parameters of the cell.

    `inputs` (steps, batch, input) are those of the run, in a training those of its first update. A mitigation
    with this hook alone is refused where parameters are given.
    """


@hookspec(firstresult=True)
def gradsim_step_data(
    cell: Cell, step_data: StepData, inputs: Array, episode: Episode | None, draws: Draws, moment: Moment
) -> StepData:
    """At each pass, before the unroll: what varies by step, named arrays (steps, batch, ...).

    They are all that there is, the task's targets and weights among it; the cell takes what its step asks
    for by name. What the cell does not ask for is dropped, and for a cell that asks for nothing the hook is
    not called. It is called in every pass. To be validated it has to name the `moment`, and what forces or
    drops is off where ``moment.validating``: there, no state may depend on the targets.
    """


@hookspec(firstresult=True)
def gradsim_jacobians(
    trajectory: Trajectory, jacobians: Jacobians, measured: Measured, draws: Draws, moment: Moment
) -> Jacobians:
    """For each range of steps, on the way back: what carries the adjoint through them.

    `jacobians` are the raw ones. An implementation that changes only how far losses reach returns
    ``result.reaching(...)``: then none need be made. `trajectory` is that of these steps.
    """


@hookspec(firstresult=True)
def gradsim_adjoint(trajectory: Trajectory, time: int, adjoint: Array, draws: Draws, moment: Moment) -> Array:
    """At each time, from the last back: the adjoint (batch, m) that acts at this time and earlier.

    `trajectory` is that of the steps around this time.
    """


@hookspec(firstresult=True)
def gradsim_contributions(
    trajectory: Trajectory, contributions: Params, draws: Draws, moment: Moment
) -> Params:
    """For each range of steps, on the way back: what each step adds to the gradient, (steps, *param).

    Those of the readout are among them. `trajectory` is that of these steps.
    """


@hookspec(firstresult=True)
def gradsim_rule(
    trajectory: Trajectory,
    direct: Array,
    errors: Array | None,
    params: Params,
    draws: Draws,
    moment: Moment,
) -> Params | None:
    """Once, in place of the backward pass: the gradient of the parameters of the cell; None without a rule.

    `trajectory` is that of the whole run, `direct` (time, batch, m) the derivative of the loss at each time
    with respect to the state there, and `errors` (time, batch, output) that with respect to what the task
    looks at: what the readout says, or the output; None without a task. One mitigation may put a rule in its
    place, and none beside it may change what the backward pass would do.
    """


@hookspec(firstresult=True)
def gradsim_penalty(
    cell: Cell,
    trajectory: Trajectory,
    params: Params,
    episode: Episode | None,
    adjoint: Array,
    jacobians: Jacobians,
    measured: Measured,
    draws: Draws,
    moment: Moment,
) -> Penalty:
    """Once, before the effective backward pass: the terms added to the loss.

    `trajectory` is that of the whole run; `adjoint`, shape (time, batch, m), and `jacobians`, of all steps,
    are raw; each is computed only if an implementation asks for it.
    """


@hookspec(firstresult=True)
def gradsim_gradient(
    gradient: Params,
    params: Params,
    episode: Episode | None,
    trajectory: Trajectory,
    draws: Draws,
    moment: Moment,
) -> Params:
    """Once, after the effective backward pass: the gradient, penalties and readout included."""


@hookspec(firstresult=True)
def gradsim_update(
    cell: Cell, params: Params, before: Params, gradient: Params, draws: Draws, moment: Moment
) -> Params:
    """Once an update of a training, after the optimizer's step: the parameters, readout included.

    `before` are those before the step, `gradient` what the optimizer was given. Here, as in every hook of a
    pass that learns, ``moment.remember(self, ...)`` keeps arrays for the updates that follow.
    """

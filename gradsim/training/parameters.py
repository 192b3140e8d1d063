"""What `train` takes; see `gradsim.run.parameters`."""

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge

from gradsim.run.parameters import (
    ComputingParameters,
    Count,
    LaunchParameters,
    RunParameters,
    parameter,
    parameters,
)

if TYPE_CHECKING:
    from gradsim.contracts.optimizer import Optimizer
    from gradsim.contracts.task import Task
    from gradsim.training.live import Live
    from gradsim.training.settings import Probe, Stopping, Validation

Report = Callable[[Mapping[str, Any]], None]
"""Is told what happens: mappings of plain values with an "event"."""


@parameters
class TrainingParameters(RunParameters):
    """What decides the numbers of a training."""

    task: "Task" = parameter(
        kw_only=False, of="gradsim.contracts.task:Task", doc="What the cell and a linear readout learn."
    )
    optimizer: "Optimizer" = parameter(
        of="gradsim.contracts.optimizer:Optimizer",
        doc="What turns gradients into updates, for example ``Adam(learning_rate=1e-3)``.",
    )
    updates: Count | None = parameter(
        default=None, doc="How long: so many updates of the parameters. Give updates or epochs."
    )
    epochs: Count | None = parameter(default=None, doc="How long: so many passes over a finite task.")
    batch: Count = parameter(default=32, doc="Sequences in an update.")
    stateful: bool = parameter(
        default=False,
        doc="""Carry the state of each sequence on to the one that follows it. This is truncated
            backpropagation through time over a long stream, which a finite task with consecutive sequences
            is cut into `batch` of.""",
    )
    watch: bool = parameter(
        default=True,
        doc="""Note at every update what costs next to nothing. That is: loss, norms of gradient and
            adjoint, horizon, spectral radius, learning rate; dim `update`.""",
    )
    record: "Probe | Mapping[str, Any] | None" = parameter(
        default=None,
        of="gradsim.training.settings:Probe",
        doc="""A `Probe`, or a dict such as ``{"every": 100, "recorders": ["product_norm"], "batch": 4}``:
            recorders of a simulation, on the same sequences every time; dim `probe_update`.""",
    )
    validate: "Validation | Mapping[str, Any] | None" = parameter(
        default=None,
        of="gradsim.training.settings:Validation",
        doc='A `Validation`, or a dict such as ``{"every": 100}``; dim `validation_update`.',
    )
    stop: "Stopping | Mapping[str, Any] | None" = parameter(
        default=None,
        of="gradsim.training.settings:Stopping",
        doc="""A `Stopping`, or a dict such as ``{"patience": 5}`` or ``{"score_above": 0.99}``: an early
            end.""",
    )


@parameters
class FollowingParameters(ComputingParameters):
    """How a training is followed, and gone on with."""

    allow_changed: bool = parameter(
        default=False, doc="Go on though the arguments or the code have changed since it began."
    )
    checkpoint_seconds: Annotated[float, Ge(0)] = parameter(
        default=30.0, doc="With a run folder: keep what is needed to go on at least so often."
    )
    report: Report | None = parameter(
        default=None,
        key="",
        doc="""Called with what happens, dicts with an "event": "update" and its loss, "validation",
            "probe", "checkpoint".""",
    )


@parameters
class TrainingLaunchParameters(LaunchParameters, FollowingParameters):
    """How a training is launched."""

    resume: bool = parameter(
        default=False,
        doc="""Go on with the run in `store` where its last checkpoint was made. The result is that of a
            run that was never interrupted. A run that was begun with other arguments or other code is
            refused unless `allow_changed`. A complete one is opened; where there is none, one begins.""",
    )


@parameters
class TrainParameters(TrainingLaunchParameters, TrainingParameters):
    """What `train` takes."""


@parameters
class LiveLaunchParameters(TrainingLaunchParameters):
    """What `PreparedTraining.run` takes."""

    live: "Live | None" = parameter(
        default=None,
        key="",
        of="gradsim.training.live:Live",
        doc="A figure that is drawn anew as the training goes on.",
    )


@parameters
class ResumeParameters(FollowingParameters):
    """What `resume` takes."""

    path: str | os.PathLike[str] = parameter(kw_only=False, key="", doc="The run folder.")

"""The verb: train a cell, and record how gradients travel through time meanwhile."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, DTypeLike

from gradsim.contracts.cell import Cell
from gradsim.contracts.hooks import RunHooks
from gradsim.contracts.mitigation import Mitigation
from gradsim.contracts.optimizer import Optimizer
from gradsim.contracts.plugin import Plugin
from gradsim.contracts.task import FiniteTask, Task
from gradsim.data import schema
from gradsim.data.code import fingerprints
from gradsim.errors import InputError
from gradsim.run.arguments import Seed, Streams, checked_params, chosen_recorders, float_dtype, prepared_cell
from gradsim.run.setup import Model
from gradsim.training.batches import Batches
from gradsim.training.course import PART, Course
from gradsim.training.loop import Report
from gradsim.training.prepared import PreparedTraining
from gradsim.training.settings import Probe, Stopping, Validation, setting


def train(
    cell: Cell,
    task: Task,
    *,
    optimizer: Optimizer,
    updates: int | None = None,
    epochs: int | None = None,
    batch: int = 32,
    mitigations: Sequence[Mitigation] = (),
    stateful: bool = False,
    watch: bool = True,
    record: Probe | Mapping[str, Any] | None = None,
    validate: Validation | Mapping[str, Any] | None = None,
    stop: Stopping | Mapping[str, Any] | None = None,
    params: Mapping[str, ArrayLike] | None = None,
    rng: Seed = 0,
    dtype: DTypeLike = "float64",
    store: str | os.PathLike[str] | None = None,
    force: bool = False,
    resume: bool = False,
    allow_changed: bool = False,
    checkpoint_seconds: float = 30.0,
    threads: int | None = None,
    memory: float | None = None,
    progress: bool | None = None,
    report: Report | None = None,
) -> xr.Dataset:
    """Train a cell and a linear readout on a task, and record how gradients travel through time meanwhile.

    Parameters
    ----------
    cell, task
        What is trained on what.
    optimizer
        What turns gradients into updates, for example ``Adam(learning_rate=1e-3)``.
    updates, epochs
        How long: give one. An epoch is one pass over a finite task.
    batch
        Sequences in an update.
    mitigations
        Applied in this order, to the run of every update.
    stateful
        Carry the state of each sequence on to the one that follows it: truncated backpropagation through
        time over a long stream, which a finite task with consecutive sequences is cut into `batch` of.
    watch
        Note at every update what costs next to nothing: loss, norms of gradient and adjoint, horizon,
        spectral radius, learning rate; dim `update`.
    record
        A `Probe`, or a dict such as ``{"every": 100, "recorders": ["product_norm"], "batch": 4}``:
        recorders of a simulation, on the same sequences every time; dim `probe_update`.
    validate
        A `Validation`, or a dict such as ``{"every": 100}``; dim `validation_update`.
    stop
        A `Stopping`, or a dict such as ``{"patience": 5}`` or ``{"score_above": 0.99}``: an early end.
    params
        Named parameters to start from, instead of freshly drawn ones.
    rng, dtype, threads, memory, progress
        As in `simulate`. Neither the number of threads nor the memory changes a number.
    store, force
        A run folder to write into, with a checkpoint at least every `checkpoint_seconds`.
    resume, allow_changed
        Go on with the run in `store` where its last checkpoint was made: the result is that of a run that
        was never interrupted. A run that was begun with other arguments or other code is refused unless
        `allow_changed`. A complete one is opened; where there is none, one begins.
    report
        Called with what happens, dicts with an "event": "update" and its loss, "validation", "probe",
        "checkpoint".

    Returns
    -------
    xarray.Dataset
        With the trained parameters as `trained_<param>`; see `trained_params`.

    Raises
    ------
    InputError, UnknownNameError
        An argument does not fit.
    DivergedError
        NaN or infinity appeared; says at which update, in which parameter and step it began. With a store
        the parameters before that update are kept in its checkpoint.
    ChangedRunError
        The run to resume was begun differently.
    BudgetError, PluginError, StoreError
        As in `simulate`.
    """
    prepared = prepare_training(
        cell,
        task,
        optimizer=optimizer,
        updates=updates,
        epochs=epochs,
        batch=batch,
        mitigations=mitigations,
        stateful=stateful,
        watch=watch,
        record=record,
        validate=validate,
        stop=stop,
        params=params,
        rng=rng,
        dtype=dtype,
    )
    return prepared.run(
        store,
        force=force,
        resume=resume,
        allow_changed=allow_changed,
        checkpoint_seconds=checkpoint_seconds,
        threads=threads,
        memory=memory,
        progress=progress,
        report=report,
    )


def prepare_training(
    cell: Cell,
    task: Task,
    *,
    optimizer: Optimizer,
    updates: int | None = None,
    epochs: int | None = None,
    batch: int = 32,
    mitigations: Sequence[Mitigation] = (),
    stateful: bool = False,
    watch: bool = True,
    record: Probe | Mapping[str, Any] | None = None,
    validate: Validation | Mapping[str, Any] | None = None,
    stop: Stopping | Mapping[str, Any] | None = None,
    params: Mapping[str, ArrayLike] | None = None,
    rng: Seed = 0,
    dtype: DTypeLike = "float64",
) -> PreparedTraining:
    """Check all arguments of a training, without starting it; see `train`."""
    _of_kind("task", task, Task)
    _of_kind("optimizer", optimizer, Optimizer)
    kind, streams, hooks = float_dtype(dtype), Streams(rng), RunHooks(mitigations)
    prepared = prepared_cell(cell, hooks)
    batch = _counted("batch", batch)
    updates, epochs = (
        _counted(n, v) if v is not None else v for n, v in (("updates", updates), ("epochs", epochs))
    )
    batches = Batches(task, batch, streams, stateful)
    probe, validation = setting(Probe, record), setting(Validation, validate)
    stopping = setting(Stopping, stop) or Stopping()
    _check_stopping(task, validation, stopping)
    own, readout = checked_params(prepared, task, params, hooks, streams, kind)
    model = Model(prepared, task, mitigations, hooks, kind)
    recorders = chosen_recorders(probe.recorders, hooks) if probe else []
    settings = {
        "updates": updates,
        "epochs": epochs,
        "batch": batch,
        "stateful": stateful,
        "watch": watch,
        "optimizer": {"name": optimizer.name, **optimizer.parameters},
        "record": _settled(probe),
        "validate": _settled(validation),
        "stop": stopping.parameters,
        "given_params": _digest(params),
    }
    course = Course(
        model,
        task,
        optimizer,
        _update_count(updates, epochs, batches),
        batches,
        streams,
        own,
        readout,
        watch,
        probe,
        recorders,
        validation,
        stopping,
        {},
    )
    provenance = schema.provenance(
        course.problem,
        task=task,
        mitigations=mitigations,
        phases=hooks.phases,
        given_cell=cell,
        record=[r.full_name for r in recorders],
        seed=streams.description,
    )
    code = fingerprints([cell, task, optimizer, *mitigations, *recorders])
    course.provenance.update({**provenance, "training": settings, "code": code})
    return PreparedTraining(course)


def _settled(given: Plugin | None) -> dict[str, Any] | None:
    """A setting as `setting` takes it."""
    return None if given is None else given.parameters


def _counted(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise InputError(f"{name} should be an int, 1 or more (got {value!r})")
    return int(value)


def _update_count(updates: int | None, epochs: int | None, batches: Batches) -> int:
    if (updates is None) == (epochs is None):
        raise InputError("give updates or epochs: exactly one of the two")
    return updates if updates is not None else batches.updates(epochs or 0)


def _check_stopping(task: Task, validation: Validation | None, stopping: Stopping) -> None:
    given = [name for name, value in stopping.parameters.items() if value is not None]
    if given and validation is None:
        raise InputError(
            f"stop: {given[0]} is judged by validations; say when, such as validate={{'every': 100}}"
        )
    if stopping.score_above is not None and task.metric is None:
        raise InputError(f"stop: the task {task.name} has no score; use loss_below instead of score_above")
    if validation and isinstance(task, FiniteTask) and PART not in task.sequences:
        raise InputError(
            f"validate: the task {task.name} has no part {PART!r}, only {', '.join(task.sequences)}; "
            f"leave it out, or let the task keep sequences for it (see `gradsim show {task.name}`)"
        )


def _digest(params: Mapping[str, ArrayLike] | None) -> str | None:
    """A fingerprint of given parameters, which are too many to be written down."""
    if params is None:
        return None
    found = hashlib.sha256()
    for name in sorted(params):
        found.update(name.encode() + np.ascontiguousarray(params[name]).tobytes())
    return found.hexdigest()[:16]


def _of_kind(name: str, given: Any, kind: type) -> None:
    if not isinstance(given, kind):
        call = "; call the class" if isinstance(given, type) else ""
        raise InputError(f"{name} should be a {kind.__name__} object, got {given!r}{call}")

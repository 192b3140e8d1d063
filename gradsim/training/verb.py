"""The verb: train a cell, and record how gradients travel through time meanwhile."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

import xarray as xr

from gradsim.contracts.cell import Cell
from gradsim.contracts.episodes import refuse_wrong_task
from gradsim.contracts.hooks import RunHooks
from gradsim.contracts.mitigation import Mitigation
from gradsim.contracts.optimizer import slot_mistakes
from gradsim.contracts.plugin import described
from gradsim.contracts.task import FiniteTask, Task
from gradsim.data import schema
from gradsim.data.code import fingerprints
from gradsim.errors import InputError, PluginError
from gradsim.run.arguments import (
    checked_params,
    chosen_recorders,
    fitting_inputs,
    float_dtype,
    prepared_cell,
)
from gradsim.run.given import drawn, read
from gradsim.run.parameters import RunParameters, listed, verb
from gradsim.run.seeds import Seeds
from gradsim.run.setup import Model
from gradsim.training.batches import Batches
from gradsim.training.parameters import TrainingParameters, TrainParameters
from gradsim.training.prepared import PreparedTraining
from gradsim.training.settings import Probe, Setting, Stopping, Validation, setting
from gradsim.training.setup import PART, TrainingSetup
from gradsim.types import Array, Params


@verb(TrainParameters)
def train(given: TrainParameters) -> xr.Dataset:
    """Train a cell and a linear readout on a task, and record how gradients travel through time meanwhile.

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
    return _prepared(given).launch(given)


@verb(TrainingParameters)
def prepare_training(given: TrainingParameters) -> PreparedTraining:
    """Check all arguments of a training, without starting it; see `train`."""
    return _prepared(given)


def _prepared(given: TrainingParameters) -> PreparedTraining:
    cell, task, optimizer, mitigations = given.cell, given.task, given.optimizer, given.mitigations
    refuse_wrong_task(task)
    for mistake in slot_mistakes(optimizer):
        raise PluginError(f"{optimizer!r}: {mistake}")
    kind, seeds, hooks = float_dtype(given.dtype), Seeds(given.rng), RunHooks(mitigations)
    prepared = prepared_cell(cell, hooks, task)
    probe, validation = setting(Probe, given.record), setting(Validation, given.validate)
    stopping = setting(Stopping, given.stop) or Stopping()
    _check_stopping(task, validation, stopping)
    given = replace(
        given,
        record=probe,
        validate=validation,
        stop=stopping,
    )
    batches = Batches(task, given.batch, seeds, given.stateful)
    arrays = read(params=given.params)
    params: Params | None = arrays.get("params")

    def first_inputs() -> Array:
        return fitting_inputs(prepared, batches.episode(1).inputs, kind)

    own, readout = checked_params(prepared, task, params, hooks, seeds, kind, first_inputs)
    model = Model(cell, prepared, task, hooks, kind)
    recorders = chosen_recorders(probe.recorders, hooks) if probe else []
    updates = _update_count(given, batches)
    setup = TrainingSetup(given, model, updates, batches, seeds, own, readout, recorders, {})
    if not len(setup.start[setup.moving]):
        raise InputError(
            f"nothing to train: {prepared!r} leaves all parameters alone, and there is no readout"
        )
    setup.first_pass()  # so that what it refuses is refused before there is a folder
    provenance = schema.provenance(
        setup.problem,
        task=task,
        hooks=hooks,
        given_cell=cell,
        record=[r.full_name for r in recorders],
        seed=seeds.description,
        drawn=drawn([*seeds.used(), *_drawn_later(model)], own, readout, params),
        given=described(arrays),
        snapshots=given.snapshots,
    )
    code = fingerprints([cell, task, optimizer, *mitigations, *recorders])
    setup.provenance.update({**provenance, "training": _settings(given), "code": code})
    return PreparedTraining(setup, setup.derivation(given.derivatives))


def _settings(given: TrainingParameters) -> dict[str, Any]:
    """As plain values, what no other run has; `resume` reads them."""
    own = listed(TrainingParameters).keys() - listed(RunParameters).keys()
    values = {name: getattr(given, name) for name in listed(TrainingParameters) if name in own}
    return {n: v.parameters if isinstance(v, Setting) else described(v) for n, v in values.items()}


def _update_count(given: TrainingParameters, batches: Batches) -> int:
    if (given.updates is None) == (given.epochs is None):
        raise InputError("give updates or epochs: exactly one of the two")
    return given.updates if given.updates is not None else batches.updates(given.epochs or 0)


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
            f"leave it out, or let the task keep sequences for it (it has {', '.join(task.parameters)}; see "
            f"`gradsim show {task.name}`)"
        )


def _drawn_later(model: Model) -> list[str]:
    """What may draw random numbers at some update."""
    asked: list[tuple[str, Any, Any]] = [("cell", Cell, model.cell)] if model.cell.step_data else []
    asked += [("mitigation", Mitigation, mitigation) for mitigation in model.hooks.mitigations]
    return [
        purpose
        for purpose, base, plugin in asked
        if type(plugin).draw is not base.draw and "rng" in inspect.signature(plugin.draw).parameters
    ]

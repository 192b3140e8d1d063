"""What decides the numbers of a training, before any update, and the dataset that comes of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, cast

import numpy as np

from gradsim.contracts.episodes import baseline, repeatable, sampled, taken
from gradsim.contracts.mitigation import Mitigation
from gradsim.contracts.moment import Moment, Purpose
from gradsim.contracts.optimizer import Optimizer
from gradsim.contracts.problem import Problem, axis_dim
from gradsim.contracts.promises import initial_state
from gradsim.contracts.recorder import Recorder, Variable, with_own_dims
from gradsim.contracts.task import Episode, FiniteTask, Task
from gradsim.data import schema
from gradsim.errors import PluginError
from gradsim.plan.plan import Plan
from gradsim.run.arguments import fitting_inputs
from gradsim.run.budget import refuse_large
from gradsim.run.derivatives import Derivation, derivation, seconds
from gradsim.run.seeds import Seeds
from gradsim.run.setup import Model, Setup
from gradsim.training.batches import Batches
from gradsim.training.flat import Flat
from gradsim.training.gradients import spread_lags
from gradsim.training.history import ROWS
from gradsim.training.parameters import TrainingParameters
from gradsim.training.settings import Probe, Stopping, Validation
from gradsim.training.watch import Watch
from gradsim.types import Array, Params

PART = "validation"
"""The part of a finite task that validations and probes read."""


@dataclass(frozen=True)
class TrainingSetup:
    """Everything that decides the numbers of a training.

    `given`: the arguments, checked, where settings are objects.
    """

    given: TrainingParameters
    model: Model
    updates: int
    batches: Batches
    seeds: Seeds
    params: Params
    readout: Params
    probe_recorders: list[Recorder]
    provenance: dict[str, Any]

    @property
    def task(self) -> Task:
        """What is learnt."""
        return self.given.task

    @property
    def optimizer(self) -> Optimizer:
        """What turns gradients into updates."""
        return self.given.optimizer

    @property
    def probe(self) -> Probe | None:
        """What is recorded of some updates."""
        return cast(Probe | None, self.given.record)

    @property
    def validation(self) -> Validation | None:
        """When the training is validated."""
        return cast(Validation | None, self.given.validate)

    @property
    def stopping(self) -> Stopping:
        """When it ends early."""
        return cast(Stopping, self.given.stop)

    @cached_property
    def flat(self) -> Flat:
        """Where the parameters of the cell and of the readout lie in one vector."""
        return Flat({n: p.shape for n, p in {**self.params, **self.readout}.items()})

    @cached_property
    def start(self) -> Array:
        """The parameters before the first update, as one vector."""
        return self.flat.joined({**self.params, **self.readout}, self.model.dtype)

    @cached_property
    def moving(self) -> slice | Array:
        """Where in the vector lies what the optimizer moves: all but the fixed parameters of the cell."""
        fixed = self.model.cell.fixed
        if not fixed:
            return slice(None)
        moving = np.ones(self.flat.size, dtype=bool)
        for name in fixed:
            moving[self.flat.slices[name]] = False
        return moving

    def apart(self, vector: Array) -> tuple[Params, Params]:
        """The parameters of the cell and of the readout, read-only."""
        vector.flags.writeable = False
        both = self.flat.views(vector)
        return {n: both[n] for n in self.params}, {n: both[n] for n in self.readout}

    def derivation(self, asked: str) -> Derivation:
        """Where the derivatives of the training come from, which its provenance then says."""
        cell, cost = self.model.cell, self.updates * seconds(self.problem, True, False)
        found = derivation(asked, cell, cost, True, lambda: self.first_pass().start)
        self.provenance.update(schema.derivatives(cell, found.provider.name, found.because))
        return found

    # One batch.

    def first_pass(self) -> Setup:
        """The run of the first update, which is refused where something of it has nothing to act on."""
        state = self.initial_state(self.batches.batch)
        return self.pass_setup(self.params, self.readout, state, self.moment(1, "learn", {}))

    def pass_setup(self, params: Params, readout: Params, state: Array, moment: Moment) -> Setup:
        """The run of an update, from the states (batch, m) that it starts with."""
        episode, steps = self.batches.episode(moment.update), self.problem.steps
        if len(episode.inputs) != steps:
            raise PluginError(
                f"{self.task!r}: the sequences of update {moment.update} have {len(episode.inputs)} steps, "
                f"and those of update 1 have {steps}; pad them to one length, with weights of zero"
            )
        seeds = self.seeds.within("update", moment.update)
        return self._setup(episode, seeds, params, readout, state, moment)

    def _setup(
        self,
        episode: Episode,
        seeds: Seeds,
        params: Params,
        readout: Params,
        state: Array,
        moment: Moment,
    ) -> Setup:
        model = self.model
        x = fitting_inputs(model.cell, episode.inputs, model.dtype)
        return model.setup(seeds, params, readout, x, episode, state, moment)

    def moment(self, update: int, purpose: Purpose, memory: Mapping[str, Array]) -> Moment:
        """Where a pass lies; `memory` as a checkpoint has it, see `remembered`."""
        memories: dict[Mitigation, dict[str, Array]] = {}
        for key, value in memory.items():
            index, _, name = key.partition("/")
            memories.setdefault(self.model.hooks.mitigations[int(index)], {})[name] = value
        return Moment(update, self.updates, purpose, memories)

    def remembered(self, moment: Moment) -> dict[str, Array]:
        """What mitigations keep from this pass on, named "<position of the mitigation>/<name>"."""
        return {
            f"{i}/{name}": value
            for i, mitigation in enumerate(self.model.hooks.mitigations)
            for name, value in moment.noted.get(mitigation, {}).items()
        }

    def initial_state(self, batch: int) -> Array:
        """(batch, m)."""
        cell = self.model.cell
        return np.tile(initial_state(cell).astype(self.model.dtype), (batch, 1))

    @cached_property
    def problem(self) -> Problem:
        """The sizes of the first batch, and so of all."""
        return self._problem(repeatable(self.task, lambda: self.batches.episode(1)))

    def _problem(self, episode: Episode, **more: Any) -> Problem:
        steps, batch = np.shape(episode.inputs)[:2]
        return Problem(self.model.cell, steps, batch, self.model.dtype, self.flat.shapes, **more)

    # Probes.

    @cached_property
    def probe_episode(self) -> Episode:
        """What all probes run on."""
        assert self.probe is not None
        count = self.probe.batch
        if isinstance(self.task, FiniteTask) and PART in self.task.sequences:
            self.task.available(PART, count)
            return taken(self.task, PART, np.arange(count))
        refuse_large(self.task, count)
        return sampled(self.task, self.seeds.within("probe").generator("task"), count)

    @cached_property
    def probe_plan(self) -> Plan | None:
        """What a probe costs."""
        if self.probe is None:
            return None
        problem = self._problem(self.probe_episode, pairs=self.probe.pairs)
        problem.pairs.refuse_none(problem.steps)
        problem = with_own_dims(problem, self.probe_recorders)
        hooks, snapshots = self.model.hooks, self.given.snapshots
        return Plan(problem, self.probe_recorders, hooks, in_memory=True, snapshots=snapshots)

    def probe_setup(self, params: Params, readout: Params, moment: Moment) -> Setup:
        """The run of a probe."""
        assert self.probe is not None
        state = self.initial_state(self.probe.batch)
        return self._setup(self.probe_episode, self.seeds.within("probe"), params, readout, state, moment)

    # The dataset.

    def validates(self, update: int) -> bool:
        """Whether there is a validation after an update; after the last one there is."""
        every = self.validation and self.validation.every
        return bool(every and (update % every == 0 or update == self.updates))

    def lengths(self, updates: int) -> dict[str, int]:
        """The length of what lies along the updates, after so many of them."""
        v, p = self.validation, self.probe
        last = bool(v and updates == self.updates and updates % v.every)
        return {
            "update": updates,
            "probe_update": updates // p.every + 1 if p else 0,
            "validation_update": updates // v.every + 1 + last if v else 0,
        }

    @cached_property
    def watch(self) -> Watch | None:
        """What is noted of every update."""
        if not self.given.watch:
            return None
        penalised = self.model.hooks.uses("gradsim_penalty")
        return Watch(self.problem, spread_lags(self.problem.steps), penalised)

    def variables(self) -> list[Variable]:
        """All variables of the dataset."""
        found = self.watch.variables() if self.watch else []
        if self.validation:
            found.append(_validated("validation_loss", "loss of the validation sequences"))
            if self.task.metric is not None:
                found.append(_validated("validation_score", f"score of the validation: {self.task.metric}"))
        if self.probe_plan:
            found += [_probed(v) for _, v in self.probe_plan.variables()]
        for name, shape in self.flat.shapes.items():
            dims = tuple(axis_dim(name, i) for i in range(len(shape)))
            found.append(Variable(f"trained_{name}", dims, f"trained {name}"))
        return found

    def chunks(self) -> dict[str, dict[str, int]]:
        """The chunks of each variable, as they are written."""
        probe = self.probe_plan.chunks() if self.probe_plan else {}
        found = {v.name: {"update": ROWS} if v.dims[:1] == ("update",) else {} for v in self.variables()}
        return found | {name: {"probe_update": 1, **chunk} for name, chunk in probe.items()}

    def frame(self) -> schema.Frame:
        """The dims of the dataset and their coordinates."""
        problem = self.probe_plan.problem if self.probe_plan else self.problem
        sizes = {**problem.sizes(), **{dim: len(values) for dim, values in self._along.items()}}
        return schema.Frame(sizes, problem.dtype, partial(self._coordinates, problem))

    @cached_property
    def _along(self) -> dict[str, Array]:
        watch, lengths = self.watch, self.lengths(self.updates)
        probed, validated = (
            np.arange(lengths[f"{name}_update"]) * (setting.every if setting else 1)
            for name, setting in (("probe", self.probe), ("validation", self.validation))
        )
        return {
            "update": np.arange(1, self.updates + 1),
            "probe_update": probed,
            "validation_update": np.minimum(validated, self.updates),
            "train_lag": watch.lags if watch else np.arange(0),
            "weight_block": np.array(list(watch.blocks) if watch else [], dtype=str),
        }

    def _coordinates(self, problem: Problem, dims: Any) -> schema.Coordinates:
        found = schema.coordinates(problem, dims)
        for dim in sorted(self._along.keys() & set(dims)):
            found[dim] = (dim, self._along[dim], {"long_name": schema.DIMS[dim]})
        if "update" in dims and self.batches.count is not None:
            epochs = np.array([self.batches.epoch(u) for u in self._along["update"]])
            found["epoch"] = ("update", epochs, {"long_name": "epoch that the update belongs to"})
        return found

    def attributes(self, loss: float, penalty: float, ended: str) -> dict[str, str | int | float]:
        """The attributes of the dataset: strings and numbers only."""
        found = schema.dataset_attributes(self.provenance, loss, penalty)
        trivial = baseline(self.task)
        if trivial is not None:
            found |= {"baseline": trivial.name, "baseline_loss": trivial.loss}
            found |= {} if trivial.score is None else {"baseline_score": trivial.score}
        if self.task.metric is not None:
            found["metric"] = self.task.metric
        return {**found, "task": self.task.name, "optimizer": self.optimizer.name, "ended": ended}


def _validated(name: str, long_name: str) -> Variable:
    return Variable(name, ("validation_update",), long_name, dtype="float64")


def _probed(variable: Variable) -> Variable:
    return dataclasses.replace(variable, dims=("probe_update", *variable.dims))

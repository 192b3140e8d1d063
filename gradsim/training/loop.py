"""The updates of a training, one after the other."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from gradsim.contracts.task import FiniteTask
from gradsim.data.sink import MemorySink
from gradsim.data.store import CHECKPOINT, open_run
from gradsim.errors import DivergedError, NonFiniteError
from gradsim.machine.progress import Advance
from gradsim.machine.workers import Workers
from gradsim.numerics.locked import all_locked
from gradsim.numerics.scaled import euclidean
from gradsim.run.launch import Running
from gradsim.run.run import recorded
from gradsim.run.setup import Setup
from gradsim.training import checkpoint
from gradsim.training.checkpoint import State
from gradsim.training.divergence import grown, overflow
from gradsim.training.evaluation import Evaluation
from gradsim.training.gradients import Backpropagation, BatchResult
from gradsim.training.history import History
from gradsim.training.interrupt import interruptions
from gradsim.training.parameters import FollowingParameters, LiveLaunchParameters
from gradsim.training.settings import Stopping
from gradsim.training.setup import PART, TrainingSetup
from gradsim.types import Array, Params

TEST = "test"
"""The part of a finite task that is measured once, at the end."""


class Training:
    """A training in progress."""

    def __init__(
        self, setup: TrainingSetup, running: Running, backpropagation: Backpropagation, advance: Advance
    ) -> None:
        s, how = setup, running.how
        assert isinstance(how, FollowingParameters)
        self.setup, self.sink, self.folder = setup, running.sink, running.folder
        self.threads, self.memory, self.advance = running.threads, running.memory, advance
        self.checkpoint_seconds, self.report = how.checkpoint_seconds, how.report or _silent
        self.live = how.live if isinstance(how, LiveLaunchParameters) else None
        self.history = History(self.sink)
        self.backpropagation = backpropagation
        self.validation = self._evaluation(PART) if s.validation else None

    def _evaluation(self, part: str) -> Evaluation:
        s = self.setup
        return Evaluation(
            s.model,
            s.task,
            s.seeds,
            Workers(self.threads).run,
            part=part,
            batch=s.batches.batch,
            sequences=s.validation.sequences if s.validation and part == PART else None,
            stateful=s.batches.stateful,
        )

    def run(self, state: State | None) -> dict[str, Any]:
        """Do all updates that are left, and write the results; the attributes of the dataset.

        Raises
        ------
        DivergedError
            NaN or infinity appeared; the last good parameters are in the checkpoint.
        KeyboardInterrupt
            Ctrl-C was pressed (or the process was asked to terminate): after the update at work, and a
            checkpoint, if there is a folder.
        """
        if state is None:
            state = self._begin()
        else:
            self.history.restore(state.update, state.rows)
        saved = time.monotonic()
        with interruptions() as interrupted:
            check = True
            while not state.ended:
                self._update(state, check)
                check = False
                self._after(state)
                if interrupted():
                    self._save(state)
                    raise KeyboardInterrupt
                if self.live and self.live.due:
                    self.live.draw(partial(self._so_far, state))
                if time.monotonic() - saved >= self.checkpoint_seconds:
                    self._save(state)
                    saved = time.monotonic()
        self._save(state)
        return self._finish(state)

    def _begin(self) -> State:
        s = self.setup
        slots = {name: np.zeros_like(s.start[s.moving]) for name in s.optimizer.slots}
        state = State(s.start, slots, s.initial_state(s.batches.batch), s.start)
        self._after(state)
        self._save(state)
        return state

    # One update.

    def _update(self, state: State, check: bool) -> None:
        s, update = self.setup, state.update + 1
        params, readout = s.apart(state.vector)
        with self._diverging(f"update {update}", state):
            first = s.initial_state(s.batches.batch) if s.batches.starts(update) else state.carried
            moment = s.moment(update, "learn", state.memory)
            setup = s.pass_setup(params, readout, first, moment)
            result = self.backpropagation(setup, check)
            gradient = s.flat.joined(result.gradient.values, s.model.dtype)
            norms = s.flat.norms(gradient)
            if not np.isfinite(norms).all():
                raise NonFiniteError(overflow(setup, self.backpropagation, norms))
            rate = s.optimizer.rate(update, s.updates)
            vector, slots = self._changed(state, gradient, rate)
            vector = self._mitigated(setup, vector, dict(result.gradient.values))
        state.memory = state.memory | s.remembered(moment)
        state.vector, state.slots, state.update = vector, slots, update
        state.loss, state.penalty = result.loss, result.penalty
        if s.batches.stateful:
            state.carried = result.last_state.copy()
        self._note(update, params, result, norms, rate)

    def _note(self, update: int, params: Params, result: BatchResult, norms: Array, rate: float) -> None:
        before = result.gradient.before
        size = euclidean(norms) if before is None else before
        if self.setup.watch:
            self.history.update(self.setup.watch.row(update, params, result, size, norms, rate))
        self.advance(f"loss {result.loss:<9.3g} gradient {size:<8.2g}", 1.0)
        self.report({"event": "update", "update": update, "loss": result.loss, "gradient_norm": size})

    def _changed(self, state: State, gradient: Array, rate: float) -> tuple[Array, dict[str, Array]]:
        """Parameters and slots after an update; those before it stay as they are."""
        optimizer, moving = self.setup.optimizer, self.setup.moving
        vector = state.vector.copy()
        slots = {name: slot.copy() for name, slot in state.slots.items()}
        try:
            with np.errstate(over="raise", divide="raise", invalid="raise"):
                params = state.vector[moving]
                vector[moving] += optimizer.changed(params, gradient[moving], slots, rate, state.update + 1)
        except FloatingPointError as error:
            raise NonFiniteError(
                f"{error} in {optimizer.name} or the parameters it makes; clip the gradient, use a smaller "
                "learning rate or dtype='float64'"
            ) from error
        self._refuse_non_finite(vector, optimizer.name)
        return vector, slots

    def _mitigated(self, setup: Setup, vector: Array, gradient: Params) -> Array:
        """The parameters after the mitigations of the update."""
        if not setup.hooks.uses("gradsim_update"):
            return vector
        flat, fixed = self.setup.flat, setup.cell.fixed
        after = flat.views(vector)
        given, before, gradient = (
            all_locked({n: x for n, x in whole.items() if n not in fixed})
            for whole in (after, setup.all_params, gradient)
        )
        changed = setup.hooks(
            "gradsim_update",
            cell=setup.cell,
            params=given,
            before=before,
            gradient=gradient,
            draws=setup.draws,
            moment=setup.moment,
        )
        vector = flat.joined({**after, **changed}, vector.dtype)
        self._refuse_non_finite(vector, "gradsim_update")
        return vector

    def _refuse_non_finite(self, vector: Array, who: str) -> None:
        for name, values in self.setup.flat.views(vector).items():
            if not np.isfinite(values).all():
                raise NonFiniteError(f"{who} makes the parameter {name} NaN or infinite")

    # NaN and infinity.

    @contextmanager
    def _diverging(self, when: str, good: State | None = None) -> Iterator[None]:
        """Say when something was not finite; what was `good` before goes into the checkpoint."""
        try:
            with np.errstate(all="ignore"):  # what comes of it is found, and told once
                yield
        except NonFiniteError as error:
            told = [f"{when}: {error}"]
            if good is not None:
                self._save(good)
                told.append(grown(self.setup.flat, self.setup.start, good.vector))
            if self.folder and (self.folder / CHECKPOINT).exists():
                told.append(f"the last good parameters are in {self.folder / CHECKPOINT}")
            raise DivergedError("; ".join(told)) from error

    # What comes after some updates.

    def _after(self, state: State) -> None:
        """Probe and validate if it is time, and see whether this was the last update."""
        s = self.setup
        params, readout = s.apart(state.vector)
        with self._diverging(f"after update {state.update}"):
            if s.probe and state.update % s.probe.every == 0:
                self._probe(state, state.update // s.probe.every, params, readout)
            if self.validation and s.validates(state.update):
                moment = s.moment(state.update, "validate", state.memory)
                self._validate(state, *self.validation(params, readout, moment))
        if not state.ended and state.update == s.updates:
            state.ended = "after all updates"

    def _probe(self, state: State, index: int, params: Params, readout: Params) -> None:
        plan = self.setup.probe_plan
        assert plan is not None
        moment = self.setup.moment(state.update, "measure", state.memory)
        setup = self.setup.probe_setup(params, readout, moment)
        sink = recorded(setup, plan, self.threads, self.memory)
        self.history.probe(index, {name: sink.read(name) for name in sink.variables})
        self.report({"event": "probe", "update": state.update})

    def _validate(self, state: State, loss: float, score: float) -> None:
        row = {"validation_loss": loss, "validation_score": score}
        self.history.validation(row)
        self.report({"event": "validation", "update": state.update, **row})
        stop = self.setup.stopping
        if loss < state.best_loss:
            state.best_loss, state.best_update, state.worse = loss, state.update, 0
            if stop.patience is not None:
                state.best_vector = state.vector
        else:
            state.worse += 1
        state.ended = _verdict(stop, state, loss, score)

    # Keeping and finishing.

    def _save(self, state: State) -> None:
        if self.folder is not None:
            self.history.flush()
            self.sink.sync()  # a checkpoint lets go of the rows
            state.rows = self.history.held()
            checkpoint.save(self.folder, state)
            self.report({"event": "checkpoint", "update": state.update})

    def _so_far(self, state: State) -> xr.Dataset:
        """The dataset, NaN where the training has not been yet."""
        self.history.flush()
        attributes = self.setup.attributes(state.loss, state.penalty, "not yet")
        if isinstance(self.sink, MemorySink):
            return self.sink.dataset(attributes)
        assert self.folder is not None
        return open_run(self.folder, allow_incomplete=True).assign_attrs(attributes)

    def _finish(self, state: State) -> dict[str, Any]:
        s = self.setup
        self.history.flush()
        best = s.stopping.patience is not None
        trained = state.best_vector if best else state.vector
        for name, value in s.flat.views(trained).items():
            self.sink.put(f"trained_{name}", value)
        if state.update < s.updates:
            self.sink.shorten(s.lengths(state.update))
        found = s.attributes(state.loss, state.penalty, state.ended) | self.backpropagation.recomputing
        update = found["trained_update"] = state.best_update if best else state.update
        if self.validation and isinstance(s.task, FiniteTask) and TEST in s.task.sequences:
            found["test_loss"], score = self._evaluation(TEST)(
                *s.apart(trained), s.moment(update, "validate", state.memory)
            )
            found |= {} if s.task.metric is None else {"test_score": score}
        return found


def _verdict(stop: Stopping, state: State, loss: float, score: float) -> str:
    """Why a validation ends the training; empty if it does not."""
    if stop.score_above is not None and score > stop.score_above:
        return f"solved: the validation score {score:.4g} is above {stop.score_above:g}"
    if stop.loss_below is not None and loss < stop.loss_below:
        return f"solved: the validation loss {loss:.4g} is below {stop.loss_below:g}"
    if stop.patience is not None and state.worse >= stop.patience:
        return f"no lower validation loss than that after update {state.best_update} {state.worse} times"
    return ""


def _silent(event: Mapping[str, Any]) -> None:
    """Nobody is told."""

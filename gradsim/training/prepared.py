"""A training that has been checked, ready to be run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import xarray as xr

from gradsim.contracts.problem import Problem
from gradsim.contracts.recorder import Variable
from gradsim.data.folder import RunFolder
from gradsim.data.schema import Frame
from gradsim.data.store import REASON, read_record
from gradsim.errors import BudgetError, InputError, StoreError
from gradsim.machine.disk import human
from gradsim.machine.progress import Advance
from gradsim.numerics import autodiff
from gradsim.numerics.autodiff import Provider
from gradsim.run.derivatives import Derivation
from gradsim.run.launch import Prepared, Running, launch
from gradsim.run.parameters import method_verb
from gradsim.training import checkpoint
from gradsim.training.checkpoint import State
from gradsim.training.gradients import Backpropagation
from gradsim.training.loop import Training
from gradsim.training.parameters import LiveLaunchParameters, TrainingLaunchParameters
from gradsim.training.setup import TrainingSetup


@dataclass(frozen=True)
class PreparedTraining(Prepared):
    """A training that has been checked but not started: what `train` does, in two parts."""

    setup: TrainingSetup
    derivation: Derivation

    kind = "training"

    @method_verb(LiveLaunchParameters)
    def run(self, how: LiveLaunchParameters) -> xr.Dataset:
        """Run it; see `train`."""
        return self.launch(how)

    def launch(self, how: TrainingLaunchParameters) -> xr.Dataset:
        """Run it as a list of parameters says."""
        whole = self._as_begun(Path(how.store)) if how.resume and how.store is not None else self
        return launch(whole, how, resume=how.resume, allow_changed=how.allow_changed)

    def _as_begun(self, path: Path) -> PreparedTraining:
        """With the library that the run in a folder was begun with, unless another one was asked for."""
        if self.setup.given.derivatives != "auto" or not (path / "run.json").exists():
            return self
        begun = read_record(path)["configuration"]
        library = begun.get("derivatives", self.provider.name)
        if library == "jax" and (why := autodiff.jax_refused()):
            raise InputError(
                f"the run in {path} was begun with derivatives='jax', and {why}, or go on with 'autograd' "
                "and allow_changed=True (--allow-changed)"
            )
        chosen = self.setup.derivation(library)
        self.setup.provenance[REASON] = begun.get(REASON)
        return replace(self, derivation=chosen)

    @property
    def provenance(self) -> Mapping[str, Any]:  # type: ignore[override]
        return self.setup.provenance

    @property
    def provider(self) -> Provider:
        return self.derivation.provider

    @property
    def problem(self) -> Problem:
        return self.setup.problem

    def frame(self) -> Frame:
        return self.setup.frame()

    def variables(self) -> list[Variable]:
        return self.setup.variables()

    def chunks(self) -> Mapping[str, Mapping[str, int]]:
        return self.setup.chunks()

    @property
    def work(self) -> float:
        return self.setup.updates

    def refuse_beyond(self, memory: float | None, disk: float | None) -> None:
        self._backpropagation(1, memory)  # which refuses what its updates need
        if self.setup.probe_plan:
            self.setup.probe_plan.refuse_beyond(memory, None)
        self._refuse_many_updates(memory)
        sizes = self.sizes()
        top, total = max(sizes, key=lambda name: sizes[name]), sum(sizes.values())
        if disk is not None and total > disk:
            raise BudgetError(
                f"this training writes {human(total)} (before compression) and {human(disk)} of disk is "
                f"free: {top} alone takes {human(sizes[top])}; record more seldom, or narrower pairs"
            )

    def _refuse_many_updates(self, memory: float | None) -> None:
        """Refuse more of them than can be numbered, before they are."""
        updates = self.setup.updates
        needed = 8 * sum(self.setup.lengths(updates).values())
        available = psutil.virtual_memory().available if memory is None else memory
        if needed > available:
            raise BudgetError(
                f"updates={updates} take {human(needed)} of memory for their numbers alone and "
                f"{human(available)} is available; make fewer updates"
            )

    def execute(self, running: Running, advance: Advance) -> dict[str, Any]:
        if running.begun is not None:
            advance("resuming", running.begun.update)
        backpropagation = self._backpropagation(running.threads, running.memory)
        return Training(self.setup, running, backpropagation, advance).run(running.begun)

    def _backpropagation(self, threads: int, memory: float | None) -> Backpropagation:
        s = self.setup
        return Backpropagation(s.model, s.problem, threads, memory, s.given.watch, s.given.snapshots)

    def begun(self, folder: RunFolder) -> State | None:
        """The checkpoint; it and the data must be of this training."""
        state, slots = checkpoint.load(folder.path), set(self.setup.optimizer.slots)
        if state is not None and (state.vector.shape != self.setup.start.shape or set(state.slots) != slots):
            raise StoreError(
                f"the checkpoint in {folder.path} has {len(state.vector)} parameters and the slots "
                f"{sorted(state.slots)}, where this training has {len(self.setup.start)} and "
                f"{sorted(slots)}; give the cell, task and optimizer that it was begun with"
            )
        if state is not None:
            folder.check_written()
        if state is not None and not state.ended:
            self.zarr_sink(folder.partial).refuse_other()
        return state

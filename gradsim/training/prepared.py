"""A training that has been checked, ready to be run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from gradsim.data.sink import MemorySink, Sink
from gradsim.data.store import RunFolder, open_run
from gradsim.errors import BudgetError, InputError, StoreError
from gradsim.machine.allocation import keep_freed_memory
from gradsim.machine.disk import free_disk, human
from gradsim.machine.progress import progress as show_progress
from gradsim.machine.workers import available_threads, one_blas_thread
from gradsim.training import checkpoint
from gradsim.training.checkpoint import State
from gradsim.training.course import Course
from gradsim.training.gradients import Backpropagation
from gradsim.training.live import Live
from gradsim.training.loop import Report, Training

if TYPE_CHECKING:
    from gradsim.data.zarr_sink import ZarrSink


@dataclass(frozen=True)
class PreparedTraining:
    """A training that has been checked but not started: what `train` does, in two parts."""

    course: Course

    def run(
        self,
        store: str | os.PathLike[str] | None = None,
        *,
        force: bool = False,
        resume: bool = False,
        allow_changed: bool = False,
        checkpoint_seconds: float = 30.0,
        threads: int | None = None,
        memory: float | None = None,
        progress: bool | None = None,
        report: Report | None = None,
        live: Live | None = None,
    ) -> xr.Dataset:
        """Run it; see `train`. `live`: a figure that is drawn anew as the training goes on."""
        c, threads = self.course, available_threads(threads)
        if c.probe_plan:
            c.probe_plan.refuse_beyond(memory, None)
        how = {
            "backpropagation": Backpropagation(c.model, c.problem, threads, memory, c.watched),
            "threads": threads,
            "memory": memory,
            "report": report or _silent,
            "live": live,
            "checkpoint_seconds": checkpoint_seconds,
        }
        if store is not None:
            return self._stored(Path(store), force, resume, allow_changed, progress, how)
        if resume:
            raise InputError("resume: give the run folder to go on with as store")
        sink = MemorySink(self.course.frame(), self.course.variables())
        attributes = self._execute(sink, None, None, progress, lambda fraction: None, how)
        return sink.dataset(attributes)

    def _stored(
        self,
        path: Path,
        force: bool,
        resume: bool,
        allow_changed: bool,
        progress: bool | None,
        how: Mapping[str, Any],
    ) -> xr.Dataset:
        self._refuse_full_disk(path)
        folder, state = RunFolder(path, self.course.provenance), None
        if resume and (path / "run.json").exists():
            if not folder.reopen(allow_changed):
                return open_run(path)
            state = self._fitting(checkpoint.load(path), folder)
            folder.update()
        else:
            folder.create(force)
        if state is None:  # the run had not begun
            shutil.rmtree(folder.partial, ignore_errors=True)
        with folder.writing():
            sink = self._zarr_sink(folder.partial)
            attributes = self._execute(
                sink, path, state, progress, lambda done: folder.update(progress=round(done, 4)), how
            )
            sink.finish(attributes)
        return open_run(path)

    def _execute(
        self,
        sink: Sink,
        path: Path | None,
        state: State | None,
        progress: bool | None,
        note: Callable[[float], None],
        how: Mapping[str, Any],
    ) -> dict[str, Any]:
        keep_freed_memory()
        with one_blas_thread(), show_progress(self.course.updates, progress, note) as advance:
            if state is not None:
                advance("resuming", state.update)
            return Training(self.course, sink, folder=path, advance=advance, **how).run(state)

    def _zarr_sink(self, path: Path) -> ZarrSink:
        from gradsim.data.zarr_sink import ZarrSink  # zarr is slow to import

        return ZarrSink(self.course.frame(), self.course.variables(), path, self.course.chunks())

    def _fitting(self, state: State | None, folder: RunFolder) -> State | None:
        """The checkpoint, if it and the data are of this training."""
        slots = set(self.course.optimizer.slots)
        if state is not None and (state.vector.shape != self.course.start.shape or set(state.slots) != slots):
            raise StoreError(
                f"the checkpoint in {folder.path} has {len(state.vector)} parameters and the slots "
                f"{sorted(state.slots)}, where this training has {len(self.course.start)} and "
                f"{sorted(slots)}; give the cell, task and optimizer that it was begun with"
            )
        if state is not None and not state.ended:
            self._zarr_sink(folder.partial).refuse_other()
        return state

    def sizes(self) -> dict[str, int]:
        """The bytes of each variable, before compression."""
        frame = self.course.frame()
        return {v.name: v.bytes_in(frame.sizes, frame.dtype) for v in self.course.variables()}

    def _refuse_full_disk(self, path: Path) -> None:
        found = self.sizes()
        free, total = free_disk(path), sum(found.values())
        if total > free:
            top = max(found, key=lambda name: found[name])
            raise BudgetError(
                f"this training writes {human(total)} (before compression) and {human(free)} of disk is "
                f"free: {top} alone takes {human(found[top])}; record more seldom, or narrower pairs"
            )


def _silent(event: Mapping[str, Any]) -> None:
    """Nobody is told."""

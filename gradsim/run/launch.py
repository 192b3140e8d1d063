"""One launch for every verb: folder, disk, memory, threads, progress, and where the values go."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import xarray as xr

from gradsim.contracts.problem import Problem
from gradsim.contracts.recorder import Variable
from gradsim.data.folder import RunFolder, folder_path
from gradsim.data.schema import Frame
from gradsim.data.sink import MemorySink, Sink
from gradsim.data.store import open_run
from gradsim.errors import InputError
from gradsim.machine.allocation import keep_freed_memory
from gradsim.machine.disk import free_disk
from gradsim.machine.progress import Advance
from gradsim.machine.progress import progress as show_progress
from gradsim.machine.workers import available_threads, one_blas_thread
from gradsim.numerics.autodiff import AUTOGRAD, Provider, deriving
from gradsim.run.parameters import LaunchParameters, method_verb

if TYPE_CHECKING:
    from gradsim.data.zarr_sink import ZarrSink


@dataclass(frozen=True)
class Running:
    """What a run is given while it goes on.

    Parameters
    ----------
    sink
        Where its values go.
    threads, memory
        As asked for; all of the threads, where none were.
    folder
        Its run folder, if it has one.
    begun
        What it goes on from, as `Prepared.begun` gave it.
    how
        All that the launch was given.
    """

    sink: Sink
    threads: int
    memory: float | None
    folder: Path | None = None
    begun: Any = None
    how: LaunchParameters = field(default_factory=LaunchParameters)


class Prepared(ABC):
    """What a verb has checked and planned, ready to be launched."""

    kind: ClassVar[str]
    provenance: Mapping[str, Any]

    @property
    def provider(self) -> Provider:
        """What makes the free derivatives."""
        return AUTOGRAD

    @property
    @abstractmethod
    def problem(self) -> Problem:
        """The sizes of its runs."""

    @abstractmethod
    def frame(self) -> Frame:
        """The dims of the dataset and their coordinates."""

    @abstractmethod
    def variables(self) -> list[Variable]:
        """All variables of the dataset."""

    @abstractmethod
    def chunks(self) -> Mapping[str, Mapping[str, int]]:
        """The chunks of each variable, as they are written."""

    @property
    @abstractmethod
    def work(self) -> float:
        """All that there is to do, in what the run counts its progress in."""

    @abstractmethod
    def refuse_beyond(self, memory: float | None, disk: float | None) -> None:
        """Raise BudgetError if it does not fit, and say what reduces it."""

    @abstractmethod
    def execute(self, running: Running, advance: Advance) -> dict[str, Any]:
        """Compute all values into the sink; the attributes of the dataset.

        `advance` is told how much of the work is done.
        """

    @method_verb(LaunchParameters)
    def run(self, how: LaunchParameters) -> xr.Dataset:
        """Run it; see the verb."""
        return launch(self, how)

    def begun(self, folder: RunFolder) -> Any:
        """What a run in a folder is to be gone on with; None begins anew."""
        return None

    def sizes(self) -> dict[str, int]:
        """The bytes of each variable, before compression."""
        frame = self.frame()
        return {v.name: v.bytes_in(frame.sizes, frame.dtype) for v in self.variables()}

    def memory_sink(self) -> MemorySink:
        """Room in memory for its values."""
        return MemorySink(self.frame(), self.variables())

    def zarr_sink(self, path: Path) -> ZarrSink:
        """A store on disk for its values."""
        from gradsim.data.zarr_sink import ZarrSink  # zarr is slow to import

        return ZarrSink(self.frame(), self.variables(), path, self.chunks())


def launch(
    prepared: Prepared, how: LaunchParameters, *, resume: bool = False, allow_changed: bool = False
) -> xr.Dataset:
    """Run what is prepared, into memory or into a folder; its dataset."""
    path = None if how.store is None else folder_path(how.store)
    threads = available_threads(how.threads)
    prepared.refuse_beyond(how.memory, free_disk(path) if path else None)

    def run(sink: Sink, begun: Any, note: Callable[[float], None] | None) -> dict[str, Any]:
        shown = show_progress(lambda: prepared.work, how.progress, note)
        return executed(prepared, Running(sink, threads, how.memory, path, begun, how), shown)

    if path is None:
        if resume:
            raise InputError("resume: give the run folder to go on with as store")
        kept = prepared.memory_sink()
        return kept.dataset(run(kept, None, None))
    folder, begun = RunFolder(path, prepared.provenance), None
    going_on = resume and (path / "run.json").exists()
    if not going_on:
        folder.make(how.force)
    with folder.claimed():
        if not going_on:
            folder.create(how.force)
        elif folder.reopen(allow_changed):
            begun = prepared.begun(folder)
            folder.update()
        else:
            return open_run(path)
        with folder.writing():
            if begun is None:
                folder.empty()
            stored = prepared.zarr_sink(folder.partial)
            stored.finish(run(stored, begun, lambda done: folder.update(progress=round(done, 4))))
    return open_run(path)


def executed(prepared: Prepared, running: Running, shown: AbstractContextManager[Advance]) -> dict[str, Any]:
    """Compute all values with the libraries and the memory set as a run wants them."""
    keep_freed_memory()
    # Where a number leaves the range is found and told by itself, with its place; NumPy need not warn before.
    with deriving(prepared.provider), one_blas_thread(), np.errstate(all="ignore"), shown as advance:
        return prepared.execute(running, advance)

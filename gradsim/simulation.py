"""The verb: run a cell and record how gradients travel through time."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr
from numpy.typing import ArrayLike, DTypeLike

from gradsim.contracts.cell import Cell
from gradsim.contracts.hooks import RunHooks
from gradsim.contracts.mitigation import Mitigation
from gradsim.contracts.moment import Moment
from gradsim.contracts.problem import Pairs, Problem
from gradsim.contracts.recorder import Recorder, Variable
from gradsim.contracts.task import Task
from gradsim.data import schema
from gradsim.data.sink import MemorySink, Sink
from gradsim.data.store import RunFolder, open_run
from gradsim.machine.allocation import keep_freed_memory
from gradsim.machine.disk import free_disk
from gradsim.machine.progress import Advance
from gradsim.machine.progress import progress as show_progress
from gradsim.machine.workers import available_threads, one_blas_thread
from gradsim.plan.plan import Plan
from gradsim.run.arguments import (
    Seed,
    Streams,
    checked_inputs,
    checked_params,
    checked_state,
    chosen_recorders,
    float_dtype,
    prepared_cell,
    with_own_dims,
)
from gradsim.run.recording import Recording
from gradsim.run.run import Run
from gradsim.run.setup import Model, Setup

if TYPE_CHECKING:
    from gradsim.data.zarr_sink import ZarrSink


@dataclass(frozen=True)
class Simulation:
    """A run that has been checked but not started: what `simulate` does, in two parts."""

    setup: Setup
    plan: Plan
    provenance: dict[str, Any]

    def run(
        self,
        store: str | os.PathLike[str] | None = None,
        *,
        force: bool = False,
        threads: int | None = None,
        memory: float | None = None,
        progress: bool | None = None,
    ) -> xr.Dataset:
        """Run it; see `simulate`."""
        threads = available_threads(threads)
        self.plan.refuse_beyond(memory, free_disk(store) if store is not None else None)
        total = sum(self.plan.flops().values())
        if store is None:
            sink = self.memory_sink()
            shown = show_progress(total, progress, lambda fraction: None)
            return sink.dataset(self.execute(sink, shown, threads, memory))
        folder = RunFolder(Path(store), self.provenance)
        folder.create(force)
        with folder.writing():
            zarr_sink = self.zarr_sink(folder.partial)
            shown = show_progress(total, progress, lambda done: folder.update(progress=round(done, 4)))
            zarr_sink.finish(self.execute(zarr_sink, shown, threads, memory))
        return open_run(store)

    def memory_sink(self) -> MemorySink:
        """Room in memory for its values."""
        return MemorySink(schema.frame(self.plan.problem), self._variables())

    def zarr_sink(self, path: Path) -> ZarrSink:
        """A new store on disk for its values."""
        from gradsim.data.zarr_sink import ZarrSink  # zarr is slow to import

        return ZarrSink(schema.frame(self.plan.problem), self._variables(), path, self.plan.chunks())

    def _variables(self) -> list[Variable]:
        return [variable for _, variable in self.plan.variables()]

    def execute(
        self, sink: Sink, progress: AbstractContextManager[Advance], threads: int, memory: float | None
    ) -> dict[str, Any]:
        """Compute all values into a sink; the attributes of the dataset."""
        keep_freed_memory()
        with one_blas_thread(), progress as advance, Recording(self.plan, sink, threads) as feed:
            run = Run(self.setup, self.plan, feed, sink, advance, memory)
            run.check()
            run.execute()
            feed.settle()
            advance("writing", 0.0)
        return schema.dataset_attributes(self.provenance, run.loss, run.penalty)


def simulate(
    cell: Cell,
    inputs: ArrayLike | None = None,
    *,
    task: Task | None = None,
    batch: int | None = None,
    params: Mapping[str, ArrayLike] | None = None,
    initial_state: ArrayLike | None = None,
    mitigations: Sequence[Mitigation] = (),
    record: Sequence[str | Recorder] = ("product_norm", "adjoint_norm"),
    pairs: Pairs | None = None,
    rng: Seed = 0,
    dtype: DTypeLike = "float64",
    store: str | os.PathLike[str] | None = None,
    force: bool = False,
    threads: int | None = None,
    memory: float | None = None,
    progress: bool | None = None,
) -> xr.Dataset:
    """Run a cell over inputs and record how gradients travel through time.

    Parameters
    ----------
    cell
        The recurrence, for example ``LSTM(input_size=1, hidden_size=32)``.
    inputs
        Shape (time, batch, input). Left out when a task draws them.
    task
        Draws inputs and targets and gives the loss, through a linear readout of random weights.
        Without one the loss is the sum of the last outputs, averaged over the batch.
    batch
        How many sequences the task draws (default 1).
    params
        Named parameters instead of freshly drawn ones; the readout's are `readout_W`, `readout_b`.
    initial_state
        s_0, shape (m,) or (batch, m); the cell's own, usually zeros, when left out.
    mitigations
        Applied in this order.
    record
        Names of recorders (``gradsim list recorders``), or recorder objects. ``effective_<name>`` is
        the same quantity as changed by the mitigations.
    pairs
        Which products P(t, k) are recorded; all unless narrowed.
    rng
        A seed, a SeedSequence, or a Generator, from which a seed is drawn.
    dtype
        float64 or float32.
    store
        A run folder to write into; values then never need to fit in memory.
    force
        Replace the run that is in `store`.
    threads
        For the products; the numbers do not depend on it. All cores when left out.
    memory
        Bytes that the run may use; what is available when left out.
    progress
        Show progress; when left out, only on a terminal.

    Returns
    -------
    xarray.Dataset
        The recorded variables with labelled dims; provenance as JSON in ``attrs["provenance"]``.

    Raises
    ------
    InputError, UnknownNameError
        An argument does not fit.
    NonFiniteError
        NaN or infinity in inputs, parameters, states or Jacobians; names the first place.
    BudgetError
        The run does not fit into memory or disk.
    PluginError
        A cell or mitigation breaks its contract.
    StoreError
        The run folder cannot be written or is there already.
    """
    simulation = prepare(
        cell,
        inputs,
        task=task,
        batch=batch,
        params=params,
        initial_state=initial_state,
        mitigations=mitigations,
        record=record,
        pairs=pairs,
        rng=rng,
        dtype=dtype,
        in_memory=store is None,
    )
    return simulation.run(store, force=force, threads=threads, memory=memory, progress=progress)


def prepare(
    cell: Cell,
    inputs: ArrayLike | None = None,
    *,
    task: Task | None = None,
    batch: int | None = None,
    params: Mapping[str, ArrayLike] | None = None,
    initial_state: ArrayLike | None = None,
    mitigations: Sequence[Mitigation] = (),
    record: Sequence[str | Recorder] = ("product_norm", "adjoint_norm"),
    pairs: Pairs | None = None,
    rng: Seed = 0,
    dtype: DTypeLike = "float64",
    in_memory: bool = True,
) -> Simulation:
    """Check all arguments of a run and plan it, without running it; see `simulate`."""
    kind = float_dtype(dtype)
    streams = Streams(rng)
    hooks = RunHooks(mitigations)
    prepared = prepared_cell(cell, hooks)
    x, episode = checked_inputs(prepared, inputs, task, batch, streams.generator("task"), kind)
    steps, size = x.shape[:2]
    own, readout = checked_params(prepared, task, params, hooks, streams, kind)
    state = checked_state(prepared, initial_state, size, kind)
    model = Model(prepared, task, mitigations, hooks, kind)
    recorders = chosen_recorders(record, hooks)
    shapes = {n: p.shape for n, p in {**own, **readout}.items()}
    problem = with_own_dims(Problem(prepared, steps, size, kind, shapes, pairs or Pairs()), recorders)
    problem.pairs.resolved(steps)
    plan = Plan(problem, recorders, hooks, in_memory)
    provenance = schema.provenance(
        problem,
        task=task,
        mitigations=mitigations,
        phases=hooks.phases,
        given_cell=cell,
        record=[r.full_name for r in recorders],
        seed=streams.description,
    )
    setup = model.setup(streams, own, readout, x, episode, state, Moment())
    return Simulation(setup, plan, provenance)

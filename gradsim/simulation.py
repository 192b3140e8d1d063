"""The verb: run a cell and record how gradients travel through time."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, DTypeLike
from threadpoolctl import threadpool_limits

from gradsim import registry
from gradsim.cell import Cell
from gradsim.data import schema
from gradsim.data.sink import MemorySink, ZarrSink
from gradsim.data.store import RunFolder, open_run
from gradsim.engine.layout import chunks
from gradsim.engine.loss import READOUT, init_readout
from gradsim.engine.plan import Plan
from gradsim.errors import InputError, NonFiniteError, PluginError, unknown
from gradsim.mitigation import Mitigation
from gradsim.progress import progress as show_progress
from gradsim.recorder import Exponents, Jacobians, LossRows, Pairs, Problem, Products, Recorder
from gradsim.run import Run, Setup
from gradsim.task import Episode, Task
from gradsim.types import FLOAT_DTYPES, Array, Params, StepData

Seed = int | np.random.SeedSequence | np.random.Generator | None


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
        threads = _threads(threads)
        self.plan.refuse_beyond(memory, _free_disk(store) if store is not None else None)
        if store is None:
            sink = MemorySink(self.plan.problem, self._variables())
            return sink.dataset(self._execute(sink, threads, progress, lambda fraction: None))
        folder = RunFolder(Path(store), self.provenance)
        with folder.writing(force):
            zarr_sink = ZarrSink(self.plan.problem, self._variables(), folder.partial, chunks(self.plan))
            attributes = self._execute(
                zarr_sink, threads, progress, lambda fraction: folder.update(progress=round(fraction, 4))
            )
            zarr_sink.finish(attributes)
        return open_run(store)

    def _variables(self) -> list[Any]:
        return [variable for _, variable in self.plan.variables()]

    def _execute(self, sink: Any, threads: int, show: bool | None, note: Any) -> dict[str, Any]:
        total = sum(self.plan.flops().values())
        with threadpool_limits(1), show_progress(total, show, note) as advance:
            run = Run(self.setup, self.plan, sink, advance, threads)
            run.execute()
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
    kind = _float_dtype(dtype)
    streams = _Streams(rng)
    if not isinstance(cell, Cell):
        raise InputError(
            f"cell should be a Cell object, got {cell!r}"
            + ("; call the class" if isinstance(cell, type) else "")
        )
    hooks = registry.RunHooks(mitigations)
    prepared = hooks("gradsim_prepare_cell", cell=cell)
    if not isinstance(prepared, Cell):
        raise PluginError(f"gradsim_prepare_cell should return a Cell, not {prepared!r}")
    x, episode = _inputs(prepared, inputs, task, batch, streams.generator("task"), kind)
    steps, size = x.shape[:2]
    own, readout = _params(prepared, task, params, hooks, streams, kind)
    state = _initial_state(prepared, initial_state, size, kind)
    data = _step_data(prepared, episode, streams.generator("cell"), steps, size, kind)
    draws = {m: m.draw(streams.generator("mitigation", i), steps, size) for i, m in enumerate(mitigations)}

    measured = [name for m in mitigations for name in m.requires]
    recorders = _recorders(record, measured, hooks)
    shapes = {n: p.shape for n, p in {**own, **readout}.items()}
    problem = Problem(prepared, steps, size, kind, shapes, pairs or Pairs())
    problem.pairs.resolved(steps)
    plan = Plan(problem, recorders, hooks, in_memory)
    provenance = schema.provenance(
        problem,
        task=task,
        mitigations=mitigations,
        given_cell=cell,
        record=[r.full_name for r in recorders],
        seed=streams.description,
    )
    setup = Setup(
        prepared,
        own,
        readout,
        x,
        state,
        data,
        task,
        episode,
        hooks,
        draws,
        measured,
        streams.generator("check"),
    )
    return Simulation(setup, plan, provenance)


class _Streams:
    """Independent random streams of one seed, by purpose, so that adding one changes no other."""

    purposes = ("params", "task", "cell", "readout", "mitigation", "check")

    def __init__(self, rng: Seed) -> None:
        if isinstance(rng, np.random.Generator):
            rng = int(rng.integers(2**63))
        if not isinstance(rng, np.random.SeedSequence):
            if (
                isinstance(rng, bool)
                or not isinstance(rng, int | np.integer | None)
                or (rng is not None and rng < 0)
            ):
                raise InputError(
                    f"rng should be a non-negative int, SeedSequence, Generator or None (got {rng!r})"
                )
            rng = np.random.SeedSequence(None if rng is None else int(rng))
        self.seed = rng

    def generator(self, purpose: str, *key: int) -> np.random.Generator:
        spawn_key = (*self.seed.spawn_key, self.purposes.index(purpose), *key)
        return np.random.default_rng(np.random.SeedSequence(self.seed.entropy, spawn_key=spawn_key))

    @property
    def description(self) -> dict[str, Any]:
        return {"entropy": str(self.seed.entropy), "spawn_key": list(self.seed.spawn_key)}


def _float_dtype(dtype: DTypeLike) -> np.dtype:
    try:
        kind = np.dtype(dtype)
    except TypeError:
        kind = np.dtype(object)
    if kind not in FLOAT_DTYPES:
        raise InputError(f"dtype should be 'float32' or 'float64' (got {dtype!r})")
    return kind


def _numbers(name: str, value: ArrayLike, dtype: np.dtype) -> Array:
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise InputError(
            f"{name} should hold real numbers, got dtype {array.dtype}; convert it to float64 first"
        )
    bad = ~np.isfinite(array)
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        place = (
            f"time {where[0]}, batch {where[1]}, feature {where[2]}"
            if name == "inputs" and len(where) == 3
            else f"index {where}"
        )
        raise NonFiniteError(
            f"{name} is {array[where]} for the first time at {place} ({int(bad.sum())} in all); fill or "
            "cut such values first"
        )
    with np.errstate(over="ignore"):
        converted = np.array(array, dtype=dtype)
    if not np.isfinite(converted).all():
        raise InputError(f"{name} does not fit into {dtype}; use dtype='float64'")
    return converted


def _inputs(
    cell: Cell,
    inputs: ArrayLike | None,
    task: Task | None,
    batch: int | None,
    rng: np.random.Generator,
    dtype: np.dtype,
) -> tuple[Array, Episode | None]:
    if (inputs is None) == (task is None):
        raise InputError(
            "give inputs, shape (time, batch, input), or a task that draws them: exactly one of the two"
        )
    episode = None
    if task is not None:
        if not isinstance(task, Task):
            raise InputError(f"task should be a Task object, got {task!r}")
        if batch is not None and batch < 1:
            raise InputError(f"batch should be 1 or more (got {batch})")
        episode = task.sample(rng, batch or 1)
        inputs = episode.inputs
    elif batch is not None:
        raise InputError("batch is for a task; the inputs you gave have a batch axis of their own")
    x = _numbers("inputs", inputs, dtype)  # type: ignore[arg-type]
    if x.ndim != 3:
        fix = "; for one sequence pass inputs[:, None, :]" if x.ndim == 2 else ""
        raise InputError(f"inputs should have the 3 axes (time, batch, input), got shape {x.shape}{fix}")
    if x.shape[0] == 0 or x.shape[1] == 0:
        raise InputError(
            f"inputs should have at least one step and one batch element, got shape {x.shape} as (time, "
            "batch, input)"
        )
    if x.shape[2] != cell.input_size:
        raise InputError(
            f"inputs have {x.shape[2]} features (shape {x.shape}) and the cell takes "
            f"input_size={cell.input_size}"
        )
    if episode is not None and episode.weights.shape != x.shape[:2]:
        raise PluginError(
            f"{task!r}: weights have shape {episode.weights.shape} where (time, batch) = {x.shape[:2]} is "
            "needed"
        )
    return x, episode


def _params(
    cell: Cell,
    task: Task | None,
    given: Mapping[str, ArrayLike] | None,
    hooks: registry.RunHooks,
    streams: _Streams,
    dtype: np.dtype,
) -> tuple[Params, Params]:
    own: Mapping[str, ArrayLike] = hooks("gradsim_init_params", cell=cell, rng=streams.generator("params"))
    readout = init_readout(cell, task, streams.generator("readout")) if task else {}
    if clash := set(own) & set(READOUT):
        raise PluginError(f"{cell!r}: {sorted(clash)} are names of the readout; rename these parameters")
    fresh = {**own, **readout}
    for name, value in (given or {}).items():
        if name not in fresh:
            raise unknown("parameter", name, fresh)
        if np.shape(value) != np.shape(fresh[name]):
            raise InputError(
                f"params[{name!r}] has shape {np.shape(value)} where {np.shape(fresh[name])} is needed"
            )
    if given is not None and (missing := set(own) - set(given)):
        raise InputError(f"params lack {sorted(missing)}")
    chosen = {n: _numbers(f"params[{n!r}]", v, dtype) for n, v in {**fresh, **(given or {})}.items()}
    for array in chosen.values():
        array.flags.writeable = False
    return {n: chosen[n] for n in own}, {n: chosen[n] for n in readout}


def _initial_state(cell: Cell, given: ArrayLike | None, batch: int, dtype: np.dtype) -> Array:
    state = _numbers("initial_state", cell.initial_state() if given is None else given, dtype)
    m = cell.state_size
    if state.shape not in ((m,), (batch, m)):
        raise InputError(f"initial_state should have shape ({m},) or ({batch}, {m}), got {state.shape}")
    return np.broadcast_to(state, (batch, m)).copy()


def _step_data(
    cell: Cell, episode: Episode | None, rng: np.random.Generator, steps: int, batch: int, dtype: np.dtype
) -> StepData:
    index = np.broadcast_to(np.arange(1, steps + 1)[:, None], (steps, batch)).copy()
    known = {"step_index": index, **(episode.step_data if episode else {}), **cell.draw(rng, steps, batch)}
    found = {}
    for name in cell.step_data:
        if name not in known:
            raise unknown(f"step data that {cell.name} asks for", name, known)
        value = np.asarray(known[name])
        if value.shape[:2] != (steps, batch):
            raise PluginError(
                f"{cell!r}: step data {name!r} has shape {value.shape}; its leading axes should be "
                f"{(steps, batch)}"
            )
        found[name] = value.astype(dtype) if value.dtype.kind == "f" else value
    return found


def _recorders(
    record: Sequence[str | Recorder], measured: Sequence[str], hooks: registry.RunHooks
) -> list[Recorder]:
    if isinstance(record, str) or not record:
        raise InputError(f"record should be a list of recorder names, at least one (got {record!r})")
    chosen = [registry.recorder(r) if isinstance(r, str) else r for r in (*record, *measured)]
    by_name = {r.full_name: r for r in chosen}
    for name, r in by_name.items():
        if not isinstance(r, Recorder):
            raise InputError(f"record should hold names and Recorder objects, got {r!r}")
        linear = r.stream in (Products, Jacobians, LossRows, Exponents)
        if r.effective and linear and hooks.uses("gradsim_backward_step"):
            raise InputError(
                f"{name} does not exist with a mitigation that changes the adjoint itself, which is not "
                "linear; "
                "record effective_adjoint_norm and effective_adjoint_factor instead"
            )
    return list(by_name.values())


def _threads(threads: int | None) -> int:
    if threads is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if threads < 1:
        raise InputError(f"threads should be 1 or more (got {threads})")
    return threads


def _free_disk(store: str | os.PathLike[str]) -> float:
    folder = Path(store).absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free

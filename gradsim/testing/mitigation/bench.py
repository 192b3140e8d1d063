"""A mitigation set up to be examined."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np

from gradsim.contracts import hookspecs
from gradsim.contracts.cell import Cell
from gradsim.contracts.hooks import RUN_HOOKS, RunHooks, hookimpl
from gradsim.contracts.jacobians import Jacobians
from gradsim.contracts.mitigation import Mitigation
from gradsim.contracts.moment import Moment
from gradsim.contracts.pieces import Adjoints, Contributions, Forward, Gradient, LossRows, Products
from gradsim.contracts.plugin import call_with, drawn
from gradsim.contracts.task import Task
from gradsim.contracts.trajectory import Trajectory
from gradsim.run.arguments import as_dtype
from gradsim.simulation import prepare
from gradsim.testing.cell.bench import CellBench
from gradsim.testing.kit import Bench, copied
from gradsim.testing.specimen import BATCH, STEPS, Plain, generic, stage, step_data, witness
from gradsim.types import Array

RAW = (Forward, Jacobians, Products, LossRows, Adjoints, Contributions, Gradient)
_BACKWARD = (Adjoints, Contributions, Gradient)
_ANY = Moment()

Seen = dict[str, Any]
"""What witnesses kept of a run: stream name, with "effective " in front for the twin -> numbers."""


class MitigationBench(Bench):
    """A mitigation, and a small cell and task to try it on."""

    family = "mitigations"

    def __init__(self, mitigation: Mitigation, cell: Cell | None = None, task: Task | None = None) -> None:
        super().__init__(mitigation)
        self.mitigation, self.task = mitigation, task
        plain = Plain() if task is None else Plain(task.input_size)
        self.cell = plain if cell is None else cell

    @functools.cached_property
    def hooks(self) -> set[str]:
        """The run hooks that it implements."""
        return RunHooks([self.mitigation]).used

    def has(self, *hooks: str) -> bool:
        """Whether it implements one of these."""
        return any(f"gradsim_{h}" in self.hooks for h in hooks)

    def run(self, *mitigations: Mitigation) -> Seen:
        """A run of the cell with these mitigations: everything raw, and everything effective there is."""
        hooks = RunHooks(mitigations)
        cell = hooks("gradsim_cell", cell=self.cell)
        params = generic(cell.init_params(self.rng("params")), self.rng("params near"))
        inputs = self.rng("inputs").standard_normal((STEPS, BATCH, cell.input_size))
        data = step_data(cell, self.rng("data"), STEPS, BATCH, self.task)
        given = {n: x for n, x in data.items() if n != "step_index"}
        twins: tuple[type, ...] = _BACKWARD if hooks.uses("gradsim_adjoint") else RAW[1:]
        if hooks.uses("gradsim_rule"):
            twins = (Gradient,)
        seen = [*(witness(s) for s in RAW), *(witness(s, effective=True) for s in twins)]
        prepare(
            self.cell,
            task=stage(inputs, given, self.rng("stage")),
            batch=BATCH,
            params=params,
            initial_state=cell.initial_state() + self.rng("start").standard_normal(cell.state_size),
            mitigations=[m for m in mitigations if RunHooks([m]).used != {"gradsim_params"}],
            record=seen,
        ).run(threads=1, progress=False)
        return {("effective " if w.effective else "") + w.stream.__name__: numbers(w.kept) for w in seen}

    @functools.cached_property
    def plain(self) -> Seen:
        """The same run without it (and with the cell and the step data that it makes, if any)."""
        return self.run(*self._makers())

    def _makers(self) -> list[Mitigation]:
        return [_OnlyStart(self.mitigation)] if self.has("cell", "step_data") else []

    def twin(self) -> Mitigation:
        """Another object with the same parameters."""
        return dataclasses.replace(self.mitigation)  # type: ignore[type-var]

    # Hooks one by one, with arguments of their own.

    @functools.cached_property
    def prepared(self) -> Cell:
        """The cell that hooks see."""
        return RunHooks([self.mitigation])("gradsim_cell", cell=self.cell)  # type: ignore[no-any-return]

    def at_first(self, cell: Cell) -> dict[str, Any]:
        """What a run would hand to `gradsim_params`: the same numbers each time."""
        inputs = self.rng("first inputs").standard_normal((STEPS, BATCH, cell.input_size))
        return {"cell": cell, "inputs": inputs, "rng": self.rng("at first")}

    @functools.cached_property
    def _trajectory(self) -> Trajectory:
        bench = CellBench(self.prepared, self.task)
        run = bench.run
        states = np.concatenate([run.state, bench.step(run[STEPS - 1])[None]])
        return Trajectory(self.prepared, bench.params, states, run.inputs, run.data)

    @functools.cached_property
    def _measured(self) -> dict[str, Array]:
        if not self.mitigation.requires:
            return {}
        trajectory = self._trajectory
        given = {n: x for n, x in trajectory.step_data.items() if n != "step_index"}
        dataset = prepare(
            trajectory.cell,
            task=stage(trajectory.inputs, given, self.rng("stage")),
            batch=BATCH,
            params=trajectory.params,
            initial_state=trajectory.states[0],
            record=list(self.mitigation.requires),
            pairs=self.mitigation.required_pairs,
        ).run(threads=1, progress=False)
        return {str(n): dataset[n].values for n in dataset.data_vars}

    def arguments(self, hook: str, dtype: str = "float64") -> dict[str, Any]:
        """What a run would hand to a hook: copies, those of the trajectory read-only."""
        trajectory = self._trajectory
        rng = self.rng("arguments")
        run = Trajectory(
            trajectory.cell,
            {n: _locked(x, dtype) for n, x in trajectory.params.items()},
            _locked(trajectory.states, dtype),
            _locked(trajectory.inputs, dtype),
            {n: _locked(x, dtype) for n, x in trajectory.step_data.items()},
        )
        adjoint = rng.standard_normal(trajectory.states.shape).astype(dtype)
        gradient = {n: rng.standard_normal(x.shape).astype(dtype) for n, x in trajectory.params.items()}
        readout = {"readout_W": (2, trajectory.cell.state_size), "readout_b": (2,)}
        gradient |= {n: rng.standard_normal(shape).astype(dtype) for n, shape in readout.items()}
        params = {**trajectory.params, **{n: rng.standard_normal(shape) for n, shape in readout.items()}}
        params = {n: _locked(x, dtype) for n, x in params.items()}
        by_step = {n: rng.standard_normal((STEPS, *g.shape)).astype(dtype) for n, g in gradient.items()}
        episode = stage(trajectory.inputs, {}, self.rng("stage")).sample(rng, BATCH)
        known = {
            "trajectory": run,
            "cell": trajectory.cell,
            "inputs": run.inputs,
            "step_data": dict(run.step_data),
            "episode": episode,
            "time": STEPS - 1,
            "jacobians": Jacobians(run.steps, step_jacobian(run)),
            "adjoint": adjoint[STEPS - 1] if hook == "gradsim_adjoint" else adjoint,
            "direct": adjoint,
            "errors": rng.standard_normal((STEPS + 1, BATCH, 2)).astype(dtype),
            "contributions": by_step,
            "gradient": gradient,
            "params": params,
            "before": params,
            "measured": {self.mitigation: copied(self._measured)},
            "draws": {self.mitigation: as_dtype(copied(self.draws()), np.dtype(dtype))},
            "moment": Moment(3, 10, "learn"),
        }
        return {n: known[n] for n in ARGUMENTS[hook]}

    def draws(self, moment: Moment = _ANY) -> dict[str, Array]:
        """What it draws, from the same seed every time."""
        trajectory = self._trajectory
        shapes = {n: x.shape for n, x in trajectory.params.items()}
        shapes |= {"readout_W": (2, trajectory.cell.state_size), "readout_b": (2,)}
        offered = {"cell": trajectory.cell, "shapes": shapes}
        return drawn(self.mitigation.draw, self.rng("draws"), trajectory.inputs, moment, **offered)

    def call(self, hook: str, arguments: Mapping[str, Any]) -> Any:
        """What the core gives, as the mitigation changes it."""
        return RunHooks([self.mitigation])(hook, **arguments)

    def passing(self) -> list[str]:
        """The hooks of the backward pass that it implements."""
        return [h for h in RUN_HOOKS if h in self.hooks and h in ARGUMENTS]


ARGUMENTS = {
    hook: tuple(inspect.signature(getattr(hookspecs, hook)).parameters)
    for hook in RUN_HOOKS
    if hook not in ("gradsim_cell", "gradsim_params")
}
"""The hooks of the backward pass and their arguments."""


def _locked(x: Array, dtype: str) -> Array:
    found = np.array(x, dtype=dtype if x.dtype.kind == "f" else x.dtype)
    found.flags.writeable = False
    return found


def step_jacobian(run: Trajectory) -> Array:
    """The step Jacobians at the states of a run, (step, batch, g, k, k)."""
    return np.array(run.call(run.cell.step_jacobian))


def numbers(value: Any) -> Any:
    """A piece of a run as dicts and arrays."""
    if isinstance(value, Trajectory):
        return {"first": value.first, "states": value.states}
    if isinstance(value, Jacobians):
        return {"blocks": value.blocks, "reach": value.reach}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: numbers(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {k: numbers(v) for k, v in value.items()}
    if isinstance(value, list):
        return [numbers(v) for v in value]
    return (value.start, value.stop) if isinstance(value, slice | range) else value


@dataclasses.dataclass(frozen=True, eq=False)
class _OnlyStart(Mitigation):
    """The cell and the step data that another mitigation makes, and nothing else of it."""

    name = "only_start"

    other: Mitigation

    def draw(self, **offered: Any) -> dict[str, Array]:  # type: ignore[override]
        return call_with(self.other.draw, **offered)  # type: ignore[no-any-return]

    @hookimpl(wrapper=True)
    def gradsim_cell(self):  # type: ignore[no-untyped-def]
        cell = yield
        return RunHooks([self.other])("gradsim_cell", cell=cell)

    @hookimpl(wrapper=True)
    def gradsim_step_data(self, cell, inputs, episode, draws, moment):  # type: ignore[no-untyped-def]
        data = yield
        return RunHooks([self.other])(
            "gradsim_step_data",
            cell=cell,
            step_data=data,
            inputs=inputs,
            episode=episode,
            draws={self.other: draws[self]},
            moment=moment,
        )


def finite(value: Any) -> bool:
    """Whether all numbers in arrays, and in dicts and sequences of them, are finite."""
    if isinstance(value, Mapping):
        return all(finite(v) for v in value.values())
    if isinstance(value, list | tuple):
        return all(finite(v) for v in value)
    array = np.asarray(value)
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())

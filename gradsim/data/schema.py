"""The vocabulary of the dataset: dims, coordinates, labels, provenance."""

from __future__ import annotations

import functools
import json
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np

from gradsim.contracts import registry
from gradsim.contracts.cell import Cell
from gradsim.contracts.hooks import RunHooks
from gradsim.contracts.plugin import Plugin, described
from gradsim.contracts.problem import Problem, axis_dim
from gradsim.contracts.recorder import Variable
from gradsim.contracts.task import Task
from gradsim.contracts.torch_cell import TorchCell
from gradsim.engine.derivatives import METHODS
from gradsim.machine import accelerator
from gradsim.types import Array

FORMAT = 1
"""Of the dataset and the run folder; raised when what is written changes its meaning."""

DIMS = {
    "time": "time, 0..T, where a state lives",
    "chosen_time": "chosen times t of P(t, k)",
    "step": "step, 1..T, which leads from state t-1 to state t",
    "source": "source k of P(t, k)",
    "lag": "lag t - k",
    "batch": "batch element",
    "component": "component of the state",
    "state_out": "output component of a Jacobian (row)",
    "state_in": "input component of a Jacobian (column)",
    "group": "diagonal block of a Jacobian",
    "row": "output component within a diagonal block",
    "column": "input component within a diagonal block",
    "mode": "singular value or exponent, decreasing",
    "chosen_out": "component of the state at t, of the chosen blocks (row)",
    "chosen_in": "component of the state at k, of the chosen blocks (column)",
    "chosen_row": "output component within a diagonal block, of the chosen blocks",
    "chosen_column": "input component within a diagonal block, of the chosen blocks",
    "chosen_mode": "singular value of what is chosen, decreasing",
    "param": "parameter",
    "update": "update of the parameters, 1..N",
    "probe_update": "update after which the probe was taken; 0 is before the first",
    "validation_update": "update after which the validation was done; 0 is before the first",
    "train_lag": "lag before the last time that has a loss",
    "weight_block": "square block of the recurrent weights",
}


_CHOSEN = {"chosen_out": "out", "chosen_row": "out", "chosen_in": "in", "chosen_column": "in"}

Coordinates = dict[str, tuple[str | tuple[str, ...], Array, dict[str, str]]]
"""name -> (dim, or several, values, attributes)."""


def dims_of(coordinates: Coordinates) -> dict[str, tuple[str, ...]]:
    """The dims of each coordinate, by name."""
    return {name: (dims,) if isinstance(dims, str) else dims for name, (dims, _, _) in coordinates.items()}


@dataclass(frozen=True)
class Frame:
    """What the variables of a dataset lie in: the length of every dim, and the coordinates of some.

    `dtype` is that of variables that name none.
    """

    sizes: Mapping[str, int]
    dtype: np.dtype
    coordinates: Callable[[Iterable[str]], Coordinates]


def frame(problem: Problem) -> Frame:
    """That of one simulation."""
    return Frame(problem.sizes(), problem.dtype, functools.partial(coordinates, problem))


def coordinates(problem: Problem, dims: Iterable[str]) -> Coordinates:
    """Coordinates for these dims.

    Of the axes of parameters only rows that belong to gates have any: the gate, and the unit within it. Of
    the others xarray's default, the positions, says it all.
    """
    times, sources = problem.resolved
    values: dict[str, Array] = {
        "chosen_time": times,
        "source": sources,
        "lag": problem.resolved_lags,
        "step": np.arange(1, problem.steps + 1),
        "param": np.array(list(problem.param_shapes)),
    }
    if problem.pairs.partial:
        out, into = problem.product_rows
        values |= dict.fromkeys(("chosen_out", "chosen_row"), out)
        values |= dict.fromkeys(("chosen_in", "chosen_column"), into)
    sizes = problem.sizes()
    found: Coordinates = {}
    for dim in sorted(set(dims) & set(problem.own_dims)):
        found[dim] = (dim, problem.own_dims[dim], {})
    for dim in sorted(set(dims) & set(sizes) & set(DIMS)):
        found[dim] = (dim, values.get(dim, np.arange(sizes[dim])), {"long_name": DIMS[dim]})
    blocks = np.array([name for name, size in problem.cell.blocks.items() for _ in range(size)])
    for dim, name in (("component", "block"), ("state_out", "block_out"), ("state_in", "block_in")):
        if dim in found:
            found[name] = (dim, blocks, {"long_name": "block of the state"})
    for of_chosen, side in _CHOSEN.items():
        if of_chosen in found:
            chosen = blocks[:: problem.groups][values[of_chosen]]
            found[f"chosen_block_{side}"] = (of_chosen, chosen, {"long_name": "block of the state"})
    for param, gates in problem.cell.gates.items():
        if (rows := axis_dim(param, 0)) in set(dims) & set(sizes):
            units = sizes[rows] // len(gates)
            found[f"{param}_gate"] = (rows, np.repeat(gates, units), {"long_name": "gate"})
            unit = np.tile(np.arange(units), len(gates))
            found[f"{param}_unit"] = (rows, unit, {"long_name": "unit of the gate"})
    return found


def attributes(variable: Variable) -> dict[str, str]:
    """What xarray and its plots show for a variable."""
    return {"long_name": variable.long_name, "units": variable.units}


def provenance(
    problem: Problem,
    *,
    task: Task | None,
    hooks: RunHooks,
    given_cell: Cell,
    record: Sequence[str],
    seed: object,
    drawn: Sequence[str],
    given: Mapping[str, Any],
    snapshots: int | str | None,
) -> dict[str, Any]:
    """Everything that decided the numbers of a run, as plain values.

    `drawn` names what came from the seed, which is named if anything did, and `given` describes the arrays
    that were given.
    """
    cell = problem.cell
    return {
        "cell": described(given_cell),
        "cell_as_run": repr(cell),
        "blocks": dict(cell.blocks),
        "task": described(task),
        "mitigations": described(hooks.mitigations),
        "phases": {phase: list(names) for phase, names in hooks.phases.items()},
        "record": list(record),
        "pairs": vars(problem.pairs),
        "steps": problem.steps,
        "batch": problem.batch,
        "dtype": str(problem.dtype),
        "seed": seed if drawn else None,
        "drawn": list(drawn),
        "given": dict(given),
        **({} if snapshots is None else {"snapshots": snapshots}),
        "plugins": plugin_distributions([given_cell, *hooks.mitigations, *([task] if task else [])]),
        "versions": versions() | ({"torch": _version("torch")} if _goes_by_torch(given_cell) else {}),
    }


def derivatives(cell: Cell, library: str, because: str) -> dict[str, Any]:
    """What belongs to the provenance of where derivatives come from, and why not from JAX."""
    return {
        "derivatives": library,
        "derivatives_because": because,
        "derivatives_of": {m: _derivative(cell, m, library) for m in METHODS},
        "derivatives_version": _version(library),
    }


def _derivative(cell: Cell, method: str, library: str) -> str:
    if not cell.exact:
        return "surrogate"
    if cell.analytic(method):
        return {"unit": "autograd", "module": "torch"}.get(cell.written(method), "analytic")
    return library


def plugin_distributions(plugins: Iterable[Plugin]) -> dict[str, str]:
    """The distribution that each plugin came from; 'not installed' for one defined in a script."""
    installed = registry.catalogue()
    return {
        plugin.name: next(
            (
                installed.distributions[f"{family}/{plugin.name}"]
                for family, classes in installed.plugins.items()
                if classes.get(plugin.name) is type(plugin)
            ),
            "not installed",
        )
        for plugin in plugins
    }


def versions() -> dict[str, str]:
    """The versions that the numbers depend on."""
    packages = ("gradsim", "numpy", "autograd", "xarray", "zarr")
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        **{p: _version(p) for p in packages},
        "numba": _version("numba") if accelerator.enabled() else "not used",
    }


def _goes_by_torch(plugin: Plugin) -> bool:
    return isinstance(plugin, TorchCell) or any(map(_goes_by_torch, plugin.inside))


# Reading the metadata of a distribution takes as long as a small run.
_version = functools.cache(metadata.version)


def phases_in_words(record: Mapping[str, Any]) -> str:
    """The phases in which the mitigations of a run act, and in which order, from its provenance."""
    phases = [f"{phase}: {' > '.join(names)}" for phase, names in record["phases"].items()]
    return "; ".join(phases) or "none"


def dataset_attributes(
    record: Mapping[str, Any], loss: float, penalty: float
) -> dict[str, str | int | float]:
    """The attributes of a dataset: strings and numbers only, blocks and provenance as JSON."""
    return {
        "title": f"gradsim: {record['cell']['name']}",
        "cell": record["cell"]["name"],
        "blocks": json.dumps(record["blocks"]),
        "mitigations": phases_in_words(record),
        "loss": loss,
        "penalty": penalty,
        "gradsim_format": FORMAT,
        "provenance": json.dumps(record),
    }

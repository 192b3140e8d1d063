"""The arguments of a run: checked, converted, and drawn from the seed where they are left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from gradsim.contracts import registry
from gradsim.contracts.cell import Cell
from gradsim.contracts.episodes import refuse_wrong_task, repeatable, sampled
from gradsim.contracts.hooks import RunHooks
from gradsim.contracts.moment import Moment
from gradsim.contracts.pieces import Gradient, GradientByLag
from gradsim.contracts.plugin import Passed, drawn, refuse_by_value
from gradsim.contracts.promises import (
    DRAWS_OTHERS,
    gates_mistakes,
    initial_params,
    initial_state,
    layout_mistakes,
    refuse,
)
from gradsim.contracts.recorder import Recorder
from gradsim.contracts.task import Episode, Task
from gradsim.engine.loss import READOUT, init_readout
from gradsim.engine.streams import FROM_JACOBIANS
from gradsim.errors import BudgetError, InputError, PluginError, UnknownNameError, shown, unknown
from gradsim.run.budget import refuse_large
from gradsim.run.given import INITIAL_STATE, INPUTS, array, finite, named
from gradsim.run.refusals import refuse_together
from gradsim.run.seeds import Seeds
from gradsim.types import FLOAT_DTYPES, Array, Params, StepData


def float_dtype(dtype: DTypeLike) -> np.dtype:
    """float32 or float64; anything else is refused."""
    try:
        kind = np.dtype(dtype)
    except Exception:  # of whatever kind NumPy finds fit
        kind = np.dtype(object)
    if kind not in FLOAT_DTYPES:
        raise InputError(f"dtype should be 'float32' or 'float64' (got {shown(dtype)})")
    return kind


def prepared_cell(cell: Cell, hooks: RunHooks, task: Task | None) -> Cell:
    """The cell as the mitigations change it.

    Raises
    ------
    InputError, UnknownNameError
        With all that mitigations refuse, where some do not change this cell.
    """
    try:
        prepared: Cell = hooks("gradsim_cell", cell=cell)
    except (InputError, UnknownNameError):
        refuse_together(hooks, cell, task)
        raise
    if prepared not in _laid_out:
        refuse(prepared, layout_mistakes(prepared))
        _laid_out.add(prepared)
    return prepared


_laid_out = Passed()
"""Cells that say rightly what they are."""


def checked_inputs(
    cell: Cell,
    inputs: ArrayLike | None,
    task: Task | None,
    batch: int | None,
    seeds: Seeds,
    dtype: np.dtype,
    most: int | None,
) -> tuple[Array, Episode | None]:
    """Inputs (time, batch, input), given or drawn by the task with its episode, `most` sequences at most."""
    if (inputs is None) == (task is None):
        raise InputError(
            "give inputs, shape (time, batch, input), or a task that draws them: exactly one of the two"
        )
    episode = None
    if task is not None:
        refuse_wrong_task(task)
        refuse_large(task, batch or 1)
        chosen, count = task, min(batch or 1, most or batch or 1)
        episode = repeatable(task, lambda: sampled(chosen, seeds.generator("task"), count))
        inputs = episode.inputs
    elif batch is not None:
        raise InputError("batch is for a task; the inputs you gave have a batch axis of their own")
    return fitting_inputs(cell, inputs, dtype), episode  # type: ignore[arg-type]


def fitting_inputs(cell: Cell, inputs: ArrayLike, dtype: np.dtype) -> Array:
    """Inputs (time, batch, input) that the cell takes."""
    x = finite("inputs", array("inputs", inputs, INPUTS), dtype)
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
    return x


def checked_params(
    cell: Cell,
    task: Task | None,
    given: Mapping[str, Array] | None,
    hooks: RunHooks,
    seeds: Seeds,
    dtype: np.dtype,
    inputs: Callable[[], Array],
) -> tuple[Params, Params]:
    """The parameters of the cell and of the readout, given or drawn, if need be for these inputs."""
    if given is not None and (idle := hooks.only("gradsim_params")):
        raise InputError(f"{idle.name} says how parameters start, and params are given; leave one out")
    own = _drawn_params(cell, given is None, hooks, seeds, inputs)
    refuse(cell, gates_mistakes(cell, own))
    for what in ("fixed", "recurrent_weights"):
        for name in getattr(cell, what):
            if name not in own:
                raise unknown(f"parameter in `{what}` of {cell.name}", name, own)
    for name in cell.output_blocks:
        cell.block(name)
    readout = init_readout(cell, task, seeds.generator("readout")) if task else {}
    if clash := set(own) & set(READOUT):
        raise PluginError(f"{cell!r}: {sorted(clash)} are names of the readout; rename these parameters")
    fresh = {**own, **readout}
    for name, value in (given or {}).items():
        if name not in fresh:
            raise unknown("parameter in params", name, fresh)
        if np.shape(value) != np.shape(fresh[name]):
            raise InputError(
                f"params[{name!r}] has shape {np.shape(value)} where {np.shape(fresh[name])} is needed"
            )
    if given is not None and (missing := set(own) - set(given)):
        raise InputError(f"params lack {sorted(missing)}")
    chosen = {n: finite(f"params[{n!r}]", v, dtype) for n, v in {**named(fresh), **(given or {})}.items()}
    for value in chosen.values():
        value.flags.writeable = False
    return {n: chosen[n] for n in own}, {n: chosen[n] for n in readout}


def _drawn_params(
    cell: Cell, needed: bool, hooks: RunHooks, seeds: Seeds, inputs: Callable[[], Array]
) -> Params:
    """Those that the cell and the mitigations draw, or zeros of their shapes where no number is needed."""
    changed = needed and hooks.uses("gradsim_params")
    itself = not changed and type(cell).__eq__ is object.__eq__
    if itself and not needed and cell in _shapes:
        return {n: np.broadcast_to(0.0, shape) for n, shape in _shapes[cell].items()}
    seen = inputs() if changed and hooks.uses("gradsim_params", "inputs") else None

    def draw() -> Params:
        rng = seeds.generator("params")
        if not changed:
            return initial_params(cell, rng)
        found: Params = hooks("gradsim_params", cell=cell, inputs=seen, rng=rng)
        return found

    try:
        own = draw()
        if needed and (changed or cell not in _drawn_alike):
            _refuse_other_draws(cell, own, draw, hooks, seeds)
            _drawn_alike.add(cell)
    except MemoryError as error:
        raise BudgetError(
            f"the parameters of {cell!r} do not fit into memory ({error}); use fewer units"
        ) from None
    if itself:
        _shapes[cell] = {n: np.shape(p) for n, p in own.items()}
    return own


_drawn_alike = Passed()

_shapes: WeakKeyDictionary[Cell, dict[str, tuple[int, ...]]] = WeakKeyDictionary()
"""Of the parameters that a cell has drawn: where all are given, none need be drawn again."""


def _refuse_other_draws(
    cell: Cell, own: Params, draw: Callable[[], Params], hooks: RunHooks, seeds: Seeds
) -> None:
    """Refuse parameters that are decided by something else than the rng."""
    first = {n: np.array(p) for n, p in own.items()}  # which the cell may keep and change
    if _differ(first, draw()):
        one = {n: np.array(p) for n, p in initial_params(cell, seeds.generator("params")).items()}
        if _differ(one, initial_params(cell, seeds.generator("params"))):
            raise PluginError(f"{cell!r}: {DRAWS_OTHERS}")
        raise PluginError(f"{hooks.who('gradsim_params')} {DRAWS_OTHERS.partition(' ')[2]}")


def _differ(one: Params, other: Params) -> bool:
    return one.keys() != other.keys() or not all(np.array_equal(p, other[n]) for n, p in one.items())


def checked_state(cell: Cell, given: ArrayLike | None, batch: int, dtype: np.dtype) -> Array:
    """s_0 as (batch, m), which may be the same numbers for all."""
    first = array("initial_state", initial_state(cell) if given is None else given, INITIAL_STATE)
    state = finite("initial_state", first, dtype)
    m = cell.state_size
    if state.shape not in ((m,), (batch, m)):
        raise InputError(f"initial_state should have shape ({m},) or ({batch}, {m}), got {state.shape}")
    return np.broadcast_to(state, (batch, m))


def known_step_data(
    cell: Cell, episode: Episode | None, rng: np.random.Generator, inputs: Array, moment: Moment
) -> dict[str, Array]:
    """What a cell may ask for by name: the step, what the task gives, what the cell draws itself."""
    steps, batch = inputs.shape[:2]
    index = np.broadcast_to(np.arange(1, steps + 1)[:, None], (steps, batch)).copy()
    given = {} if episode is None else episode.offered
    return {"step_index": index, **given, **drawn(cell.draw, rng, inputs, moment)}


def wanted_step_data(
    cell: Cell, known: Mapping[str, Array], lead: tuple[int, int], dtype: np.dtype
) -> StepData:
    """The step data that the cell asks for, (steps, batch, ...)."""
    found = {}
    for name in cell.step_data:
        if name not in known and name in ("targets", "weights"):
            raise InputError(f"{cell!r} asks for the {name} of a task, and there is none; give task=")
        if name not in known:
            raise unknown(f"step data that {cell.name} asks for", name, known)
        value = np.asarray(known[name]).view()  # which a run may lock, unlike what the task keeps
        if value.shape[:2] != lead:
            raise PluginError(
                f"{cell!r}: step data {name!r} has shape {value.shape}; its leading axes should be {lead}"
            )
        found[name] = value
    return as_dtype(found, dtype)


def as_dtype(data: StepData, dtype: np.dtype) -> StepData:
    """Floats in the dtype of the run; other arrays as they are."""
    arrays = {n: np.asarray(x) for n, x in data.items()}
    return {n: x.astype(dtype) if x.dtype.kind == "f" else x for n, x in arrays.items()}


def chosen_recorders(record: Sequence[str | Recorder], hooks: RunHooks) -> list[Recorder]:
    """The recorders that were asked for.

    Raises
    ------
    InputError
        There is none, or what one asks for does not exist with these mitigations.
    """
    if not record:
        raise InputError("record should be a list of recorder names, at least one (got none)")
    chosen = [registry.recorder(r) if isinstance(r, str) else r for r in record]
    by_name: dict[str, Recorder] = {}
    for r in chosen:
        refuse_by_value(r)
        before = by_name.setdefault(r.full_name, r)
        if type(r) is not type(before) or r.parameters != before.parameters:
            raise InputError(f"record holds {before!r} and {r!r}, of one name; record one of them")
        if why := why_not(r, hooks):
            raise InputError(why)
    return list(by_name.values())


def why_not(recorder: Recorder, hooks: RunHooks) -> str:
    """Why what is recorded does not exist of the run as the mitigations change it; empty where it does."""
    if True not in recorder.flows:
        return ""
    name = recorder.full_name
    if rules := hooks.phases.get("rule"):
        if recorder.stream is not Gradient:
            return (
                f"{name} does not exist under the rule {rules[0]}, which makes the gradient without a "
                "backward pass; record the effective gradient, or raw quantities"
            )
    elif recorder.stream in FROM_JACOBIANS and hooks.uses("gradsim_adjoint"):
        return (
            f"{name} does not exist with a mitigation that changes the adjoint itself, which is not linear; "
            "record effective_adjoint_norm and effective_adjoint_factor instead"
        )
    elif recorder.stream is GradientByLag:
        for phase, what in _OF_NO_LAG.items():
            if who := hooks.phases.get(phase):
                return f"{name} does not exist with {who[0]}, which changes {what}, whatever the lag"
    return ""


_OF_NO_LAG = {
    "contributions": "what a step adds to the gradient for all losses together",
    "gradient": "the gradient as a whole",
}
"""Phases that see no lags any more, and what they change."""

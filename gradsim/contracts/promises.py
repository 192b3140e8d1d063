"""What a cell promises, and what breaks it, in words for its author: the same in a run and in the kit."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gradsim.contracts.plugin import calling
from gradsim.errors import PluginError, unknown
from gradsim.types import Array, Params

if TYPE_CHECKING:
    from gradsim.contracts.cell import Cell

CHANGED = "changes its argument {}; compute a new array instead"
UNEQUAL = (
    "gives two results for the same arguments; keep nothing on the cell, and draw what is random before the "
    "run, in `draw`"
)
ALONE = (
    "of one batch element alone differs by {:.1e} from that of the same element among others; reduce over "
    "the last axis only (axis=-1), and choose unit by unit, with xp.where(condition, this, that)"
)
DRAWS_OTHERS = (
    "init_params() draws other numbers from the same rng; take all randomness from the rng that it is given"
)


def mend(cell: Cell, method: str) -> str:
    """Where to mend a derivative, or the many steps at once, of a cell, and what to do instead."""
    where, name = cell.written(method), type(cell).__name__
    if method == "unroll" and where in ("unit", "slopes"):
        # What they are compared with is of the same making, unless the class has a derivative beside it.
        where = next((m for m in ("state_vjp", "params_vjp") if cell.written(m) == m), where)
    if where == "module":
        return (
            "let the gradient through all of the module, which may detach, compute under no_grad, or have a "
            "backward of its own; if that is on purpose, say exact=False"
        )
    if where == "unit":
        return f"mend {name}.unit, which should make the same of a unit however many others there are"
    instead = "go step by step" if where in ("unroll", "kernel") else "get the free derivative"
    return f"mend {name}.{where}, or delete it to {instead}"


def refuse(cell: Cell, mistakes: Iterator[str]) -> None:
    """Raise PluginError with the first mistake of a cell, if there is one."""
    for mistake in mistakes:
        raise PluginError(f"{cell!r}: {mistake}")


def initial_params(cell: Cell, rng: np.random.Generator) -> Params:
    """The parameters that a cell draws.

    Raises
    ------
    PluginError
        They are no named numbers.
    """
    with calling(cell, "init_params"):
        params = cell.init_params(rng)
        refuse(cell, params_mistakes(params))
    return params


def initial_state(cell: Cell) -> Array:
    """The state (m,) that runs of a cell start from.

    Raises
    ------
    PluginError
        It is something else.
    """
    with calling(cell, "initial_state"):
        state = cell.initial_state()
        refuse(cell, start_mistakes(cell, state))
    return np.asarray(state)


def layout_mistakes(cell: Cell) -> Iterator[str]:
    """What is wrong with what a cell says about itself, before anything is drawn."""
    for method in _ARGUMENTS:
        yield from _signature_mistakes(method, getattr(type(cell), method))
    blocks = _told(cell, "blocks")
    if not (
        isinstance(blocks, Mapping)
        and blocks
        and all(isinstance(n, str) and is_count(size) for n, size in blocks.items())
    ):
        yield _expected("blocks", blocks, "map names to sizes, ints of 1 or more, such as {'h': 4}")
    size = _told(cell, "input_size")
    if not is_count(size, 0):
        yield _expected("input_size", size, "be an int, 0 or more")
    m, groups = cell.state_size, _told(cell, "jacobian_groups")
    if not is_count(groups) or m % groups:
        yield _expected("jacobian_groups", groups, f"divide the size {m} of the state, {dict(blocks)}")
    seen = _told(cell, "output_blocks")
    if not (_is_names(seen) and seen):
        yield _expected("output_blocks", seen, f"be a tuple of some of the blocks {_listed(blocks)}")
    for name in seen:
        if name not in blocks:
            yield str(unknown("block in output_blocks", name, blocks))
    features = _told(cell, "output_size")
    if not is_count(features):
        yield _expected("output_size", features, "be an int, 1 or more")
    for what in ("recurrent_weights", "fixed", "paths"):
        if not _is_names(names := _told(cell, what)):
            yield _expected(what, names, "be a tuple of names, such as ('U',)")
    gates = _told(cell, "gates")
    if not (isinstance(gates, Mapping) and all(map(_is_names, gates.values()))):
        yield _expected("gates", gates, "map parameters to tuples of names, such as {'U': ('update',)}")


_ARGUMENTS = {
    "init_params": "rng",
    "step": "params, state, inputs, xp",
    "output": "params, state, inputs, xp",
    "initial_state": "",
}


@functools.cache
def _signature_mistakes(method: str, function: Callable[..., Any]) -> tuple[str, ...]:
    """What is wrong with what a method takes."""
    wanted = _ARGUMENTS[method]
    parameters = list(inspect.signature(function).parameters.values())
    by_name = {p.name: None for p in parameters if p.kind is p.KEYWORD_ONLY}
    try:
        inspect.signature(function).bind(None, *filter(None, wanted.split(", ")), **by_name)
    except TypeError:
        taken = ", ".join(str(p) for p in parameters[1:])
        data = ", and step data by name after a *" if method == "step" else ""
        return (f"{method}() takes ({taken}); it should take ({wanted}){data}",)
    return ()


def params_mistakes(params: Any, method: str = "init_params") -> Iterator[str]:
    """What is wrong with the parameters that a cell draws."""
    if not isinstance(params, Mapping):
        yield f"{method}() returns {kind(params)}; it should be a dict of float64 arrays"
        return
    for name, value in params.items():
        if not isinstance(name, str):
            yield f"{method}() names a parameter {name!r}; names should be text"
        array = _as_array(value)
        if array is None or array.dtype.kind not in "fiu":
            yield f"{method}()[{name!r}] is {kind(value)}; it should be a float64 array"
        elif not np.isfinite(array).all():
            yield f"{method}()[{name!r}] holds NaN or infinity"


def gates_mistakes(cell: Cell, params: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the gates that a cell names."""
    for name, gates in cell.gates.items():
        if name not in params:
            yield str(unknown("parameter in gates", name, params))
            continue
        if not gates or len(set(gates)) < len(gates):
            yield f"gates[{name!r}] is {gates!r}; it should be a tuple of different names"
            continue
        shape = np.shape(params[name])
        if not shape or shape[0] % len(gates):
            yield (f"gates[{name!r}] names {len(gates)} gates, which do not divide the rows of shape {shape}")


def start_mistakes(cell: Cell, state: Any) -> Iterator[str]:
    """What is wrong with the initial state that a cell gives."""
    array, m = _as_array(state), cell.state_size
    if array is None or array.dtype.kind not in "fiu":
        yield f"initial_state() is {kind(state)}; it should be {m} finite floats"
    elif array.shape != (m,) or not np.isfinite(array).all():
        yield (
            f"initial_state() has shape {array.shape}, dtype {array.dtype}; it should be {m} finite floats"
        )


def result_mistakes(cell: Cell, method: str, found: Any, state: Array) -> Iterator[str]:
    """What is wrong with what `step` or `output` makes of a state, with its shape and dtype."""
    size = cell.state_size if method == "step" else cell.output_size
    expected = (*state.shape[:-1], size)
    about = f"for a state of shape {state.shape} and {state.dtype}, {method}() returns"
    if found is None:
        yield f"{about} nothing; it should end with `return` and the new array"
    elif not isinstance(found, np.ndarray | np.generic):
        yield f"{about} {kind(found)}, not an array{_join(cell, method, found)}"
    elif found.shape != expected:
        cure = _cure(cell, method, found.shape, expected)
        yield f"{about} shape {found.shape} where {expected} is needed; {cure}"
    elif found.dtype != state.dtype:
        yield f"{about} {found.dtype}; constants should be Python numbers, or have the dtype of the state"


def _cure(cell: Cell, method: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> str:
    if shape == expected[:-1]:
        return "keep the last axis, as sums do with keepdims=True"
    if shape[:-1] != expected[:-1]:
        return "any leading axes should stay: index with [..., i], and reduce over the last axis (axis=-1)"
    if method == "step" and len(cell.blocks) > 1 and shape[-1] in cell.blocks.values():
        return f"join the blocks {_listed(cell.blocks)} with xp.concat(..., axis=-1)"
    return f"the blocks are {dict(cell.blocks)}" if method == "step" else f"output_size is {cell.output_size}"


def _join(cell: Cell, method: str, found: Any) -> str:
    several = method == "step" and isinstance(found, Sequence) and len(found) == len(cell.blocks)
    return "; join its blocks with xp.concat(..., axis=-1)" if several else ""


def is_count(value: Any, least: int = 1) -> bool:
    """Whether it is an int of so much or more."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and bool(value >= least)


def _told(cell: Cell, attribute: str) -> Any:
    with calling(cell, attribute):
        return getattr(cell, attribute)


def _expected(what: str, given: Any, rule: str) -> str:
    if callable(given):
        return f"{what} is a method; put @property above it: it should {rule}"
    return f"{what} is {given!r}; it should {rule}"


def _is_names(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(n, str) for n in value)


def _listed(names: Mapping[str, Any]) -> str:
    return ", ".join(sorted(names))


def _as_array(value: Any) -> Array | None:
    try:
        return np.asarray(value)
    except Exception:  # lists of lists of different lengths, among others
        return None


def kind(value: Any) -> str:
    """What a value is, in a message."""
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype}"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return "None" if value is None else f"a {type(value).__name__}"

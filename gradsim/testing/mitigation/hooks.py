"""The checks of a mitigation, hook by hook: what it is given, and what it must return."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any
from unittest import SkipTest

import numpy as np

from gradsim.contracts.cell import Cell
from gradsim.contracts.hooks import RunHooks, hookimpl
from gradsim.contracts.jacobians import Jacobians
from gradsim.contracts.mitigation import Mitigation, Penalty
from gradsim.contracts.moment import Moment
from gradsim.contracts.plugin import drawn
from gradsim.contracts.returned import refuse_other_arrays
from gradsim.errors import GradsimError, PluginError, unknown
from gradsim.testing.cell import suite as cells
from gradsim.testing.kit import Checks, label, names, no_global_randomness, same
from gradsim.testing.mitigation.bench import ARGUMENTS, MitigationBench, finite, numbers
from gradsim.testing.specimen import BATCH, STEPS, Clocked, Elementwise, Renamed
from gradsim.types import Array

CHECKS = Checks()


@CHECKS("frozen_dataclass")
def wraps_only(bench: MitigationBench) -> None:
    """There is a hook, and every implementation is marked, known, and a wrapper."""
    RunHooks([bench.mitigation])


@CHECKS("wraps_only")
def draws_from_rng(bench: MitigationBench) -> None:
    """What is random comes from the rng that `draw` is given."""
    with no_global_randomness(bench, "draw()"):
        one, again = (bench.draws() for _ in range(2))
    bench.expect(isinstance(one, dict), f"draw() returns {type(one).__name__}; it should be a dict of arrays")
    bench.expect(
        same(one, again),
        "draw() gives other numbers from the same rng; take all randomness from the rng that it is given",
    )


@CHECKS("draws_from_rng", applies=lambda bench: bench.has("step_data"))
def validation_is_thought_of(bench: MitigationBench) -> None:
    """In a pass that validates, `draw` and the hook of the step data know it, and no answer is handed on."""
    hook, moment = "gradsim_step_data", Moment(3, 10, "validate")
    bench.expect(
        RunHooks([bench.mitigation]).unasked(hook, "moment") is None,
        f"{hook} should name `moment`, and say what holds where moment.validating: forcing and dropout are "
        "off",
    )
    try:
        draws = {bench.mitigation: bench.draws(moment)}
    except PluginError as error:
        bench.fail(str(error))
    given = bench.arguments(hook) | {"moment": moment, "draws": draws}
    episode, found = given["episode"], []
    for seen in (episode, episode.otherwise):
        data = given["step_data"] | {"targets": seen.targets}
        result = dict(bench.call(hook, given | {"episode": seen, "step_data": data}))
        found.append({n: x for n, x in result.items() if n != "targets" or x is not seen.targets})
    bench.expect(
        same(*found),
        f"{hook} makes step data of the targets in a validation too, so that the answers leak into it; leave "
        "them out where moment.validating",
    )


@CHECKS("wraps_only", applies=lambda bench: bench.has("cell"))
def prepared_cell(bench: MitigationBench) -> None:
    """The cell that it makes passes the checks of a cell: of a dense, a diagonal, and one with step data."""
    hooks = RunHooks([bench.mitigation])
    for inner in (bench.cell, Elementwise(), Clocked()):
        try:
            cell = hooks("gradsim_cell", cell=inner)
        except GradsimError as error:
            bench.expect(inner is not bench.cell and not isinstance(error, PluginError), str(error))
            continue
        bench.expect(
            isinstance(cell, Cell),
            f"gradsim_cell returns {label(cell)}, a {type(cell).__name__}; not a Cell",
        )
        for name, call in cells.suite(cell, bench.task).calls():
            try:
                call()
            except SkipTest:
                continue
            except AssertionError as error:
                raise AssertionError(
                    f"{label(bench.mitigation)}: its cell fails `{name}`: {error}"
                ) from error


@CHECKS("prepared_cell", applies=lambda bench: bench.has("cell"))
def own_names(bench: MitigationBench) -> None:
    """What its cell adds is its own: twice it adds twice as much; nothing is shared by accident."""
    fix = "let a Wrapper name them, by own_params, own_draw and mix"
    for inner in (bench.cell, Clocked()):
        theirs = _names(bench, inner)
        apart = Renamed(inner, {name: f"{name}_inside" for _, name in theirs})
        try:
            once = _prepared(bench, apart)
            twice = _prepared(bench, once)
        except GradsimError:  # not around a cell like this
            continue
        added, again = (_names(bench, a) - _names(bench, b) for a, b in ((once, apart), (twice, once)))
        bench.expect(
            len(added) == len(again),
            f"once around a cell it adds {_listed(added)}, and once more {_listed(again)}, so that the two "
            f"share parameters or step data; {fix}",
        )
        for what, name in added:
            one = next((n for kind, n in sorted(theirs) if kind == what), None)
            alike = apart if one is None else Renamed(inner, {**apart.names, one: name})
            try:
                found = _names(bench, _prepared(bench, alike)) - _names(bench, alike)
            except GradsimError:  # a clash that is refused
                continue
            bench.expect(
                len(found) == len(added),
                f"it shares the {what} {name!r} with a cell inside that has one of this name; {fix}",
            )


def _prepared(bench: MitigationBench, inner: Cell) -> Cell:
    cell: Cell = RunHooks([bench.twin()])("gradsim_cell", cell=inner)
    return cell


def _names(bench: MitigationBench, cell: Cell) -> set[tuple[str, str]]:
    """What a cell has of its own: parameters, and the step data that it draws."""
    params = cell.init_params(bench.rng("own names"))
    data = drawn(cell.draw, bench.rng("own names"), np.zeros((STEPS, BATCH, cell.input_size)), Moment())
    return {("parameter", n) for n in params} | {("step datum", n) for n in data if n in cell.step_data}


def _listed(found: set[tuple[str, str]]) -> str:
    return names(name for _, name in found)


@CHECKS("prepared_cell", applies=lambda bench: bench.has("params"))
def initial_params(bench: MitigationBench) -> None:
    """The parameters that it starts from have the names and shapes of the cell, and come from the rng."""
    cell = bench.prepared
    given = RunHooks([bench.mitigation])
    with no_global_randomness(bench, "gradsim_params"):
        one, again = (given("gradsim_params", **bench.at_first(cell)) for _ in range(2))
    before = cell.init_params(bench.rng("at first"))
    bench.expect(
        isinstance(one, dict) and one.keys() == before.keys(),
        f"gradsim_params gives the parameters {names(one)} where {names(before)} are needed",
    )
    for name, value in one.items():
        found, needed = np.asarray(value), before[name]
        bench.expect(
            found.shape == needed.shape and found.dtype == np.float64,
            f"gradsim_params gives {name!r} of shape {found.shape}, {found.dtype}, where "
            f"{needed.shape}, float64, is needed",
        )
        bench.expect(np.isfinite(found).all(), f"gradsim_params gives {name!r} with NaN or infinity")
    bench.expect(
        same(one, again),
        "gradsim_params draws other numbers from the same rng; take all randomness from the rng that "
        "it is given",
    )


@CHECKS("prepared_cell", "initial_params", "draws_from_rng", applies=lambda bench: bool(bench.passing()))
def returns_result(bench: MitigationBench) -> None:
    """Every hook of the backward pass returns what a run takes, in the dtype of the run."""
    for hook in bench.passing():
        for dtype in ("float64", "float32"):
            arguments = bench.arguments(hook, dtype)
            result = bench.call(hook, arguments)  # other kinds, names and shapes are refused here
            for what, value, given in _beside(hook, result, arguments):
                _like(bench, f"{hook}: {what}", value, given)


def _beside(hook: str, result: Any, arguments: Mapping[str, Any]) -> Iterator[tuple[str, Any, Array]]:
    """What a hook returns, array by array, each with what it stands in the place of."""
    match result:
        case Jacobians():
            yield "blocks", result.blocks, arguments["jacobians"].blocks
        case Penalty():
            yield from _by_name("the gradient of", result.gradient, arguments["params"])
            if result.state_gradient is not None:
                yield "state_gradient", result.state_gradient, arguments["trajectory"].states
        case Mapping() if hook != "gradsim_step_data":
            if hook == "gradsim_rule":
                given = arguments["trajectory"].params
            else:
                of = {"gradsim_contributions": "contributions", "gradsim_gradient": "gradient"}
                given = arguments[of.get(hook, "params")]
            refuse_other_arrays(given, result)
            yield from _by_name("that of", result, given)
        case np.ndarray():
            yield "the adjoint", result, arguments["adjoint"]


def _by_name(
    what: str, result: Mapping[str, Any], given: Mapping[str, Array]
) -> Iterator[tuple[str, Any, Array]]:
    for name, value in result.items():
        if name not in given:
            raise unknown("parameter", name, given)
        yield f"{what} {name!r}", value, given[name]


def _like(bench: MitigationBench, what: str, value: Any, given: Array) -> None:
    bench.expect(
        value.shape == given.shape and value.dtype == given.dtype,
        f"{what} has shape {value.shape} and {value.dtype} where {given.shape} and {given.dtype} are needed; "
        "keep the dtype: compute with Python numbers, or end with .astype(...)",
    )


@CHECKS("returns_result", applies=lambda bench: bool(bench.passing()))
def is_pure(bench: MitigationBench) -> None:
    """A hook changes none of its arguments, and gives the same again."""
    for hook in bench.passing():
        results = []
        for _ in range(2):
            given, before = (bench.arguments(hook) for _ in range(2))
            results.append(numbers(bench.call(hook, given)))
            for name in before:
                if name not in ("trajectory", "moment", "cell", "episode"):
                    bench.expect(
                        same(numbers(given[name]), numbers(before[name])),
                        f"{hook} changes its argument {name}; compute a new array instead",
                    )
        bench.expect(
            same(*results),
            f"{hook} gives two results for the same arguments; keep nothing on the object, and make what "
            "is random in draw()",
        )


@CHECKS("is_pure", applies=lambda bench: bool(bench.passing()))
def zero_adjoint(bench: MitigationBench) -> None:
    """Zeros in, finite numbers out: a loss that reaches nothing must not become NaN."""
    for hook in bench.passing():
        given = bench.arguments(hook)
        for name in ("adjoint", "direct", "gradient", "contributions", "jacobians"):
            if name in given:
                given[name] = _zeros(given[name])
        bench.expect(
            finite(numbers(bench.call(hook, given))),
            f"{hook} makes NaN or infinity of zeros; look for a division by a norm",
        )


def _zeros(value: Any) -> Any:
    if isinstance(value, Jacobians):
        return Jacobians(value.steps, np.zeros_like(value.blocks))
    return (
        {n: np.zeros_like(x) for n, x in value.items()} if isinstance(value, dict) else np.zeros_like(value)
    )


class _Passing(GradsimError):
    """What the kit raises inside a pass."""


@CHECKS("wraps_only", applies=lambda bench: bench.hooks != {"gradsim_rule"})
def errors_pass_through(bench: MitigationBench) -> None:
    """An exception raised inside a hook comes out as it is."""
    for hook in sorted(bench.hooks - {"gradsim_rule"}):  # of which there can be only one
        error = _Passing(f"raised inside {hook}")
        try:
            RunHooks([_raising(hook, error), bench.mitigation])(hook, **_anything(bench, hook))
        except Exception as other:
            bench.expect(
                other is error,
                f"an error raised inside {hook} comes out as {type(other).__name__}: {other}; put no try "
                "around the yield",
            )
        else:
            bench.fail(f"an error raised inside {hook} does not come out; put no try around the yield")


def _anything(bench: MitigationBench, hook: str) -> dict[str, Any]:
    if hook in ARGUMENTS:
        return bench.arguments(hook)
    return bench.at_first(bench.cell) if hook == "gradsim_params" else {"cell": bench.cell}


def _raising(hook: str, error: Exception) -> Mitigation:
    def implementation(self):  # type: ignore[no-untyped-def]
        yield
        raise error

    members = {"name": "raising", hook: hookimpl(wrapper=True)(implementation)}
    cls: Any = type("Raising", (Mitigation,), members)
    return dataclasses.dataclass(frozen=True, eq=False)(cls)()  # type: ignore[no-any-return]

"""The checks of a cell: what its blocks, parameters and step promise."""

from __future__ import annotations

import importlib.util
import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from gradsim.contracts.moment import Moment
from gradsim.contracts.pieces import Forward
from gradsim.contracts.plugin import drawn
from gradsim.contracts.promises import (
    CHANGED,
    DRAWS_OTHERS,
    UNEQUAL,
    kind,
    layout_mistakes,
    params_mistakes,
    result_mistakes,
    start_mistakes,
)
from gradsim.contracts.task import mirrored
from gradsim.engine.probe import Place
from gradsim.errors import GradsimError, InputError, PluginError
from gradsim.numerics import autodiff
from gradsim.simulation import prepare
from gradsim.testing.cell.bench import CellBench
from gradsim.testing.cell.libraries import why_not
from gradsim.testing.kit import Checks, copied, names, no_global_randomness, same
from gradsim.testing.specimen import BATCH, STEPS, stage, witness

CHECKS = Checks()


@CHECKS()
def state_layout(bench: CellBench) -> None:
    """Blocks, output blocks, groups and the initial state fit together."""
    for mistake in layout_mistakes(bench.cell):
        bench.fail(mistake)
    for mistake in start_mistakes(bench.cell, bench.cell.initial_state()):
        bench.fail(mistake)


@CHECKS()
def params_from_rng(bench: CellBench) -> None:
    """The rng alone decides the parameters, which are finite float64 arrays."""
    with no_global_randomness(bench, "init_params()"):
        one, again = (copied(bench.cell.init_params(bench.rng("same"))) for _ in range(2))
    for mistake in params_mistakes(one):
        bench.fail(mistake)
    for name, value in one.items():
        bench.expect(
            isinstance(value, np.ndarray) and value.dtype == np.float64,
            f"init_params()[{name!r}] is {kind(value)}; it should be a float64 array",
        )
    bench.expect(same(one, again), DRAWS_OTHERS)


@CHECKS("params_from_rng", "state_layout")
def recurrent_weights_exist(bench: CellBench) -> None:
    """What the cell calls its recurrent weights are parameters of shape (rows * n, n)."""
    cell = bench.cell
    params, sizes = cell.init_params(bench.rng("params")), {*cell.blocks.values(), cell.state_size}
    bench.expect(
        isinstance(cell.recurrent_weights, tuple),
        f"recurrent_weights is {cell.recurrent_weights!r}; it should be a tuple of names",
    )
    for name in cell.recurrent_weights:
        bench.expect(name in params, f"recurrent_weights names {name!r}; the parameters are {names(params)}")
        shape = params[name].shape
        bench.expect(
            len(shape) == 2 and shape[1] in sizes and shape[0] % shape[1] == 0,
            f"the recurrent weight {name!r} has shape {shape}; it should be (rows * n, n) with n one of "
            f"{sorted(sizes)}",
        )


@CHECKS("params_from_rng")
def fixed_parameters_exist(bench: CellBench) -> None:
    """What training leaves alone are parameters of the cell."""
    params, fixed = bench.cell.init_params(bench.rng("params")), bench.cell.fixed
    bench.expect(
        isinstance(fixed, tuple) and set(fixed) <= set(params),
        f"fixed is {fixed!r}; it should be a tuple of some of the parameters {names(params)}",
    )


@CHECKS("step_is_pure")
def unused_numbers_are_unused(bench: CellBench) -> None:
    """No state depends on the numbers of parameters that the cell calls unused."""
    unused, here = bench.cell.unused, bench.run
    for name, mask in unused.items():
        bench.expect(
            name in here.params and np.shape(mask) == here.params[name].shape and mask.dtype == bool,
            f"unused[{name!r}] should be a boolean array of the shape of a parameter",
        )
    other = {n: np.where(unused.get(n, False), p + 1, p) for n, p in here.params.items()}
    bench.expect(
        same(bench.step(here), bench.step(replace(here, params=other))),
        f"a step depends on numbers in {sorted(unused)} that `unused` says nobody looks at",
    )


@CHECKS("params_from_rng", "state_layout")
def draws_from_rng(bench: CellBench) -> None:
    """The random step data come from the rng alone, with leading axes (steps, batch)."""
    for steps, batch in ((STEPS, BATCH), (2, 5)):
        inputs = bench.rng("inputs").standard_normal((steps, batch, bench.cell.input_size))
        with no_global_randomness(bench, "draw()"):
            one, again = (drawn(bench.cell.draw, bench.rng("draw"), inputs, Moment()) for _ in range(2))
        bench.expect(
            isinstance(one, dict), f"draw() returns {type(one).__name__}; it should be a dict of arrays"
        )
        for name, value in one.items():
            bench.expect(
                np.shape(value)[:2] == (steps, batch),
                f"draw() gives {name!r} of shape {np.shape(value)}; its leading axes should be (steps, "
                f"batch) = {(steps, batch)}",
            )
        bench.expect(
            same(one, again),
            "draw() gives other numbers from the same rng; take all randomness from the rng that it is given",
        )


@CHECKS("draws_from_rng")
def step_data_is_given(bench: CellBench) -> None:
    """Everything that `step` asks for by name is drawn by the cell or by a task."""
    bench.draw()


@CHECKS("step_data_is_given")
def step_shape_and_dtype(bench: CellBench) -> None:
    """A step keeps shape and dtype of the state, for any leading axes."""
    whole = bench.run
    for place in (whole[0, 0], whole[0], whole):
        for dtype in ("float64", "float32"):
            given = place.copy(dtype)
            new = given.call(bench.cell.step, np)
            for mistake in result_mistakes(bench.cell, "step", new, given.state):
                bench.fail(mistake)


@CHECKS("step_shape_and_dtype")
def step_is_pure(bench: CellBench) -> None:
    """A step changes none of its arguments, and gives the same again."""
    expect_pure(bench, bench.cell.step, bench.run)


def expect_pure(bench: CellBench, method: Callable[..., Any], before: Place) -> None:
    """Fail unless a method of the cell leaves its arguments alone and gives the same again."""
    given = before.copy()
    results = [np.array(given.call(method, np)) for _ in range(2)]
    name = before.changed(given)
    bench.expect(name is None, f"{method.__name__}() {CHANGED.format(name)}")
    bench.expect(same(*results), f"{method.__name__}() {UNEQUAL}")


@CHECKS("draws_from_rng", "step_data_is_given")
def validation_is_thought_of(bench: CellBench) -> None:
    """In a pass that validates, `draw` knows what it is for."""
    try:
        bench.draw(moment=Moment(purpose="validate"))
    except PluginError as error:
        bench.fail(str(error))


@CHECKS("step_is_pure", "validation_is_thought_of")
def validation_sees_no_answers(bench: CellBench) -> None:
    """In a pass that validates, a step does not depend on the targets."""
    run, data = bench.run, bench.draw(moment=Moment(purpose="validate"))
    others = {n: mirrored(x) if n == "targets" else x for n, x in data.items()}
    one, other = (bench.step(Place(run.params, run.state, run.inputs, d)) for d in (data, others))
    bench.expect(
        same(one, other),
        "step() depends on the targets in a validation too, so that the answers leak into it; ask for an "
        "array besides, which draw() makes 0 where moment.validating, and let it switch them off",
    )


@CHECKS("step_is_pure")
def speaks_the_standard(bench: CellBench) -> None:
    """A step computes with `xp`, by the names of the array API standard, and with nothing else."""
    expect_standard(bench, bench.cell.step, bench.run)


def expect_standard(bench: CellBench, function: Callable[..., Any], place: Place) -> None:
    """Fail unless a function of the cell computes with namespaces that have the names of the standard."""
    for title, xp in _strict_namespaces().items():
        if wrong := why_not(function, place, title, xp):
            bench.fail(f"{function.__name__}() {wrong}{autodiff.advice(function)}")


def _strict_namespaces() -> dict[str, Any]:
    """Namespaces that have the names of the standard and no others."""
    found: dict[str, Any] = {"the names of the array API standard": autodiff.xp}
    if importlib.util.find_spec("array_api_strict"):
        found["array_api_strict"] = importlib.import_module("array_api_strict")
    return found


@CHECKS("step_is_pure")
def leading_axes(bench: CellBench) -> None:
    """Times and batch elements do not see each other: a step of many is many steps of one."""
    whole = bench.run
    together = bench.step(whole)
    for t, b in np.ndindex(STEPS, BATCH):
        alone = bench.step(whole[t : t + 1, b : b + 1])[0, 0]
        bench.expect(
            np.allclose(alone, together[t, b], rtol=1e-9, atol=1e-11),
            f"step() of {STEPS} x {BATCH} positions at once differs at {(t, b)} by "
            f"{np.abs(alone - together[t, b]).max():.1e} "
            "from a step of that position alone; reduce over the last axis only (axis=-1)",
        )


@CHECKS("step_is_pure")
def finite_at_extremes(bench: CellBench) -> None:
    """Far out, at states of +-50 and no input, a step and its Jacobian are finite, without a warning."""
    cell, place, params = bench.cell, bench.run[0].copy(), bench.cell.init_params(bench.rng("params"))
    signs = bench.rng("signs").choice([-1.0, 1.0], place.state.shape)
    signs[0], signs[1] = 1, -1
    for state in (50 * signs, -50 * signs):
        here = Place(params, state, np.zeros_like(place.inputs), place.data)
        with warnings.catch_warnings(), np.errstate(over="warn", divide="warn", invalid="warn"):
            warnings.simplefilter("error")
            try:
                found = {
                    "step()": here.call(cell.step, np),
                    "step_jacobian()": here.call(cell.step_jacobian),
                }
            except Warning as warning:
                bench.fail(
                    f"at states of +-50 and no input: {warning}; use a form that does not overflow (a "
                    "sigmoid as 0.5 * (xp.tanh(0.5 * a) + 1), a softmax after taking out the maximum)"
                )
        for name, value in found.items():
            bench.expect(np.isfinite(value).all(), f"{name} is not finite at states of +-50 and no input")


@CHECKS("step_is_pure")
def wrong_input_shape_is_refused(bench: CellBench) -> None:
    """A run with one input feature too many is refused, with an error that names both shapes."""
    size = bench.cell.input_size
    inputs = np.zeros((STEPS, BATCH, int(size) + 1))
    data = {n: x for n, x in bench.draw().items() if n != "step_index"}
    try:
        prepare(
            bench.cell, task=stage(inputs, data, bench.rng("stage")), batch=BATCH, record=[witness(Forward)]
        )
    except InputError as error:
        shown = re.findall(r"\d+", str(error))
        bench.expect(
            {str(int(size)), str(int(size) + 1)} <= set(shown),
            f"the error for inputs of shape {inputs.shape} does not name both shapes: {error}",
        )
    except GradsimError as error:
        bench.fail(f"inputs of shape {inputs.shape} are refused for another reason: {error}")
    else:
        bench.fail(
            f"a run accepts inputs of shape {inputs.shape} though input_size={size}; make input_size a "
            "plain int"
        )


@CHECKS(
    "leading_axes",
    "unroll_states",
    "output_is_pure",
    "output_leading_axes",
    "recurrent_weights_exist",
    "fixed_parameters_exist",
    "unused_numbers_are_unused",
    "gates_fit_parameters",
)
def replay(bench: CellBench) -> None:
    """The same run twice gives the same states, to the last bit, and those of single steps to rounding."""
    states = []
    for _ in range(2):
        seen = witness(Forward)
        simulation = bench.simulation(seen)
        simulation.run(threads=1, progress=False)
        states.append(np.array(seen.kept[0].states))
    bench.expect(
        same(*states),
        "the same run twice gives different states; what varies by step should come from draw() or a task",
    )
    setup = simulation.setup
    for t in range(STEPS):
        here = {n: x[t] for n, x in setup.step_data.items()}
        new = bench.step(Place(setup.params, states[0][t], setup.inputs[t], here))
        bench.expect(
            np.allclose(new, states[0][t + 1], rtol=1e-10, atol=1e-12),
            f"step {t + 1} of a run cannot be repeated from its state, inputs and step data; keep nothing "
            "on the cell",
        )

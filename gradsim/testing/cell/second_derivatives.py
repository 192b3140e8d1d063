"""The checks of the second derivatives of a cell, which penalties on step Jacobians need."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gradsim.engine.probe import Place
from gradsim.numerics import autodiff
from gradsim.testing import differences
from gradsim.testing.cell.bench import CellBench
from gradsim.testing.cell.derivatives import expect_float32, expect_names, expect_smooth, mend, source
from gradsim.testing.kit import Checks
from gradsim.types import Array, Params

CHECKS = Checks()

_COPIES = 2
_TWICE = "an xp function of step() has a derivative that cannot be differentiated again"


@CHECKS("state_vjp", "free_derivatives", "speaks_the_standard")
def second_derivatives(bench: CellBench) -> None:
    """`bilinear_vjp` is that of differences of `left @ J @ right`, along a random direction."""
    fix = mend(bench, "bilinear_vjp") if bench.cell.analytic("bilinear_vjp") else _TWICE
    _second_derivatives(bench, bench.cell.bilinear_vjp, fix)


@CHECKS("second_derivatives")
def float32_second_derivatives(bench: CellBench) -> None:
    """`bilinear_vjp` in float32 is float32, and that of float64 to its accuracy."""
    expect_float32(bench, _derivatives)


def _derivatives(bench: CellBench, place: Place, u: Array) -> dict[str, Array]:
    params, states = place.call(bench.cell.bilinear_vjp, u[None], u[None])
    named = {f"bilinear_vjp()[0][{n!r}]": p for n, p in params.items()}
    return {**named, "bilinear_vjp()[1]": states}


@CHECKS("second_derivatives")
def jacobian_derivatives(bench: CellBench) -> None:
    """`jacobian_vjp` is `bilinear_vjp` of a sum of outer products."""
    cell, place, rng = bench.cell, bench.run, bench.rng("jacobian")
    left, right = rng.standard_normal((2, *place.state.shape))
    split = (*place.state.shape[:-1], -1, cell.jacobian_groups)
    outer = np.einsum("...rj,...cj->...jrc", left.reshape(split), right.reshape(split))
    params, states = place.copy().call(cell.jacobian_vjp, outer)
    expect_names(bench, "jacobian_vjp", params, place.params)
    expected, moved = place.copy().call(cell.bilinear_vjp, left[None], right[None])
    for name, value in {**expected, "the states": moved}.items():
        ours = states if name == "the states" else params[name]
        bench.expect(
            np.shape(ours) == value.shape
            and np.abs(ours - value).max(initial=0.0) <= 1e-8 * np.abs(value).max(initial=1e-3),
            f"jacobian_vjp() for {name} is not bilinear_vjp() of the cotangent outer(left, right); mend "
            f"{type(cell).__name__}.jacobian_vjp, or delete it to get the free one",
        )


@CHECKS("second_derivatives", applies=lambda bench: bench.cell.exact and bench.cell.analytic("bilinear_vjp"))
def free_second_derivatives(bench: CellBench) -> None:
    """The free `bilinear_vjp` of `step` is right too: wrappers use it."""

    def bilinear_vjp(
        params: Params, state: Array, inputs: Array, left: Array, right: Array, **data: Array
    ) -> tuple[Params, Array]:
        return autodiff.bilinear_vjp(bench.cell.step, params, state, inputs, left, right, data)

    _second_derivatives(bench, bilinear_vjp, _TWICE)


def _second_derivatives(bench: CellBench, method: Callable[..., Any], fix: str) -> None:
    place, rng = bench.run.copy(), bench.rng("second")
    left, right = rng.standard_normal((2, _COPIES, *place.state.shape))
    moves = Place(
        {n: rng.standard_normal(p.shape) for n, p in place.params.items()},
        rng.standard_normal(place.state.shape),
        np.zeros_like(place.inputs),
        {},
    )
    if bench.cell.exact:
        slope, smooth = differences.slopes(lambda h: _bilinear(bench, _moved(place, moves, h), left, right))
    else:
        slope, smooth = _free_slope(bench, place, moves, left, right)
    expect_smooth(bench, smooth)
    params, states = place.copy().call(method, left * smooth[..., None], right.copy())
    expect_names(bench, "bilinear_vjp", params, place.params)
    _expect_shapes(bench, {**params, "the states": states}, {**place.params, "the states": place.state})
    terms = [*(params[n] * moves.params[n] for n in params), states * moves.state]
    ours, theirs = float(sum(np.sum(x) for x in terms)), float(np.sum(slope * smooth))
    scale = float(np.sqrt(sum(np.sum(x * x) for x in terms)) + np.linalg.norm(slope))
    bench.expect(
        abs(ours - theirs) <= 1e-6 * scale + 1e-8,
        f"bilinear_vjp() differs from {source(bench)} of left @ J @ right: {ours:.8g} where {theirs:.8g} is "
        f"right; {fix}",
    )


def _free_slope(
    bench: CellBench, place: Place, moves: Place, left: Array, right: Array
) -> tuple[Array, Array]:
    """The slope in one number, as a trace through the trace of the step has it."""
    given = place.params, place.state, place.inputs, left, right, place.data
    params, states = autodiff.bilinear_vjp(bench.cell.step, *given)
    whole = sum(np.sum(params[n] * moves.params[n]) for n in params) + np.sum(states * moves.state)
    slope = np.zeros(place.state.shape[:-1])
    slope.flat[0] = whole
    return slope, np.ones(slope.shape, bool)


def _moved(place: Place, moves: Place, h: float) -> Place:
    params = {n: p + h * moves.params[n] for n, p in place.params.items()}
    return Place(params, place.state + h * moves.state, place.inputs, place.data)


def _bilinear(bench: CellBench, place: Place, left: Array, right: Array) -> Array:
    """`left @ J @ right` at each position, summed over copies."""
    here = (place.params, place.state, place.inputs)
    pulled = [autodiff.state_vjp(bench.cell.step, *here, u, place.data) for u in left]
    return np.asarray(np.sum(pulled * right, axis=(0, -1)))


def _expect_shapes(bench: CellBench, found: Params, expected: Params) -> None:
    for name, value in expected.items():
        bench.expect(
            np.shape(found[name]) == value.shape,
            f"bilinear_vjp() has shape {np.shape(found[name])} for {name}, which has {value.shape}; sum over "
            "copies, and for parameters over all positions",
        )

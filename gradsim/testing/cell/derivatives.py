"""The checks of the derivatives of a cell, analytic or free.

They are those of central differences of the step. Where a step is not `exact`, its derivatives agree with
each other: with the free `state_vjp` and `params_vjp`, which trace the backward pass that the step has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gradsim.contracts import promises
from gradsim.contracts.pieces import Products
from gradsim.contracts.problem import Pairs
from gradsim.engine.probe import Place
from gradsim.numerics import autodiff
from gradsim.numerics.blocks import dense_blocks
from gradsim.testing import differences
from gradsim.testing.cell.bench import CellBench
from gradsim.testing.kit import Checks
from gradsim.testing.specimen import BATCH, STEPS, witness
from gradsim.types import Array, Params

CHECKS = Checks()

_RTOL, _ATOL = 1e-6, 3e-8
_DIRECTIONS = 3


def mend(bench: CellBench, method: str) -> str:
    """How to mend a derivative."""
    if bench.cell.analytic(method) and bench.cell.written(method) != "unit":
        return promises.mend(bench.cell, method)
    groups = bench.cell.jacobian_groups
    mixing = f"; or it mixes units, and its jacobian_groups are not {groups} but 1" if groups > 1 else ""
    return f"it is the free one of step(): use only xp functions that autograd knows, and no numpy{mixing}"


def _analytic_or_not(bench: CellBench, method: str) -> str:
    return f"{method}()" if bench.cell.analytic(method) else f"the free {method}()"


def _repeated(place: Place, copies: int) -> Place:
    """The same inputs and step data for a number of copies of the states, along a new first axis."""
    inputs = np.broadcast_to(place.inputs, (copies, *place.inputs.shape))
    data = {n: np.broadcast_to(x, (copies, *x.shape)) for n, x in place.data.items()}
    return Place(place.params, place.state, inputs, data)


def source(bench: CellBench) -> str:
    """What derivatives are compared with."""
    return "central differences" if bench.cell.exact else "the free derivatives of step()"


def _reference(bench: CellBench, place: Place) -> tuple[Array, Array, float]:
    """The whole Jacobian at each position, where it is smooth, and the size of s."""
    wide, size = _repeated(place, bench.cell.state_size), float(np.abs(bench.step(place)).max())
    if not bench.cell.exact:
        state, unit = (np.empty((len(wide.inputs), *place.state.shape)) for _ in range(2))
        state[:], unit[:] = place.state, np.eye(place.state.shape[-1])[:, None]
        rows = autodiff.state_vjp(bench.cell.step, wide.params, state, wide.inputs, unit, wide.data)
        return np.moveaxis(rows, 0, -2), np.ones(rows.shape[1:-1] + 2 * rows.shape[-1:], bool), size

    def step(state: Array) -> Array:
        state = np.broadcast_to(state, (bench.cell.state_size, *place.state.shape))
        return np.asarray(bench.step(Place(wide.params, state, wide.inputs, wide.data)))

    matrix, smooth = differences.jacobian(step, place.state)
    return matrix, smooth, size


def expect_smooth(bench: CellBench, smooth: Array) -> None:
    """Fail where differences say too little."""
    bench.expect(
        smooth.mean() > 0.5,
        f"step() has a kink or a jump at {1 - smooth.mean():.0%} of the random places, so its derivative "
        "cannot be checked",
    )


def _blocks(matrix: Array, groups: int) -> Array:
    """The diagonal blocks (..., g, k, k) of full matrices (..., m, m)."""
    *lead, m, _ = matrix.shape
    k = m // groups
    split = matrix.reshape(*lead, k, groups, k, groups)
    return np.moveaxis(np.diagonal(split, axis1=-3, axis2=-1), -1, -3)


def _jacobian_mistake(bench: CellBench, place: Place) -> str | None:
    """What is wrong with the step Jacobian at these places, or None."""
    cell = bench.cell
    groups, m = cell.jacobian_groups, cell.state_size
    who = _analytic_or_not(bench, "step_jacobian")
    given = place.copy()
    ours = np.asarray(given.call(cell.step_jacobian))
    expected = (*place.state.shape[:-1], groups, m // groups, m // groups)
    if ours.shape != expected:
        return f"{who} has shape {ours.shape} where (..., g, k, k) = {expected} is needed"
    matrix, smooth, size = _reference(bench, place)
    expect_smooth(bench, smooth)
    theirs, counts = _blocks(matrix, groups), _blocks(smooth, groups)
    error, where = differences.worst(ours, theirs, counts, size, _RTOL, _ATOL)
    if error <= 1:
        return None
    *lead, j, a, c = where
    return (
        f"{who} differs from {source(bench)}: ds'[{a * groups + j}]/ds[{c * groups + j}] is "
        f"{ours[where]:.6g} where step() gives {theirs[where]:.6g} (position {tuple(lead)}); "
        f"{mend(bench, 'step_jacobian')}"
    )


@CHECKS("leading_axes")
def jacobian(bench: CellBench) -> None:
    """The whole step Jacobian is that of central differences, at random places."""
    mistake = _jacobian_mistake(bench, bench.points)
    bench.expect(mistake is None, str(mistake))


@CHECKS("leading_axes", applies=lambda bench: bench.cell.jacobian_groups > 1)
def jacobian_structure(bench: CellBench) -> None:
    """Outside the diagonal blocks that the cell declares, the Jacobian of its step is zero."""
    groups = bench.cell.jacobian_groups
    matrix, smooth, size = _reference(bench, bench.points)
    outside = ~dense_blocks(np.ones((groups, *2 * (bench.cell.state_size // groups,)))).astype(bool)
    largest = np.abs(matrix).max(initial=0.0)
    wrong = np.where(smooth & outside, np.abs(matrix), 0.0)
    *_, a, c = (int(i) for i in np.unravel_index(int(np.argmax(wrong)), wrong.shape))
    bench.expect(
        wrong.max() <= 1e-7 * largest + 1e-9 * max(size, 1.0),
        f"jacobian_groups is {groups}, but component {a} of the new state depends on component {c} of the "
        f"old one (by {wrong.max():.1e}), which is in another group; group j holds j, j+g, j+2g, ...",
    )


@CHECKS("jacobian", "jacobian_structure", "replay", applies=lambda bench: bench.cell.exact)
def jacobian_product(bench: CellBench) -> None:
    """P(T, 0) of a run is the derivative of s_T with respect to s_0, by differences of the whole run."""
    seen = witness(Products)
    simulation = bench.simulation(seen, pairs=Pairs(times=(-1,), sources=(0,)))
    simulation.run(threads=1, progress=False)
    m = bench.cell.state_size
    ours = np.full((BATCH, m, m), np.nan)
    for piece in seen.kept:
        ours[piece.region["batch"]] = dense_blocks(piece.product.value)[0]
    setup = simulation.setup

    def unrolled(state: Array) -> Array:
        state = np.broadcast_to(state, (m, BATCH, m))
        for t in range(STEPS):
            data = {n: x[t] for n, x in setup.step_data.items()}
            wide = _repeated(Place(setup.params, state, setup.inputs[t], data), m)
            state = np.asarray(bench.step(wide))
        return state

    theirs, smooth = differences.jacobian(unrolled, setup.initial_state)
    expect_smooth(bench, smooth)
    error, (b, a, c) = differences.worst(ours, theirs, smooth, 1.0, _RTOL, _ATOL)
    bench.expect(
        error <= 1,
        f"over {STEPS} steps, ds_T[{a}]/ds_0[{c}] is {ours[b, a, c]:.6g} by the product of step Jacobians "
        f"and {theirs[b, a, c]:.6g} by differences of the run (batch {b}); everything that a step carries "
        "on should be in the state, and step_jacobian() should treat the axes (time, batch) one position "
        "at a time",
    )


@CHECKS("leading_axes")
def state_vjp(bench: CellBench) -> None:
    """`cotangent @ J`, for random cotangents, is that of central differences."""
    _state_vjp(bench, bench.cell.state_vjp, "state_vjp")


def _state_vjp(bench: CellBench, method: Callable[..., Array], name: str) -> None:
    place = bench.points.copy()
    matrix, smooth, size = _reference(bench, place)
    expect_smooth(bench, smooth)
    # Outputs with a kink along some direction are left out of the cotangent.
    u = bench.rng("cotangent").standard_normal(place.state.shape) * smooth.all(axis=-1)
    theirs = np.einsum("...i,...ij->...j", u, matrix)
    ours = np.asarray(place.call(method, u.copy()))
    bench.expect(ours.shape == u.shape, f"{name}() has shape {ours.shape} for a cotangent of shape {u.shape}")
    error, (i, c) = differences.worst(ours, theirs, np.ones(u.shape, bool), size, _RTOL, _ATOL)
    bench.expect(
        error <= 1,
        f"{name}() differs from {source(bench)}: component {c} is {ours[i, c]:.6g} where step() gives "
        f"{theirs[i, c]:.6g} (position {i}); {mend(bench, 'state_vjp')}",
    )


@CHECKS("leading_axes")
def parameter_vjp(bench: CellBench) -> None:
    """`params_vjp` of a batch is that of central differences, along random directions."""
    _parameter_vjp(bench, bench.cell.params_vjp, "params_vjp")


def _parameter_vjp(bench: CellBench, method: Callable[..., Params], name: str) -> None:
    place = bench.points.copy()
    rng = bench.rng("directions")
    directions = [
        (n, rng.standard_normal(p.shape)) for n, p in place.params.items() for _ in range(_DIRECTIONS)
    ]
    exact = bench.cell.exact
    along = [_along(bench, place, n, d) for n, d in directions if exact]
    smooth = np.all([s for _, s in along], axis=0) if along else np.ones(place.state.shape, bool)
    expect_smooth(bench, smooth)
    u = rng.standard_normal(place.state.shape) * smooth
    ours = place.call(method, u.copy())
    given = place.params, place.state, place.inputs, u, place.data
    free = {} if exact else autodiff.params_vjp(bench.cell.step, *given)
    expect_names(bench, name, ours, place.params)
    for i, (n, d) in enumerate(directions):
        bench.expect(
            np.shape(ours[n]) == d.shape,
            f"{name}()[{n!r}] has shape {np.shape(ours[n])} for one batch axis and a parameter of shape "
            f"{d.shape}",
        )
        terms = u * along[i][0] if exact else free[n] * d
        theirs, mine, scale = float(np.sum(terms)), float(np.sum(ours[n] * d)), float(np.linalg.norm(terms))
        bench.expect(
            abs(mine - theirs) <= 2e-8 * scale + 1e-9,
            f"{name}()[{n!r}] differs from {source(bench)}: along a random direction {mine:.8g} where "
            f"step() gives {theirs:.8g}; {mend(bench, 'params_vjp')}",
        )


def _along(bench: CellBench, place: Place, name: str, direction: Array) -> tuple[Array, Array]:
    def step(h: float) -> Array:
        params = {**place.params, name: place.params[name] + h * direction}
        return np.asarray(bench.step(Place(params, place.state, place.inputs, place.data)))

    return differences.slopes(step)


def expect_names(bench: CellBench, method: str, found: Any, params: Params) -> None:
    """Fail unless there is something for every parameter, and for no others."""
    bench.expect(
        isinstance(found, dict) and set(found) == set(params),
        f"{method}() gives {sorted(found)} for the parameters {sorted(params)}",
    )


@CHECKS("parameter_vjp")
def contributions_by_step(bench: CellBench) -> None:
    """`params_vjp` sums over the last leading axis, the batch, and keeps those before it."""
    run = bench.run.copy()
    u = bench.rng("cotangent").standard_normal(run.state.shape)
    method = bench.cell.params_vjp
    whole = run.call(method, u)
    for t in range(STEPS):
        one = run[t].call(method, u[t])
        for name, value in one.items():
            found = np.asarray(whole[name])
            bench.expect(
                found.shape == (STEPS, *value.shape),
                f"params_vjp()[{name!r}] has shape {found.shape} for axes (time, batch) = "
                f"{(STEPS, BATCH)}; it should be "
                f"{(STEPS, *value.shape)}: sum over the last leading axis only",
            )
            size = np.abs(value).max(initial=1e-12)
            bench.expect(
                np.abs(found[t] - value).max(initial=0.0) <= 1e-9 * size,
                f"params_vjp()[{name!r}] of all times at once differs, at time {t}, from that time alone; "
                "sum over the last leading axis only, and mix no times",
            )


@CHECKS("step_is_pure")
def float32_derivatives(bench: CellBench) -> None:
    """Derivatives in float32 are float32, and those of float64 to its accuracy."""
    expect_float32(bench, derivatives_at)


def expect_float32(
    bench: CellBench, derivatives: Callable[[CellBench, Place, Array], dict[str, Array]]
) -> None:
    """Fail unless what this gives, for places and cotangents, is as good in float32 as that can be."""
    small = bench.points.copy("float32")
    u = bench.rng("cotangent").standard_normal(small.state.shape).astype(np.float32)
    found = [derivatives(bench, place, u.astype(place.state.dtype)) for place in (small, small.copy())]
    largest = max((np.abs(high).max(initial=0.0) for high in found[1].values()), default=0.0)
    for name, low in found[0].items():
        high = found[1][name]
        bench.expect(
            low.dtype == np.float32,
            f"{name} is {low.dtype} for float32 arguments; keep the dtype of the state",
        )
        # What is zero but for rounding is as exact as what it was made of.
        allowed = 2e-4 * np.abs(high) + 2e-5 * np.abs(high).max(initial=1e-4) + 2e-6 * largest
        wrong = np.abs(low - high) - allowed
        bench.expect(
            np.all(wrong <= 0),
            f"{name} in float32 differs from float64 by {np.abs(low - high).max():.1e}, more than float32 "
            "explains; avoid differences of nearly equal numbers",
        )


def derivatives_at(bench: CellBench, place: Place, u: Array) -> dict[str, Array]:
    """Every first derivative at a place, as the cell gives it, with the cotangent `u`."""
    cell = bench.cell
    params = place.call(cell.params_vjp, u)
    return {
        "step_jacobian()": np.asarray(place.call(cell.step_jacobian)),
        "state_vjp()": np.asarray(place.call(cell.state_vjp, u)),
        **{f"params_vjp()[{n!r}]": np.asarray(p) for n, p in params.items()},
    }


@CHECKS(
    "leading_axes",
    "speaks_the_standard",
    applies=lambda bench: (
        bench.cell.exact and any(map(bench.cell.analytic, ("step_jacobian", "state_vjp", "params_vjp")))
    ),
)
def free_derivatives(bench: CellBench) -> None:
    """The free derivatives of `step` are right too: penalties and wrappers use them."""
    cell = bench.cell

    def state_vjp(params: Params, state: Array, inputs: Array, u: Array, **data: Array) -> Array:
        return autodiff.state_vjp(cell.step, params, state, inputs, u, data)

    def params_vjp(params: Params, state: Array, inputs: Array, u: Array, **data: Array) -> Params:
        return autodiff.params_vjp(cell.step, params, state, inputs, u, data)

    _state_vjp(bench, state_vjp, "the free state_vjp")
    _parameter_vjp(bench, params_vjp, "the free params_vjp")

"""The checks of what a readout sees of a cell."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradsim.contracts.promises import result_mistakes
from gradsim.engine.probe import Place
from gradsim.errors import PluginError
from gradsim.numerics import autodiff
from gradsim.testing import differences
from gradsim.testing.cell.bench import CellBench
from gradsim.testing.cell.steps import expect_pure, expect_standard
from gradsim.testing.kit import Checks
from gradsim.testing.specimen import BATCH, STEPS
from gradsim.types import Array

CHECKS = Checks()


def _has_own(bench: CellBench) -> bool:
    return bench.cell.own_output


def _output(bench: CellBench, place: Place) -> Any:
    """The output of the cell, for copies of its arguments."""
    given = place.copy(str(place.state.dtype))
    return bench.cell.output(given.params, given.state, given.inputs, np)


@CHECKS("step_shape_and_dtype")
def output_shape_and_dtype(bench: CellBench) -> None:
    """The output has `output_size` features and the dtype of the state, for any leading axes."""
    whole = bench.run
    for place in (whole[0, 0], whole[0], whole):
        for dtype in ("float64", "float32"):
            given = place.copy(dtype)
            seen = _output(bench, given)
            for mistake in result_mistakes(bench.cell, "output", seen, given.state):
                bench.fail(mistake)


@CHECKS("output_shape_and_dtype", applies=_has_own)
def output_is_pure(bench: CellBench) -> None:
    """`output` changes none of its arguments, and gives the same again."""
    run = bench.run
    expect_pure(bench, bench.cell.output, Place(run.params, run.state, run.inputs, {}))


@CHECKS("output_is_pure", applies=_has_own)
def output_speaks_the_standard(bench: CellBench) -> None:
    """The output, too, computes with `xp`, by the names of the array API standard."""
    run = bench.run
    expect_standard(bench, bench.cell.output, Place(run.params, run.state, run.inputs, {}))


@CHECKS("output_is_pure", applies=_has_own)
def output_leading_axes(bench: CellBench) -> None:
    """The output of many states is that of each alone."""
    together = _output(bench, bench.run)
    for t, b in np.ndindex(STEPS, BATCH):
        alone = _output(bench, bench.run[t : t + 1, b : b + 1])[0, 0]
        bench.expect(
            np.allclose(alone, together[t, b], rtol=1e-9, atol=1e-11),
            f"output() of {STEPS} x {BATCH} positions at once differs at {(t, b)} by "
            f"{np.abs(alone - together[t, b]).max():.1e} from that position alone; reduce over the last "
            "axis only (axis=-1)",
        )


@CHECKS("output_leading_axes", "output_speaks_the_standard", applies=_has_own)
def output_derivative(bench: CellBench) -> None:
    """The derivatives of `output` by autograd, in state and parameters, are those of central differences."""
    cell, place, rng = bench.cell, bench.points.copy(), bench.rng("output")
    directions: dict[str, Array] = {
        "the state": rng.standard_normal(place.state.shape),
        **{f"params[{n!r}]": rng.standard_normal(p.shape) for n, p in place.params.items()},
    }

    def moved(name: str, h: float) -> Array:
        d = directions[name]
        if name == "the state":
            return np.asarray(_output(bench, Place(place.params, place.state + h * d, place.inputs, {})))
        params = {n: p + h * d if name == f"params[{n!r}]" else p for n, p in place.params.items()}
        return np.asarray(_output(bench, Place(params, place.state, place.inputs, {})))

    along = {name: differences.slopes(lambda h, name=name: moved(name, h)) for name in directions}  # type: ignore[misc]
    smooth = np.all([some for _, some in along.values()], axis=0)
    bench.expect(smooth.mean() > 0.5, "output() has a kink or a jump at most of the random places")
    u = rng.standard_normal(smooth.shape) * smooth
    arguments = place.params, place.state, place.inputs, u
    try:
        ours = {"the state": autodiff.state_vjp(cell.output, *arguments, {})}
        by_param = autodiff.params_vjp(cell.output, *arguments, {})
    except (TypeError, AttributeError, ValueError, PluginError) as error:
        bench.fail(f"output() cannot be differentiated ({error}); use xp functions, such as xp.tanh")
    ours |= {f"params[{n!r}]": value for n, value in by_param.items()}
    for name, (slope, _) in along.items():
        mine, theirs = float(np.sum(ours[name] * directions[name])), float(np.sum(u * slope))
        scale = float(np.sqrt(np.sum((u * slope) ** 2)))
        bench.expect(
            abs(mine - theirs) <= 2e-8 * scale + 1e-9,
            f"the derivative of output() by {name}, along a random direction, is {mine:.8g} by autograd "
            f"where differences give {theirs:.8g}; an xp function that it uses has another derivative",
        )

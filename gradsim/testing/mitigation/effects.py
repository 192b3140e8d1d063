"""The checks of a mitigation in whole runs: what it changes, and what it must leave alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gradsim.contracts.hooks import RunHooks, hookimpl
from gradsim.contracts.jacobians import Jacobians
from gradsim.contracts.mitigation import Mitigation
from gradsim.contracts.trajectory import Trajectory
from gradsim.numerics.blocks import dense_blocks
from gradsim.testing import differences
from gradsim.testing.kit import Checks, no_global_randomness, same
from gradsim.testing.mitigation.bench import RAW, MitigationBench, Seen, finite, step_jacobian
from gradsim.testing.specimen import BATCH, STEPS
from gradsim.types import Array

CHECKS = Checks()


@CHECKS("is_pure", applies=lambda bench: bool(bench.passing()))
def leaves_trajectory_and_jacobians(bench: MitigationBench) -> None:
    """With it, states, step Jacobians, and raw products, adjoints and gradient are those without it."""
    changed = bench.run(bench.mitigation)
    for name in (s.__name__ for s in RAW):
        bench.expect(
            same(changed[name], bench.plain[name]),
            f"the raw numbers of {name} differ with it; it should change nothing that it can read in "
            "`trajectory`",
        )


@CHECKS("wraps_only", "is_pure", "leaves_trajectory_and_jacobians", "initial_params")
def inactive_unless_chosen(bench: MitigationBench) -> None:
    """A run without it gives the same bits before and after another run has used it."""
    before = bench.run()
    with no_global_randomness(bench, "it"):
        bench.twin()
        bench.run(bench.mitigation)
    bench.expect(
        same(bench.run(), before),
        "a run without it gives other numbers after a run with it; change nothing outside the run (module "
        "globals, class attributes)",
    )


@CHECKS(
    "wraps_only",
    "frozen_dataclass",
    "is_pure",
    "leaves_trajectory_and_jacobians",
    "initial_params",
    "prepared_cell",
)
def composes(bench: MitigationBench) -> None:
    """Twice in a row, and before and after another mitigation, it runs and everything is finite."""
    mine = bench.mitigation
    if bench.has("rule"):  # which stands alone in place of the backward pass
        pairs = [(mine, _Halve()), (_Halve(), mine)]
    else:
        pairs = [(mine, bench.twin()), (mine, _Damp()), (_Damp(), mine)]
    for chosen in pairs:
        seen = bench.run(*chosen)
        bench.expect(
            finite({n: v for n, v in seen.items() if n.startswith("effective ")}),
            f"with mitigations {[m.name for m in chosen]} the effective numbers are not all finite",
        )


@dataclasses.dataclass(frozen=True, eq=False)
class _Halve(Mitigation):
    """Something else after the backward pass, to compose with."""

    name = "halve"

    @hookimpl(wrapper=True)
    def gradsim_gradient(self):  # type: ignore[no-untyped-def]
        gradient = yield
        return {n: 0.5 * g for n, g in gradient.items()}


@dataclasses.dataclass(frozen=True, eq=False)
class _Damp(_Halve):
    """Something else in the backward pass, too."""

    name = "damp"

    @hookimpl(wrapper=True)
    def gradsim_jacobians(self):  # type: ignore[no-untyped-def]
        jacobians = yield
        return jacobians.changed(lambda blocks: 0.9 * blocks)

    @hookimpl(wrapper=True)
    def gradsim_adjoint(self):  # type: ignore[no-untyped-def]
        adjoint = yield
        return 0.5 * adjoint


@CHECKS("is_pure", "leaves_trajectory_and_jacobians", applies=lambda bench: bench.mitigation.idle is not None)
def idle_is_identity(bench: MitigationBench) -> None:
    """With the parameters that make it idle, nothing is changed, to the last bit."""
    given = dict(bench.mitigation.idle or {})
    idle: Mitigation = dataclasses.replace(bench.mitigation, **given)  # type: ignore[type-var]
    alone, seen = bench.run(), bench.run(idle)
    pairs = [(name, piece, alone[name.removeprefix("effective ")]) for name, piece in seen.items()]
    hooks = RunHooks([idle])
    if "gradsim_params" in hooks.used:
        first = (h("gradsim_params", **bench.at_first(bench.cell)) for h in (hooks, RunHooks([])))
        pairs.append(("gradsim_params", *first))
    if "gradsim_update" in hooks.used:
        arguments = bench.arguments("gradsim_update")
        pairs.append(("gradsim_update", hooks("gradsim_update", **arguments), arguments["params"]))
    for name, found, expected in pairs:
        bench.expect(
            same(_without_size(found), _without_size(expected)),
            f"with idle = {given} {name} is not what it is without the mitigation, bit for bit; return "
            "what yield gave where there is nothing to do",
        )


def _without_size(value: Any) -> Any:
    """What is only said of a gradient where there are mitigations is left out."""
    if isinstance(value, Mapping):
        return {n: _without_size(v) for n, v in value.items() if n != "before"}
    return [_without_size(v) for v in value] if isinstance(value, list) else value


@CHECKS(
    "is_pure",
    "leaves_trajectory_and_jacobians",
    applies=lambda bench: bench.has("jacobians") and not bench.has("adjoint"),
)
def effective_products(bench: MitigationBench) -> None:
    """The effective adjoint is the sum over losses of q_s P~(s, k), with the effective products P~."""
    seen = bench.run(bench.mitigation)
    products, direct = _all_products(seen["effective Products"]), _direct(seen)
    theirs = np.einsum("sbi,skbij->kbj", direct, products)
    ours = _plain(seen["effective Adjoints"][0]["adjoint"])
    wrong = np.abs(ours - theirs).max(axis=(1, 2))
    k = int(wrong.argmax())
    bench.expect(
        wrong[k] <= 1e-9 * np.abs(theirs).max() + 1e-12,
        f"the effective adjoint at time {k} differs by {wrong[k]:.1e} from the sum of q_s P~(s, {k}) over "
        "the effective products; return Jacobians that no other hook changes later",
    )


def _plain(scaled: Mapping[str, Array]) -> Array:
    return np.asarray(np.ldexp(scaled["mantissa"], scaled["exponent"]))


def _all_products(pieces: Sequence[Mapping[str, Any]]) -> Array:
    """P(s, k), shape (s, k, batch, m, m), zero where s < k."""
    m = int(np.prod(pieces[0]["product"]["mantissa"].shape[2:4]))
    found = np.zeros((STEPS + 1, STEPS + 1, BATCH, m, m))
    for piece in pieces:
        region = piece["region"]
        matrices = dense_blocks(_plain(piece["product"]))
        found[region["time"], slice(*region["source"]), slice(*region["batch"])] = matrices
    return found


def _direct(seen: Seen) -> Array:
    """q_s = dL_s/ds_s, shape (s, batch, m), and what a penalty adds to it."""
    g, k = seen["LossRows"][0]["rows"]["mantissa"].shape[2:]
    found = np.zeros((STEPS + 1, BATCH, g * k))
    for piece in seen["LossRows"]:
        times, source = slice(*piece["region"]["time"]), piece["region"]["source"]
        if times.start <= source < times.stop:
            rows = _plain(piece["rows"])[source - times.start]
            found[source, slice(*piece["region"]["batch"])] = rows.swapaxes(-1, -2).reshape(len(rows), -1)
    return found


@CHECKS("is_pure", applies=lambda bench: bench.has("penalty"))
def penalty_gradient(bench: MitigationBench) -> None:
    """The gradient of a penalty is the derivative of its value, the adjoints held fixed.

    With respect to the parameters at fixed states, and, if it gives a `state_gradient`, with respect
    to the states at fixed parameters. Step Jacobians move with both.
    """
    arguments = bench.arguments("gradsim_penalty")
    penalty = bench.call("gradsim_penalty", arguments)
    rng = bench.rng("directions")
    for name, value in arguments["trajectory"].params.items():
        for _ in range(3):
            d = rng.standard_normal(value.shape)
            gradient = penalty.gradient.get(name, np.zeros_like(value))
            _penalty_slope(bench, arguments, f"the gradient of {name!r}", gradient, d, name)
    if penalty.state_gradient is not None:
        d = rng.standard_normal(penalty.state_gradient.shape)
        _penalty_slope(bench, arguments, "state_gradient", penalty.state_gradient, d)


def _penalty_slope(
    bench: MitigationBench,
    arguments: Mapping[str, Any],
    what: str,
    gradient: Array,
    direction: Array,
    name: str | None = None,
) -> None:
    """Compare with differences along a direction: in the parameter of this name, or else in the states."""
    trajectory: Trajectory = arguments["trajectory"]

    def value(h: float) -> Array:
        if name is None:
            moved = dataclasses.replace(trajectory, states=trajectory.states + h * direction)
        else:
            there = {name: trajectory.params[name] + h * direction}
            moved = dataclasses.replace(trajectory, params={**trajectory.params, **there})
        params = {**arguments["params"], **moved.params}
        jacobians = Jacobians(moved.steps, step_jacobian(moved))
        given = {**arguments, "trajectory": moved, "jacobians": jacobians, "params": params}
        penalty = bench.call("gradsim_penalty", given)
        return np.array(penalty.value)

    slope, smooth = differences.slopes(value)
    terms = gradient * direction
    allowed = 1e-6 * float(np.sqrt(np.sum(terms**2))) + 1e-9 * abs(float(value(0.0)))
    bench.expect(
        smooth and abs(np.sum(terms) - slope) <= allowed,
        f"gradsim_penalty: {what} is not the derivative of the value: along a random direction "
        f"{np.sum(terms):.8g} where differences give {float(slope):.8g} (adjoints held fixed, "
        f"{'states' if name else 'parameters'} too)",
    )

"""The checks of a cell that takes many steps at once: its own way and back is that of single steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradsim.contracts.cell import Cell
from gradsim.contracts.promises import kind, mend
from gradsim.contracts.trajectory import Parallel, Pulled, Trajectory, one_by_one, shortened
from gradsim.engine.probe import Place
from gradsim.engine.pulled import contributions_of, gradient_of
from gradsim.numerics.scaled import ROOM, range_end
from gradsim.testing.cell.bench import CellBench
from gradsim.testing.kit import Checks, same
from gradsim.testing.specimen import STEPS
from gradsim.types import Array, Params

CHECKS = Checks()

_BATCHES = (1, 37)
"""One element, and more than one thread is likely to take at a time."""

_CLOSE = {"float64": 1e-9, "float32": 2e-4}


def _has_own(bench: CellBench) -> bool:
    return bench.cell.analytic("unroll")


@CHECKS("leading_axes", applies=_has_own)
def unroll_states(bench: CellBench) -> None:
    """`unroll` takes the steps that `step` takes, one after the other."""
    for batch in _BATCHES:
        for dtype, close in _CLOSE.items():
            place = _place(bench, batch, dtype)
            ours, theirs = _taken(bench, place), _taken(bench, place, Cell.unroll)
            about = f"unroll() of {STEPS} steps, batch {batch}, {dtype}"
            bench.expect(
                ours.states.shape == theirs.states.shape and ours.states.dtype == theirs.states.dtype,
                f"{about}: states have shape {ours.states.shape}, {ours.states.dtype}, where (steps + 1, "
                f"batch, m) = {theirs.states.shape}, {theirs.states.dtype} is needed",
            )
            _expect_close(bench, ours.states, theirs.states, close, f"{about}: states", "step()")


@CHECKS("unroll_states", "state_vjp", applies=_has_own)
def unroll_adjoints(bench: CellBench) -> None:
    """`pull` carries adjoints back as `state_vjp` does."""
    for _, ours, theirs, close, about in _pulled(bench):
        _expect_close(bench, ours.adjoints, theirs.adjoints, close, f"{about}: adjoints", "state_vjp()")


@CHECKS("unroll_adjoints", "contributions_by_step", applies=_has_own)
def unroll_contributions(bench: CellBench) -> None:
    """Contributions of a block are those of `params_vjp`, at every step."""
    _expect_params(bench, contributions_of, "contributions()")


@CHECKS("unroll_adjoints", "parameter_vjp", applies=_has_own)
def unroll_gradient(bench: CellBench) -> None:
    """The gradient of a block is that of `params_vjp`, summed over the steps."""
    _expect_params(bench, gradient_of, "gradient()")


@CHECKS("unroll_gradient", applies=_has_own)
def unroll_shorter(bench: CellBench) -> None:
    """A part of a block is those steps, and goes back through them alone."""
    taken = _taken(bench, _place(bench, _BATCHES[-1], "float64"))
    plain = Trajectory(bench.cell, taken.params, taken.states, taken.inputs, taken.step_data)
    first, last = 2, STEPS - 1
    parts = [x[range(1 + first, 1 + last)] for x in (taken, plain)]
    about = f"unroll()[{first + 1}:{last + 1}]"
    _expect_close(
        bench, parts[0].states, taken.states[first : last + 1], 0.0, f"{about}: states", "the whole"
    )
    incoming, direct = _cotangents(bench, taken)
    ours, theirs = (x.pull(incoming, direct[first:last]) for x in parts)
    theirs = _as_far(bench, ours, theirs, parts[1], f"{about}.pull()")
    close = _CLOSE["float64"]
    _expect_close(bench, ours.adjoints, theirs.adjoints, close, f"{about}.pull(): adjoints", "state_vjp()")
    mine, expected = (gradient_of(plain, x) for x in (ours, theirs))
    for n, value in expected.items():
        _expect_close(bench, mine[n], value, close, f"{about}.pull(): gradient()[{n!r}]", "params_vjp()")


@CHECKS("unroll_contributions", "unroll_gradient", applies=_has_own)
def unroll_stops(bench: CellBench) -> None:
    """Where adjoints leave the range of the dtype `pull` stops after a step or goes on: both are right."""
    for dtype, close in _CLOSE.items():
        taken = _taken(bench, _place(bench, _BATCHES[-1], dtype))
        plain = Trajectory(bench.cell, taken.params, taken.states, taken.inputs, taken.step_data)
        incoming, direct = _cotangents(bench, taken)
        edge = ROOM[incoming.itemsize] - 4
        for octaves in (-edge, edge):
            with np.errstate(all="ignore"):
                ours = taken.pull(np.ldexp(incoming, octaves), np.zeros_like(direct))
                theirs = plain.pull(incoming, np.zeros_like(direct))
            about = f"unroll().pull() of {STEPS} steps from 2**{octaves}, {dtype}"
            theirs = _as_far(bench, ours, theirs, plain, about)
            if range_end(ours.adjoints):
                continue  # it did not stop; what is beyond the range will not be used
            found = {"adjoints[1:]": (ours.adjoints[1:], theirs.adjoints[1:])}
            for what, made in {"contributions()": contributions_of, "gradient()": gradient_of}.items():
                parts = made(plain, ours)
                found |= {f"{what}[{n!r}]": (parts[n], g) for n, g in made(plain, theirs).items()}
            for what, (mine, expected) in found.items():
                near = np.ldexp(mine, -octaves)
                _expect_close(
                    bench, near, expected, close, f"{about}: {what} over 2**{octaves}", "state_vjp()"
                )


@CHECKS("unroll_contributions", "unroll_gradient", applies=_has_own)
def unroll_jobs(bench: CellBench) -> None:
    """The jobs of a block do not depend on each other: in another order they give the same bits."""

    def backwards(jobs: Sequence[Callable[[], None]]) -> None:
        one_by_one(jobs[::-1])

    place = _place(bench, _BATCHES[-1], "float64")
    found = []
    for parallel in (one_by_one, backwards):
        taken = _taken(bench, place, parallel=parallel)
        pulled = taken.pull(*_cotangents(bench, taken))
        found.append((taken.states, pulled.adjoints, pulled.contributions(), pulled.gradient()))
    bench.expect(
        same(*found),
        "unroll() gives other numbers when its parallel jobs are done in another order; let each job write "
        "arrays of its own, and read nothing that another one writes",
    )


def _place(bench: CellBench, batch: int, dtype: str) -> Place:
    rng, cell = bench.rng("unroll"), bench.cell
    start = cell.initial_state() + 0.5 * rng.standard_normal((batch, cell.state_size))
    inputs = rng.standard_normal((STEPS, batch, cell.input_size))
    return Place(bench.params, start, inputs, bench.draw(batch)).copy(dtype)


def _taken(bench: CellBench, place: Place, unroll: Any = None, parallel: Parallel = one_by_one) -> Trajectory:
    """The cell's own block, or that of another `unroll`, on arguments that cannot be written to."""
    given = place.copy(str(place.state.dtype))
    for array in (given.state, given.inputs, *given.params.values(), *given.data.values()):
        array.flags.writeable = False
    own = unroll or type(bench.cell).unroll
    taken: Trajectory = own(bench.cell, given.params, given.state, given.inputs, given.data, parallel)
    return taken


def _cotangents(bench: CellBench, taken: Trajectory) -> tuple[Array, Array]:
    """(incoming, direct)."""
    drawn = bench.rng("unroll cotangents").standard_normal(taken.states.shape).astype(taken.states.dtype)
    return drawn[-1], drawn[:-1]


def _pulled(bench: CellBench) -> list[tuple[Trajectory, Pulled, Pulled, float, str]]:
    """(steps, ours, by the cell's vjps at the same states, tolerance, what it is)."""
    found = []
    for batch in _BATCHES:
        for dtype, close in _CLOSE.items():
            taken = _taken(bench, _place(bench, batch, dtype))
            plain = Trajectory(bench.cell, taken.params, taken.states, taken.inputs, taken.step_data)
            ours, theirs = (x.pull(*_cotangents(bench, taken)) for x in (taken, plain))
            about = f"unroll().pull() of {STEPS} steps, batch {batch}, {dtype}"
            found.append((plain, ours, _as_far(bench, ours, theirs, plain, about), close, about))
    return found


def _as_far(bench: CellBench, ours: Pulled, theirs: Pulled, plain: Trajectory, about: str) -> Pulled:
    """Theirs, of the last steps of `plain` alone if ours stopped before those."""
    adjoints, steps = getattr(ours, "adjoints", None), len(plain.steps)
    bench.expect(
        isinstance(adjoints, np.ndarray),
        f"{about}: gives {kind(ours)}, where an object with `adjoints` (steps + 1, batch, m), "
        "`contributions()` and `gradient()` is needed, such as a PulledByVjp",
    )
    count = len(ours.adjoints) - 1
    bench.expect(
        1 <= count <= steps,
        f"{about}: gives adjoints of {count + 1} states; where it stops it should give those of the last k "
        f"steps, which are k + 1, for k = 1 to {steps}",
    )
    return shortened(theirs, plain[plain.steps[-count:]])


def _expect_params(bench: CellBench, made: Callable[[Trajectory, Pulled], Params], name: str) -> None:
    for plain, ours, theirs, close, about in _pulled(bench):
        mine, expected = (made(plain, x) for x in (ours, theirs))
        for n, value in expected.items():
            _expect_close(bench, mine[n], value, close, f"{about}: {name}[{n!r}]", "params_vjp()")


def _expect_close(
    bench: CellBench, ours: Array, theirs: Array, close: float, about: str, source: str
) -> None:
    bench.expect(
        np.shape(ours) == theirs.shape and ours.dtype == theirs.dtype,
        f"{about} have shape {np.shape(ours)}, {ours.dtype}, where {theirs.shape}, {theirs.dtype} is needed",
    )
    error = np.abs(ours - theirs).max(initial=0.0)
    bench.expect(
        error <= close * np.abs(theirs).max(initial=1e-30),
        f"{about} differ by {error:.1e} from those of {source}; {mend(bench.cell, 'unroll')}",
    )

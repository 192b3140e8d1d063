"""What a run checks of its cell, where it goes."""

from __future__ import annotations

import numpy as np

from gradsim.contracts.cell import Cell
from gradsim.contracts.compiled import CompiledSteps
from gradsim.contracts.trajectory import Trajectory
from gradsim.engine import derivatives
from gradsim.engine.probe import probe, retake
from gradsim.plan.plan import Plan
from gradsim.run.setup import Setup
from gradsim.types import Array

_CHECKED_POSITIONS = 4
_FEW_STEPS = 32
"""Steps that are enough to compare two ways of taking them that are each the same at every step."""

_FEW_NUMBERS = 2**12
"""In their states, where they have been compared before in this process."""


def check_start(start: Trajectory, setup: Setup) -> None:
    """See that the cell keeps the rules of a step, before any is taken."""
    if _free(setup.cell) or setup.cell not in derivatives.trusted():
        probe(start)


def check_steps(first: Trajectory, setup: Setup, plan: Plan) -> list[str]:
    """Check the first segment as it was taken; the derivatives that could not be checked there.

    Far out a saturated step would agree with any derivative; near the start it moves. Free derivatives
    are checked in every run, as they are made of the numbers at hand; those that the cell brings along,
    and those of compiled steps, which are one program for all numbers, once a process; surrogate ones by
    the kit alone.
    """
    cell, free, trusted = setup.cell, _free(setup.cell), derivatives.trusted()
    known, unchecked = cell in trusted, []
    compiled = first.block.compiled if isinstance(first, CompiledSteps) else None
    needed = derivatives.METHODS
    if compiled and "step_jacobian" in free and not (plan.makes_jacobians or first.by_blocks):
        needed = derivatives.PULLED
    known = known and (compiled is None or compiled in derivatives.programs[needed])
    again = () if compiled else free
    methods = again if known else needed
    # Only penalties on Jacobians ask for second ones.
    second = setup.hooks.uses("gradsim_penalty") and cell.analytic("bilinear_vjp")
    second = second and cell not in derivatives.twice_trusted
    if cell.exact and (methods or second):
        rng = setup.seeds.generator("check")
        at = derivatives.picked(first, *_positions(first, rng))
        unchecked = derivatives.check(at, rng, methods)
        if second:
            derivatives.check_second(at, rng)
            derivatives.twice_trusted.add(cell)
        if not known and cell.analytic("unroll"):
            derivatives.check_unroll(first[first.steps[:_FEW_STEPS]], rng)
    if free or not known:
        retake(_first_few(first) if known and compiled else first)
    if not (known or unchecked):
        trusted.add(cell)
        if compiled is not None:
            derivatives.programs[needed].add(compiled)
    return unchecked


def _free(cell: Cell) -> list[str]:
    """The derivatives that the cell does not bring along."""
    return [m for m in derivatives.METHODS if not cell.analytic(m)]


def _first_few(first: Trajectory) -> Trajectory:
    return first[first.steps[: max(2, min(_FEW_STEPS, _FEW_NUMBERS // first.states[0].size))]]


def _positions(taken: Trajectory, rng: np.random.Generator) -> tuple[Array, Array]:
    """A few positions of a trajectory, all different: rows, and batch elements."""
    count, batch = len(taken.steps) * taken.states.shape[1], taken.states.shape[1]
    few = rng.integers(count, size=_CHECKED_POSITIONS) if count > _CHECKED_POSITIONS else np.arange(count)
    rows, elements = np.divmod(np.unique(few), batch)
    return rows, elements

"""Which library derives in a run: the one that was asked for, or the one that is estimated to be sooner."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gradsim.contracts.cell import Cell
from gradsim.contracts.plugin import calling
from gradsim.contracts.problem import Problem
from gradsim.contracts.trajectory import Trajectory
from gradsim.engine.derivatives import METHODS
from gradsim.errors import InputError, PluginError
from gradsim.numerics import autodiff
from gradsim.numerics.autodiff import Provider

_WORTH = 2.0
"""Seconds that autograd has to take before it is worth while to load JAX and to compile."""

_TRACED, _MADE = 3e-4, 3e-5
"""Seconds of a step of the way back by autograd: where each is traced, and where many are in one call."""

_BACK, _ROW = 1e-9, 1e-10
"""Seconds of a multiplication with a weight: on the way back, and for a row of a step Jacobian."""


@dataclass(frozen=True)
class Derivation:
    """The library of a run; `because` says why it is not JAX, where nobody has asked for another."""

    provider: Provider
    because: str = ""


def seconds(problem: Problem, backward: bool, jacobians: bool) -> float:
    """About what autograd takes for one pass, by the sizes alone, so that the same run goes the same way."""
    p = problem
    numbers = p.batch * p.cell.state_size * p.block
    weights = 2 * p.batch * sum(math.prod(shape) for shape in p.param_shapes.values())
    back = (_MADE if numbers <= 4096 else _TRACED) + _BACK * weights
    return p.steps * (backward * back + jacobians * _ROW * weights * p.block)


def derivation(
    asked: str, cell: Cell, expected: float, backward: bool, start: Callable[[], Trajectory]
) -> Derivation:
    """The library for a cell, asked for as in `simulate`.

    Parameters
    ----------
    expected
        Seconds that autograd is estimated to take.
    backward
        Whether adjoints are carried back through the steps.
    start
        Makes the trajectory that the run starts with.

    Raises
    ------
    InputError
        JAX was asked for and is not there.
    PluginError
        JAX was asked for and cannot trace the step.
    """
    if asked == "jax":
        if why := autodiff.jax_refused():
            raise InputError(f"derivatives='jax': {why}, or use derivatives='auto'")
        found = autodiff.load_jax().ByJax(asked=True, backward=backward)
        if _asks(cell) and (why := _untraceable(found, start())):
            raise PluginError(f"{cell!r}: step() cannot be traced by JAX ({why}); or use derivatives='auto'")
        return Derivation(found)
    if asked == "autograd":
        return Derivation(autodiff.AUTOGRAD)
    because = _against(cell, expected)
    if because:
        return Derivation(autodiff.AUTOGRAD, because)
    found = autodiff.load_jax().ByJax(asked=False, backward=backward)
    if why := _untraceable(found, start()):
        return Derivation(autodiff.AUTOGRAD, f"step() cannot be traced by JAX: {why}")
    return Derivation(found)


def _asks(cell: Cell) -> bool:
    """Whether a derivative of the cell, or of one inside, is a free one."""
    own = all(map(cell.analytic, METHODS))
    return not own or any(_asks(inner) for inner in cell.inside if isinstance(inner, Cell))


def _against(cell: Cell, expected: float) -> str:
    """What speaks against JAX where nobody has asked for it, the cheapest reasons first; empty if nothing."""
    if not _asks(cell):
        return "the cell brings its own"
    if os.environ.get("GRADSIM_COMPILED") == "0":
        return "GRADSIM_COMPILED=0"
    if why := autodiff.jax_refused(load=False):
        return why
    if expected < _WORTH:
        return f"autograd is estimated to take {expected:.1g} s, and to compile takes longer"
    return autodiff.jax_refused() or ""


def _untraceable(by_jax: Any, start: Trajectory) -> str | None:
    """Why JAX cannot trace the step, as the end of a sentence; None if it can."""
    with calling(start.cell, "derive", start.params):
        plain = start.cell.evaluated(start.params, start.step_data)
    data = {n: start.step_data[n][0] for n in plain.cell.step_data}
    found: str | None = by_jax.refusal(plain.cell.step, plain.params, start.states[0], start.inputs[0], data)
    return found

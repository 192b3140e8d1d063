"""What mitigations say that they cost, in floating-point operations."""

from __future__ import annotations

import math

from gradsim.engine.loss import READOUT


def param_count(problem):
    """P, the numbers that the parameters of the cell have."""
    return sum(math.prod(shape) for n, shape in problem.param_shapes.items() if n not in READOUT)


def positions_flops(problem, each, steps=None):
    """Those of all steps, or so many, and batch elements: `each`, and 3 m k for the step Jacobian."""
    jacobian = 3 * problem.cell.state_size * problem.block
    return float((steps or problem.steps) * problem.batch * (each + jacobian))


def gradient_flops(problem):
    """Those of a gradient from adjoints that are there."""
    return 4.0 * problem.steps * problem.batch * param_count(problem)

"""Forward propagation of errors through time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Mitigation, hookimpl
from gradsim.errors import NonFiniteError
from gradsim.numerics.blocks import through_blocks
from gradsim_mitigations.costs import gradient_flops, positions_flops
from gradsim_mitigations.influence import pieces, plain, step_jacobian


@dataclass(frozen=True, eq=False)
class ForwardErrors(Mitigation):
    """Carry adjoints forward in time, by the inverse of what carries them back: the exact gradient on paper.

    a_{t+1} = (a_t - q_t) J_{t+1}^-1, and the gradient is the sum over t of a_t I_t; letters as in `rtrl`;
    a_t (m): dL/ds_t. Where it starts is found in a pass before, from a'_0 = 0: as two such passes differ by
    (a'_0 - a_0) P(T, 0)^-1 in the end, where a_T = q_T is known, a_0 = (q_T - a'_T) P(T, 0).

    What rounding does to a_0 grows as fast as J forgets: for one unit with J = lambda, by lambda^-T. Over 98
    steps an `lru` needs |lambda| of about 0.8 in float64, and 0.9 in float32; an `elman` or `lstm` is lost
    after ten, as it starts. J has to have an inverse. Takes m^2 numbers a batch element, m^3 operations a
    step, and two passes.

    Zucchet, Pourcel & Ernoult (2026), Forward propagation of errors through time, a post on the web, eq. 6-9;
    the sign of eq. 9, (a'_T - q_T) P, is a slip. There each of L layers has a pass of its own, L + 1 in all;
    here the joint state of a stack has two.
    """

    name = "forward_errors"

    def carry_bytes(self, problem):
        kept = 2 * (problem.steps + 1) + problem.block
        return kept * problem.batch * problem.cell.state_size * problem.dtype.itemsize

    def flops(self, problem):
        inverse = product = 2 * problem.cell.state_size * problem.block**2
        return 2 * positions_flops(problem, inverse + product) + gradient_flops(problem)

    @hookimpl(wrapper=True)
    def gradsim_rule(self, trajectory, direct):
        yield
        taken, back = plain(trajectory)
        with np.errstate(all="ignore"):
            trial, product = _forward(taken, direct, np.zeros_like(direct[0]))
            first = through_blocks(direct[-1] - trial[-1], product)
            adjoints, _ = _forward(taken, direct, first)
        if not np.isfinite(adjoints).all():
            raise NonFiniteError(
                "forward_errors: the adjoints that it carries forward leave the range of their dtype, as the "
                "steps forget; take fewer steps, or a rule that inverts nothing, such as rtrl"
            )
        return back(taken.gradient(adjoints[1:]))


def _forward(trajectory, direct, first):
    """a_t at all times (time, batch, m) from that at time 0, and P(T, 0) in blocks (batch, g, k, k)."""
    adjoints = np.empty_like(direct)
    adjoints[0] = first
    size = trajectory.cell.state_size // trajectory.cell.jacobian_groups
    product = np.eye(size, dtype=direct.dtype)
    for some in pieces(trajectory, first.size * size):
        blocks = step_jacobian(some)
        inverses = _inverse(blocks, some.steps)
        for i, t in enumerate(some.steps):
            adjoints[t] = through_blocks(adjoints[t - 1] - direct[t - 1], inverses[i])
            product = blocks[i] @ product
    return adjoints, product


def _inverse(blocks, steps):
    try:
        return np.linalg.inv(blocks)
    except np.linalg.LinAlgError:
        raise NonFiniteError(
            f"forward_errors: a step Jacobian among those of steps {steps[0]} to {steps[-1]} has no inverse; "
            "take a rule that inverts nothing, such as rtrl"
        ) from None

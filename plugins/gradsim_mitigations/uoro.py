"""Unbiased online recurrent optimization."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Mitigation, hookimpl
from gradsim.contracts.trajectory import step_rows
from gradsim_mitigations.costs import param_count, positions_flops
from gradsim_mitigations.influence import by_name, pieces, plain, step_jacobian, through
from gradsim_mitigations.rank_one import balanced, signs
from gradsim_mitigations.reach import in_a_row


@dataclass(frozen=True, eq=False)
class UORO(Mitigation):
    """Carry forward a random product of two vectors, whose mean is the influence of the parameters: UORO.

    A_t = r J_t A_{t-1} + s v_t and B_t = B_{t-1} / r + v_t I_t / s from A_0 = B_0 = 0, so that the mean of
    A_t B_t is M_t; and the gradient is the sum over t of (q_t A_t) B_t. Letters as in `rtrl`; A_t (m),
    B_t (P); v_t (m): independent signs, drawn at each step for each batch element. The variance is small
    with r^2 = ||B_{t-1}|| / ||J_t A_{t-1}|| and s^2 = ||v_t I_t|| / ||v_t||; a product of which one factor
    is zero is left out.

    The mean over the signs is the exact gradient; a single draw is far from it, the further the larger m is
    and the longer influence lasts: with 16 units, batches of 8 and a loss after 100 steps, the cosine between
    the two is 0.1 to 0.25. Takes m + P numbers a batch element, and one pull through each step.

    Tallec & Ollivier (2018), Unbiased online recurrent optimization. They add a small number to norms, and
    take J_t A_{t-1} from a difference of two steps, where it is exact here.
    """

    name = "uoro"

    def draw(self, rng, steps, batch, cell):
        return {"signs": signs(rng, steps, batch, cell.state_size)}

    def carry_bytes(self, problem):
        return 4 * problem.batch * param_count(problem) * problem.dtype.itemsize

    def flops(self, problem):
        product = 2 * problem.cell.state_size * problem.block
        return positions_flops(problem, 12 * param_count(problem) + product)

    @hookimpl(wrapper=True)
    def gradsim_rule(self, trajectory, direct, draws):
        yield
        taken, back = plain(trajectory)
        batch, count = taken.inputs.shape[1], sum(p.size for p in taken.params.values())
        a, b = np.zeros_like(direct[0]), np.zeros((batch, count), dtype=direct.dtype)
        gradient = np.zeros(count, dtype=direct.dtype)
        for some in pieces(taken, batch * count):
            v = draws[self]["signs"][step_rows(some.steps)].astype(direct.dtype)
            pulled, blocks = _pulled(some, v), step_jacobian(some)
            for i, t in enumerate(some.steps):
                old = balanced(through(blocks[i], a[..., None])[..., 0], b)
                new = balanced(v[i], pulled[i])
                a, b = old[0] + new[0], old[1] + new[1]
                gradient += (direct[t] * a).sum(axis=1) @ b
        return back(by_name(gradient, taken.params))


def _pulled(trajectory, cotangents):
    """Cotangents (steps, batch, m) times I: (steps, batch, P)."""

    def alone(x):
        return x[:, :, None]  # or batch elements would be summed over

    place = alone(trajectory.before), alone(trajectory.inputs), alone(cotangents)
    data = {n: alone(x) for n, x in trajectory.step_data.items()}
    found = trajectory.cell.params_vjp(trajectory.params, *place, **data)
    return in_a_row({n: found[n] for n in trajectory.params}, 2)

"""Kronecker-factored real-time recurrent learning."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Dense, Derived, Mitigation, hookimpl
from gradsim.contracts.dense.slopes import slopes_at
from gradsim.contracts.dense.weights import weights_of
from gradsim.contracts.trajectory import step_rows
from gradsim.errors import InputError
from gradsim_mitigations.costs import positions_flops
from gradsim_mitigations.influence import pieces, plain, step_jacobian, through
from gradsim_mitigations.rank_one import balanced, signs


@dataclass(frozen=True, eq=False)
class KFRTRL(Mitigation):
    """Carry forward a random Kronecker product, whose mean is the influence of the weights: KF-RTRL.

    Where all parameters stand in sums a_t = V z_t, with z_t = (x_t, h_{t-1}, 1) or what of it there are
    weights for, their immediate derivative is D_t (x) z_t with D_t = ds_t/da_t.
    A_t = r J_t A_{t-1} + v_t s D_t and u_t = u_{t-1} / r + v_t z_t / s
    from A_0 = 0 and u_0 = 0 make the mean of A_t (x) u_t the influence M_t, and the gradient of V is the sum
    over t of (q_t A_t)^T u_t. Letters as in `rtrl`; V (G, z) for G sums, A_t (m, G), D_t (m, G), u_t (z);
    v_t: a sign, drawn at each step for each batch element. The variance is small with
    r^2 = ||u_{t-1}|| / ||J_t A_{t-1}|| and s^2 = ||z_t|| / ||D_t||; a product of which one factor is zero is
    left out.

    The mean over the signs is the exact gradient. With 16 units, batches of 8 and a loss after 100 steps, the
    cosine between a single draw and that is 0.55 to 0.8. Takes m G + z numbers and m^2 G operations a step
    and batch element, less than `rtrl` by the factor z.

    For cells whose units see each other through weights only, also with weights that are made of others.
    Others are refused: stacks, and gates that act before U, have several z_t, of which each would need a
    product of its own; wrappers have parameters outside of V, or another D_t. `uoro` takes any.

    Mujika, Meier & Steger (2018), Approximating real-time recurrent learning with random Kronecker factors.
    They draw two signs a step, of which only the product has an effect.
    """

    name = "kf_rtrl"

    def refuse(self, cell):
        inside = _inside(cell)
        if not (isinstance(inside, Dense) and inside.of_units):
            raise InputError(
                f"kf_rtrl: {cell.name} is not made of units that see each other through weights only, so "
                "that what its parameters do in one step is no Kronecker product; take uoro"
            )

    def draw(self, rng, steps, batch):
        return {"signs": signs(rng, steps, batch)}

    def carry_bytes(self, problem):
        inside = _inside(problem.cell)
        numbers = inside.state_size * inside.sums * inside.units
        return 4 * problem.batch * numbers * problem.dtype.itemsize

    def flops(self, problem):
        inside = _inside(problem.cell)
        rows, seen = inside.sums * inside.units, inside.input_size + inside.units + 1
        return positions_flops(problem, 2 * rows * (inside.state_size * (problem.block + 4) + seen))

    @hookimpl(wrapper=True)
    def gradsim_rule(self, trajectory, direct, draws):
        yield
        taken, back = plain(trajectory)
        cell, batch, dtype = taken.cell, taken.inputs.shape[1], direct.dtype
        m, n, sums, size = cell.state_size, cell.units, cell.sums, cell.input_size
        rows, columns = np.arange(m).reshape(-1, 1, n), np.arange(sums * n).reshape(1, -1, n)  # of D
        a, u = np.zeros((batch, m, sums * n), dtype=dtype), np.zeros((batch, size + n + 1), dtype=dtype)
        terms = cell.counted(taken.params)
        used = {term.factor for term in terms}  # what nothing multiplies would be noise alone
        gradient = np.zeros((sums * n, size + n + 1), dtype=dtype)
        for some in pieces(taken, a.size):
            v, h = draws[self]["signs"][step_rows(some.steps)].astype(dtype), some.before[..., :n]
            given = {"x": some.inputs, "h": h, "1": np.ones_like(h[..., :1])}
            z = np.concatenate([x if f in used else 0 * x for f, x in given.items()], axis=-1)
            slopes, jacobian = _slopes(some, h), step_jacobian(some)
            for i, t in enumerate(some.steps):
                a, u = balanced(through(jacobian[i], a), u)
                by_sums, seen = balanced(slopes[i], z[i])
                a[:, rows, columns] += v[i][:, None, None, None] * by_sums
                u += v[i][:, None] * seen
                gradient += (direct[t][:, None] @ a)[:, 0].T @ u
        found = {name: np.zeros_like(p) for name, p in taken.params.items()}
        of = {"x": slice(0, size), "h": slice(size, size + n), "1": size + n}
        for term in terms:
            found[term.param][term.rows] = gradient[term.columns, of[term.factor]]
        return back(found)


def _inside(cell):
    """The cell with parameters that are made of others as its own."""
    while isinstance(cell, Derived):
        cell = cell.cell
    return cell


def _slopes(trajectory, h):
    """D, unit by unit: (steps, batch, blocks, sums, n)."""
    cell, data = trajectory.cell, trajectory.step_data
    sums = weights_of(cell, trajectory.params).sums(trajectory.inputs, h)
    found = slopes_at(cell, sums, trajectory.before, data)
    whole = found.whole(cell.sums, len(cell.blocks), h.shape, h.dtype)
    return np.moveaxis(whole[:, : cell.sums], (0, 1), (2, 3))

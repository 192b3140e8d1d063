"""What rules in place of backpropagation share: how far parameters have come to act on the state.

The *influence* M_t = ds_t/dparams of all parameters, P numbers in a row, has shape (batch, m, P). It starts
at M_0 = 0 and grows by M_t = J_t M_{t-1} + I_t, with the step Jacobian J_t and the immediate derivative I_t,
that of s_t at a fixed s_{t-1}. The gradient is the sum over t of q_t M_t, with q_t = dL_t/ds_t.

Most of I_t is zero, as a row of weights feeds one unit. `Forward` keeps what else there is of M, in
dense parts: those parameters that act on the same components. It finds them on the run itself, where an
entry is left out if it is zero at each step and in each batch element.

Parameters that are made of others (`Derived`) are evaluated before and the gradient is pulled back after, so
that a rule sees the weights that the step sees.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from gradsim.contracts.trajectory import Trajectory
from gradsim.numerics.blocks import dense_blocks

_NUMBERS = 2**20
"""Numbers of one kind that are made at a time."""


def plain(trajectory):
    """The same steps with nothing left to derive, and the way of a gradient back to the given parameters."""
    found = trajectory.cell.evaluated(trajectory.params, trajectory.step_data)
    data = {n: trajectory.step_data[n] for n in found.cell.step_data}
    states, inputs = trajectory.states, trajectory.inputs
    return Trajectory(found.cell, found.params, states, inputs, data, first=trajectory.first), found.back


def pieces(trajectory, numbers):
    """A few steps at a time, in order, for what has so many numbers a step."""
    steps, count = trajectory.steps, max(1, _NUMBERS // max(1, numbers))
    for start in range(steps.start, steps.stop, count):
        yield trajectory[range(start, min(start + count, steps.stop))]


def in_a_row(params, lead=0):
    """Named arrays (*lead, *param), side by side: (*lead, P)."""
    return np.concatenate([p.reshape(*p.shape[:lead], -1) for p in params.values()], axis=-1)


def by_name(row, params):
    """A row of P numbers as arrays by name, of the shapes of `params`."""
    ends = np.cumsum([0, *(p.size for p in params.values())])
    return {
        n: row[a:b].reshape(p.shape) for (n, p), (a, b) in zip(params.items(), pairwise(ends), strict=True)
    }


def step_jacobian(trajectory):
    """J_t of each step, in blocks (steps, batch, g, k, k)."""
    return trajectory.call(trajectory.cell.step_jacobian)


def own_unit(trajectory):
    """J_t as `step_jacobian` makes it, without what leads from one unit to another.

    A unit is what lies at one place of all blocks of one size, in each layer of a stack; a J that falls into
    groups is left as it is.
    """
    blocks, cell = step_jacobian(trajectory), trajectory.cell
    if blocks.shape[-3] > 1:
        return blocks
    layers = {n: re.match(r"(layer\d+_)*", n)[0] for n in cell.blocks}
    units = [(layers[n], size, place) for n, size in cell.blocks.items() for place in range(size)]
    number = np.array([units.index(unit) for unit in units])
    return np.where(np.equal.outer(number, number), blocks, 0)


def through(blocks, columns):
    """J M, of blocks (batch, g, k, k) and columns (batch, m, n)."""
    batch, g, k, _ = blocks.shape
    grouped = columns.reshape(batch, k, g, -1).swapaxes(1, 2)  # group j holds the components j, j + g, ...
    return (blocks @ grouped).swapaxes(1, 2).reshape(columns.shape)


class Forward:
    """The influence of all parameters, as it is carried forward through some steps.

    Parameters
    ----------
    trajectory
        The steps.
    blocks
        What makes, of some steps, the blocks (steps, batch, g, k, k), of any g, that stand in the place of J.
    depth
        A parameter acts on what it reaches in so many steps, of which the first is the one that it takes part
        in; None for what it ever reaches.
    """

    def __init__(self, trajectory, blocks=step_jacobian, depth=None):
        self.taken, self._back = plain(trajectory)
        self._blocks, self._acting = blocks, _acting(self.taken)
        self._parts = _parts(_reached(self._acting, self.taken, blocks, depth))
        self._colours = _colours(self._acting)

    def gradient(self, direct, steps=None):
        """The sum over t of q_t M_t by name, with M = 0 before the first of `steps`, all unless given.

        `direct` (time, batch, m): q_t, by the number of the time.
        """
        taken = self.taken if steps is None else self.taken[steps]
        batch, count, dtype = taken.inputs.shape[1], self._acting.shape[1], taken.states.dtype
        apart = np.equal.outer(np.arange(self._colours.max() + 1), self._colours).astype(dtype)
        influence = [np.zeros((batch, *p.shape), dtype=dtype) for p in self._parts]
        size, gradient = len(apart) * count + sum(m[0].size for m in influence), np.zeros(count, dtype=dtype)
        for some in pieces(taken, batch * size):
            found, made = some.params_jacobian(apart), self._blocks(some)
            alone = in_a_row({n: found[n] for n in taken.params}, 3)
            given = [p.immediate(alone, self._acting, self._colours) for p in self._parts]
            carry = [p.between(made) for p in self._parts]
            for i, t in enumerate(some.steps):
                q = direct[t]
                for j, p in enumerate(self._parts):
                    influence[j] = carry[j][i] @ influence[j] + given[j][i]
                    if q.any():
                        gradient[p.columns] += (q[:, p.rows][:, :, None] @ influence[j]).sum(axis=0)[:, 0]
        return self._back(by_name(gradient, taken.params))


@dataclass(frozen=True, eq=False)
class _Part:
    """The influence of some parameters: u times those of `columns` (u, c) on the components `rows` (u, r)."""

    rows: np.ndarray
    columns: np.ndarray

    @property
    def shape(self):
        return *self.rows.shape, self.columns.shape[1]

    def between(self, blocks):
        """The entries of J that lead from these components to these: (steps, batch, u, r, r)."""
        g, (i, j) = blocks.shape[-3], (self.rows[:, :, None], self.rows[:, None, :])
        return np.where(i % g == j % g, blocks[..., i % g, i // g, j // g], 0)

    def immediate(self, alone, acting, colours):
        """I (steps, batch, u, r, c), out of what the components of each colour have together."""
        i, j = self.rows[:, :, None], self.columns[:, None, :]
        return np.where(acting[i, j], alone[:, :, colours[i], j], 0)


def _acting(trajectory):
    """Which parameters act on which components at once, (m, P): somewhere on the trajectory I is not zero."""
    cell, size = trajectory.cell, trajectory.cell.state_size
    known, found = np.random.default_rng(0), 0
    for some in pieces(trajectory, trajectory.inputs.shape[1] * size * size):
        steps, batch = some.inputs.shape[:2]

        def flat(x, lead=(size, steps * batch)):
            return np.broadcast_to(x.reshape(lead[1], *x.shape[2:]), (*lead, *x.shape[2:]))

        # With a weight for each position no two add up to nothing.
        weight = known.uniform(1, 2, (steps * batch, 1)).astype(some.states.dtype)
        rows = np.eye(size, dtype=weight.dtype)[:, None] * weight
        data = {n: flat(x) for n, x in some.step_data.items()}
        slopes = cell.params_vjp(some.params, flat(some.before), flat(some.inputs), rows, **data)
        found = found | (in_a_row({n: slopes[n] for n in some.params}, 1) != 0)
    return found


def _reached(acting, trajectory, blocks, depth):
    """What parameters act on at all, (m, P)."""
    groups, size = trajectory.cell.jacobian_groups, trajectory.cell.state_size
    if depth is not None and groups > 1:  # a group, such as a complex number, counts as one component
        acting = np.tile(acting.reshape(size // groups, groups, -1).any(axis=0), (size // groups, 1))
    if depth == 1:
        return acting
    leads = 0
    for some in pieces(trajectory, trajectory.states[0].size * size):
        leads = leads | (blocks(some) != 0).any(axis=(0, 1))
    leads = dense_blocks(leads).astype(np.float32)
    sets, which = np.unique(acting, axis=1, return_inverse=True)
    grown = sets
    for _ in range(size if depth is None else depth - 1):
        sets, grown = grown, grown | (leads @ grown > 0)
        if (sets == grown).all():
            break
    return grown[:, which]


def _parts(acting):
    """Parameters that act on as many components, as many on the same ones."""
    found = defaultdict(list)
    sets, which = np.unique(acting, axis=1, return_inverse=True)
    for i, on in enumerate(sets.T):
        rows, columns = np.flatnonzero(on), np.flatnonzero(which == i)
        if len(rows):
            found[len(rows), len(columns)].append((rows, columns))
    return [_Part(*map(np.array, zip(*alike, strict=True))) for alike in found.values()]


def _colours(acting):
    """A colour for each component, (m,), such that no parameter acts on two of one colour."""
    sets = np.unique(acting, axis=1).astype(np.float32)
    clash, colours = sets @ sets.T > 0, np.full(len(sets), -1)
    for i, others in enumerate(clash):
        taken = set(colours[others])
        colours[i] = next(c for c in range(len(sets)) if c not in taken)
    return colours

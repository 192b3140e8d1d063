"""What rules in place of backpropagation share: how far parameters have come to act on the state.

The *influence* M_t = ds_t/dparams of all parameters, P numbers in a row, has shape (batch, m, P). It starts
at M_0 = 0 and grows by M_t = J_t M_{t-1} + I_t, with the step Jacobian J_t and the immediate derivative I_t,
that of s_t at a fixed s_{t-1}. The gradient is the sum over t of q_t M_t, with q_t = dL_t/ds_t.

Most of I_t is zero, as a row of weights feeds one unit. `Forward` keeps what else there is of M, in
dense parts: those parameters that act on the same components.

Parameters that are made of others (`Derived`) are evaluated before and the gradient is pulled back after, so
that a rule sees the weights that the step sees.
"""

from __future__ import annotations

import math
import re
from itertools import pairwise

import numpy as np

from gradsim.contracts.trajectory import Trajectory
from gradsim.machine import accelerator
from gradsim_mitigations.costs import param_count, positions_flops
from gradsim_mitigations.reach import Acting, in_a_row

_NUMBERS = 2**20
"""Numbers of one kind that are made at a time."""

_DENSE = 4
"""I is made in whole where one of so many of its numbers, or more, are other than zero."""

_FEW = 3
"""To go along one of so many paths, or fewer, is quicker than a product of matrices."""

_KERNELS = "gradsim_mitigations.path_kernels"


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


def by_name(row, params):
    """A row of P numbers as arrays by name, of the shapes of `params`."""
    ends = np.cumsum([0, *(p.size for p in params.values())])
    return {
        n: row[a:b].reshape(p.shape) for (n, p), (a, b) in zip(params.items(), pairwise(ends), strict=True)
    }


def step_jacobian(trajectory):
    """J_t of each step, in blocks (steps, batch, g, k, k)."""
    return trajectory.call(trajectory.cell.step_jacobian)


def own_unit(cell):
    """Which entries of J, in blocks (g, k, k), lead from a unit to itself.

    A unit is what lies at one place of all blocks of one size, in each layer of a stack; a J that falls into
    groups leads nowhere else.
    """
    groups, k = cell.jacobian_groups, cell.state_size // cell.jacobian_groups
    if groups > 1:
        return np.ones((groups, k, k), dtype=bool)
    layers = {n: re.match(r"(layer\d+_)*", n)[0] for n in cell.blocks}
    units = [(layers[n], size, place) for n, size in cell.blocks.items() for place in range(size)]
    numbers = {unit: i for i, unit in enumerate(units)}
    own = np.array([numbers[unit] for unit in units])
    return np.equal.outer(own, own)[None]


def through(blocks, columns):
    """J M, of blocks (batch, g, k, k) and columns (batch, m, n)."""
    batch, g, k, _ = blocks.shape
    grouped = columns.reshape(batch, k, g, -1).swapaxes(1, 2)  # group j holds the components j, j + g, ...
    return (blocks @ grouped).swapaxes(1, 2).reshape(columns.shape)


def influence_bytes(problem, rows):
    """What `Forward` takes if a parameter acts on so many components: M, what it becomes, what is added."""
    return 4 * rows * problem.batch * param_count(problem) * problem.dtype.itemsize + 4 * 8 * _NUMBERS


def influence_flops(problem, rows, steps=None, paths=None):
    """The operations of `Forward` over so many steps, all unless given: J M, what is added, and q M.

    `paths`: from how many components influence goes to each; from all of `rows` unless given.
    """
    sources = paths if paths and _one_by_one(paths, rows) else rows
    return positions_flops(problem, 2 * rows * (sources + 6) * param_count(problem), steps)


class Forward:
    """The influence of all parameters, as it is carried forward through some steps.

    Parameters
    ----------
    trajectory
        The steps.
    keep
        Which entries of the blocks of J, (g, k, k), carry influence; all of them if None.
    jacobian
        What makes, of some steps, blocks (steps, batch, g, k, k), of any g, that stand in the place of J.
    depth
        A parameter acts on what it reaches in so many steps, of which the first is the one that it takes part
        in; None for what it ever reaches.
    """

    def __init__(self, trajectory, keep=None, jacobian=step_jacobian, depth=None):
        self.taken, self._back = plain(trajectory)
        self._jacobian, self._keep = jacobian, keep
        self._acting = acting = Acting.of(self.taken)
        self._parts = [_Part(*part, acting, keep) for part in acting.parts(self._leads(), depth)]

    def _leads(self):
        """Which entries of J are other than zero, (g, k, k): in some steps, and again as there are more."""
        found = False
        for some in pieces(self.taken, self.taken.states[0].size * self.taken.states.shape[-1]):
            more = found | (self._jacobian(some) != 0).any(axis=(0, 1))
            if not np.array_equal(found, more):
                found = more
                yield found if self._keep is None else found & self._keep

    def gradient(self, direct, steps=None):
        """The sum over t of q_t M_t by name, with M = 0 before the first of `steps`, all unless given.

        `direct` (time, batch, m): q_t, by the number of the time.
        """
        taken, rows = self.taken if steps is None else self.taken[steps], self._acting.rows
        batch, dtype, params = taken.inputs.shape[1], taken.states.dtype, taken.params
        gradient = np.zeros(self._acting.at.shape[1], dtype=dtype)
        influence = [np.zeros((batch, *p.shape), dtype=dtype) for p in self._parts]
        for some in pieces(taken, batch * len(rows) * len(gradient)):
            found, blocks = some.params_jacobian(rows.astype(dtype)), self._jacobian(some)
            nothing = np.zeros((*some.inputs.shape[:2], len(rows), 1), dtype=dtype)
            alone = in_a_row({n: found[n] for n in params} | {None: nothing}, 3)
            alone = alone.reshape(*alone.shape[:2], -1)
            q = direct[some.steps.start : some.steps.stop]
            for i, part in enumerate(self._parts):
                influence[i], added = part.along(influence[i], blocks, alone, q)
                gradient[part.columns] += added
        return self._back(by_name(gradient, params))


class _Part:
    """The influence of some parameters: u times those of `columns` (u, c) on the components `rows` (u, r).

    It is (batch, u, r, c), or (batch, r, c, u) if there are more units than columns: long rows are quicker.
    """

    def __init__(self, rows, columns, acting, keep):
        self.rows, self.columns = rows, columns
        (units, r), c = rows.shape, columns.shape[1]
        self._last = units > c
        self.shape = (r, c, units) if self._last else (units, r, c)
        place, unit, colour = np.nonzero(acting.at[:, columns].T >= 0)
        component, apart = acting.at[colour, columns[unit, place]], len(acting.colours) * np.arange(units)
        row = np.searchsorted((rows + apart[:, None]).ravel(), component + apart[unit]) - unit * r
        # Where I is among the numbers of a part, and where in a row of what components of each colour make.
        self._to = np.ravel_multi_index((row, place, unit) if self._last else (unit, row, place), self.shape)
        self._of = colour * (acting.at.shape[1] + 1) + columns[unit, place]
        self._whole = None
        if _DENSE * len(self._to) >= math.prod(self.shape):
            self._whole = np.full(self.shape, acting.at.shape[1])
            self._whole.ravel()[self._to] = self._of
        self._keep = None if keep is None else _between(keep, rows)
        self._sources = None if keep is None else _sources(self._keep)

    def along(self, influence, blocks, alone, direct):
        """M after some steps, and the sum of q M over them (u, c)."""
        carry, q = _between(blocks, self.rows), direct[..., self.rows]
        if self._keep is not None:
            carry = carry * self._keep
        if self._sources is not None:
            return self._along_paths(influence, carry, alone, q)
        if self._last:
            carry, q = (np.ascontiguousarray(np.moveaxis(x, 2, -1)) for x in (carry, q))
        whole, spare, gradient = self._whole is not None, np.empty_like(influence), 0
        added = alone.take(self._whole if whole else self._of, axis=-1)
        for here, more, seen in zip(carry, added, q, strict=True):
            self._carried(here, influence, spare)
            influence, spare = spare, influence
            if whole:
                influence += more
            else:
                influence.reshape(len(influence), -1)[:, self._to] += more
            if seen.any():
                gradient = gradient + self._summed(seen, influence)
        return influence, gradient

    def _carried(self, here, influence, out):
        """J M."""
        if self._last:
            np.einsum("biju,bjcu->bicu", here, influence, out=out)
        else:
            (np.multiply if influence.shape[2] == 1 else np.matmul)(here, influence, out=out)

    def _summed(self, seen, influence):
        """The sum of q M over the batch: (u, c)."""
        if self._last:
            return np.einsum("bru,brcu->cu", seen, influence).T
        if len(self.rows) > 1:
            return np.einsum("bur,burc->uc", seen, influence)
        return seen.reshape(1, -1) @ influence.reshape(seen.size, -1)

    def _along_paths(self, influence, carry, alone, q):
        """`along`, in compiled loops."""
        gradient = np.zeros(self.columns.shape, dtype=influence.dtype)
        slopes = np.take_along_axis(carry[:, :, 0], self._sources[None, None], axis=-1)
        places = np.divmod(self._to, self.columns.shape[1])
        accelerator.kernels(_KERNELS).along(
            *(self._sources, slopes, influence[:, 0], *places, alone.take(self._of, axis=-1)),
            *(q[:, :, 0], gradient[0]),
        )
        return influence, gradient


def _sources(keep):
    """The components (r, paths) that each takes from, where they are so few that to go by them is quicker."""
    units, r, _ = keep.shape
    paths = int(keep.sum(axis=-1).max())
    if units > 1 or not paths or not _one_by_one(paths, r):
        return None
    return np.argsort(~keep[0], axis=-1, kind="stable")[:, :paths]


def _one_by_one(paths, rows):
    """Whether so many paths to each component are gone one by one."""
    return _FEW * paths <= rows and accelerator.enabled()


def _between(blocks, rows):
    """The entries of blocks (..., g, k, k) between components (u, r): (..., u, r, r)."""
    g, k, _ = blocks.shape[-3:]
    if rows.shape[1] == k and (rows % g == rows[:, :1] % g).all():
        return blocks[..., rows[:, 0] % g, :, :]
    i, j = rows[:, :, None], rows[:, None, :]
    return np.where(i % g == j % g, blocks[..., i % g, i // g, j // g], 0)

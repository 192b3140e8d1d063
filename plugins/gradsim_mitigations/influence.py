"""What rules in place of backpropagation share: how far parameters have come to act on the state.

The *influence* M_t = ds_t/dparams of all parameters, P numbers in a row, has shape (batch, m, P). It starts
at M_0 = 0 and grows by M_t = J_t M_{t-1} + I_t, with the step Jacobian J_t and the immediate derivative I_t,
that of s_t at a fixed s_{t-1}. The gradient is the sum over t of q_t M_t, with q_t = dL_t/ds_t.

Most of I_t is zero, as a row of weights feeds one unit. `Forward` keeps what else there is of M, in
dense parts: those parameters that act on the same components. What acts on what it finds on the run itself:
an entry is left out only if it is zero at each step and in each batch element.

Parameters that are made of others (`Derived`) are evaluated before and the gradient is pulled back after, so
that a rule sees the weights that the step sees.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from gradsim import Cell
from gradsim.contracts.trajectory import Trajectory
from gradsim.engine.loss import READOUT
from gradsim.numerics.blocks import dense_blocks
from gradsim.types import Array, Params, StepData

_NUMBERS = 2**18
"""Numbers of one kind that are made at a time."""

_FEW = 16
"""Positions that tell which parameters act on which components."""

_ROUNDING = 1e3 * np.finfo(np.float64).eps
"""How far a sum over all positions may be off, of the largest for a parameter."""


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
    numbers = {unit: i for i, unit in enumerate(units)}
    own = np.array([numbers[unit] for unit in units])
    return np.where(np.equal.outer(own, own), blocks, 0)


def through(blocks, columns):
    """J M, of blocks (batch, g, k, k) and columns (batch, m, n)."""
    batch, g, k, _ = blocks.shape
    grouped = columns.reshape(batch, k, g, -1).swapaxes(1, 2)  # group j holds the components j, j + g, ...
    return (blocks @ grouped).swapaxes(1, 2).reshape(columns.shape)


def param_count(problem):
    """P, the numbers that the parameters of the cell have."""
    return sum(math.prod(shape) for n, shape in problem.param_shapes.items() if n not in READOUT)


def influence_bytes(problem, rows):
    """What `Forward` takes if a parameter acts on so many components: M, what it becomes, what is added."""
    return 5 * rows * problem.batch * param_count(problem) * problem.dtype.itemsize + 4 * 8 * _NUMBERS


def influence_flops(problem, rows, steps=None):
    """The operations of `Forward` over so many steps, all unless given: J M, what is added, and q M."""
    return positions_flops(problem, 2 * rows * (rows + 6) * param_count(problem), steps)


def positions_flops(problem, each, steps=None):
    """Those of all positions, with so many at each besides 3 m k for the step Jacobian."""
    jacobian = 3 * problem.cell.state_size * problem.block
    return float((steps or problem.steps) * problem.batch * (each + jacobian))


def gradient_flops(problem):
    """Those of a gradient from adjoints that are there."""
    return 4.0 * problem.steps * problem.batch * param_count(problem)


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
                    influence[j] = carry[j][i] @ influence[j]
                    influence[j] += given[j][i]
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
    """Which parameters act on which components at once, (m, P): where I is ever other than zero.

    A few positions tell, with their own inputs and with others, as long as that explains what all components
    together make at all positions; if not, all positions tell.
    """
    rng, every = np.random.default_rng(0), _Positions.of(trajectory)
    few = every[rng.integers(len(every.state), size=_FEW)]
    moved = replace(few, inputs=few.inputs + rng.standard_normal(few.inputs.shape))
    acting = few.acting(rng) | moved.acting(rng)
    by_position, by_component = (rng.uniform(1, 2, n) for n in every.state.shape)
    rest, colours = every.pulled(np.multiply.outer(by_position, by_component)), _colours(acting)
    sizes = by_name(np.abs(rest), every.params)
    allowed = in_a_row({n: np.full_like(x, _ROUNDING * x.max()) for n, x in sizes.items()})
    for colour in range(colours.max() + 1):
        own = colours == colour
        together = every.pulled(np.multiply.outer(by_position, own))
        rest -= (by_component * own) @ np.where(acting, together, 0)
    return acting if (np.abs(rest) <= allowed).all() else every.acting(rng)


@dataclass(frozen=True)
class _Positions:
    """Where a cell takes steps: states, inputs and step data, each (positions, ...), in float64."""

    cell: Cell
    params: Params
    state: Array
    inputs: Array
    data: StepData

    @classmethod
    def of(cls, trajectory):
        """All of a trajectory, time and batch as one axis."""

        def wide(x):
            return x.astype(np.float64) if x.dtype.kind == "f" else x

        def flat(x):
            return wide(x).reshape(-1, *x.shape[2:])

        params = {n: wide(p) for n, p in trajectory.params.items()}
        data = {n: flat(x) for n, x in trajectory.step_data.items()}
        return cls(trajectory.cell, params, flat(trajectory.before), flat(trajectory.inputs), data)

    def __getitem__(self, chosen):
        data = {n: x[chosen] for n, x in self.data.items()}
        return replace(self, state=self.state[chosen], inputs=self.inputs[chosen], data=data)

    def pulled(self, rows):
        """Cotangents (..., positions, m) pulled back to the parameters, (..., P), summed over positions."""
        lead = rows.shape[:-2]

        def alike(x):
            return np.broadcast_to(x, (*lead, *x.shape))

        data = {n: alike(x) for n, x in self.data.items()}
        found = self.cell.params_vjp(self.params, alike(self.state), alike(self.inputs), rows, **data)
        return in_a_row({n: found[n] for n in self.params}, len(lead))

    def acting(self, rng):
        """Where I is not zero at each of them, (m, P)."""
        count, m = self.state.shape
        length, found = max(1, _NUMBERS // m**2), False
        for start in range(0, count, length):
            some = self[start : start + length]
            # With a weight for each position no two add up to nothing.
            weight = rng.uniform(1, 2, (len(some.state), 1))
            found = found | (some.pulled(np.eye(m)[:, None] * weight) != 0)
        return found


def _reached(acting, trajectory, blocks, depth):
    """What parameters act on at all, (m, P)."""
    groups, size = trajectory.cell.jacobian_groups, trajectory.cell.state_size
    if depth is not None and groups > 1:  # a group, such as a complex number, counts as one component
        acting = np.tile(acting.reshape(size // groups, groups, -1).any(axis=0), (size // groups, 1))
    if depth == 1:
        return acting
    leads = 0
    for some in pieces(trajectory, trajectory.states[0].size * size // groups):
        leads = leads | (blocks(some) != 0).any(axis=(0, 1))
    leads = dense_blocks(leads).astype(np.float32)
    sets, which = _sets(acting)
    grown = sets
    for _ in range(size if depth is None else depth - 1):
        sets, grown = grown, grown | (leads @ grown > 0)
        if (sets == grown).all():
            break
    return grown[:, which]


def _sets(acting):
    """The columns that there are, each once, (m, sets); and which of them each column is, (P,)."""
    bits = np.ascontiguousarray(np.packbits(acting, axis=0).T)
    _, first, which = np.unique(bits.view(f"V{bits.shape[1]}")[:, 0], return_index=True, return_inverse=True)
    return acting[:, first], which


def _parts(acting):
    """Parameters that act on as many components, as many on the same ones."""
    found = defaultdict(list)
    sets, which = _sets(acting)
    for i, on in enumerate(sets.T):
        rows, columns = np.flatnonzero(on), np.flatnonzero(which == i)
        if len(rows):
            found[len(rows), len(columns)].append((rows, columns))
    return [_Part(*map(np.array, zip(*alike, strict=True))) for alike in found.values()]


def _colours(acting):
    """A colour for each component, (m,), such that no parameter acts on two of one colour."""
    sets = _sets(acting)[0].astype(np.float32)
    clash, colours = sets @ sets.T > 0, np.full(len(sets), -1)
    for i, others in enumerate(clash):
        taken = set(colours[others])
        colours[i] = next(c for c in range(len(sets)) if c not in taken)
    return colours

"""Which components of the state each parameter acts on: at once, and through steps.

At once means through one step at a fixed state before. What acts on what is found on the run itself, at all
of its positions: nothing is left out that is ever other than zero.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import chain, pairwise

import numpy as np

from gradsim import Cell
from gradsim.numerics.blocks import dense_blocks
from gradsim.types import Array, Params, StepData

_NUMBERS = 2**18
"""Numbers of one kind that are made at a time."""

_ALIKE = 1e-6
"""How far two ratios may differ that are the same but for rounding."""


def in_a_row(params, lead=0):
    """Named arrays (*lead, *param), side by side: (*lead, P)."""
    return np.concatenate([p.reshape(*p.shape[:lead], -1) for p in params.values()], axis=-1)


@dataclass(frozen=True, eq=False)
class Acting:
    """What P parameters act on in one step.

    Components have colours such that no parameter acts on two of one colour. `colours` (m): that of each;
    `at` (colours, P): the component of a colour on which a parameter acts, or -1.
    """

    colours: np.ndarray
    at: np.ndarray

    @classmethod
    def of(cls, trajectory):
        """As found at the positions of a trajectory."""
        rng, positions = np.random.default_rng(0), _Positions.of(trajectory)
        blocks = np.repeat(np.arange(len(trajectory.cell.blocks)), list(trajectory.cell.blocks.values()))
        found = [positions.one_of(blocks == i, rng) for i in range(blocks[-1] + 1)]
        if all(at is not None for at in found):
            return cls(blocks, np.array(found))
        acting = positions.acting(rng)
        colours = _colours(acting)
        at = np.full((colours.max() + 1, acting.shape[1]), -1)
        for component in range(len(acting)):
            at[colours[component], acting[component]] = component
        return cls(colours, at)

    @property
    def rows(self):
        """Cotangents (colours, m) of all components of a colour together."""
        return np.equal.outer(np.arange(len(self.at)), self.colours)

    def parts(self, leads, depth):
        """Parameters by the components that they reach: rows (u, r), and columns (u, c) of those that do.

        `leads` tells which entries of J, in blocks (g, k, k), are other than zero, and again when there are
        more. In `depth` steps, of which the first is the one that a parameter takes part in, or ever if None.
        """
        first, which = _distinct(self.at)
        found = next(leads)
        groups, k, _ = found.shape
        sets = self.at[:, first]
        group = np.where(sets < 0, -1, sets % groups)
        top = group.max(axis=0)
        if groups > 1 and ((group == top) | (group < 0)).all():  # nothing leads out of a group
            whole = top[:, None] + groups * np.arange(k)
            return _alike([row if t >= 0 else row[:0] for row, t in zip(whole, top, strict=True)], which)
        on = np.zeros((groups * k, len(first)), dtype=bool)
        for row in sets:
            on[row[row >= 0], np.flatnonzero(row >= 0)] = True
        if groups > 1:  # a group, such as a complex number, counts as one component
            on = np.tile(on.reshape(k, groups, -1).any(axis=0), (k, 1))
        if depth != 1:
            on = _grown(on, chain((found,), leads), groups * k if depth is None else depth - 1)
        return _alike([np.flatnonzero(column) for column in on.T], which)


def _grown(on, leads, steps):
    """What is reached in so many more steps."""
    for some in leads:
        grown, matrix = on, dense_blocks(some).astype(np.float32)
        for _ in range(steps):
            before, grown = grown, grown | (matrix @ grown > 0)
            if (before == grown).all():
                break
        if (grown | ~on.any(axis=0)).all():
            break
    return grown


def _alike(reached, which):
    """Rows and columns of the sets that are reached, alike ones together; `which` (P): the set of each."""
    sets, found = {}, defaultdict(list)
    number = np.array([sets.setdefault(rows.tobytes(), len(sets)) for rows in reached])[which]
    order, ends = np.argsort(number, kind="stable"), np.cumsum(np.bincount(number, minlength=len(sets)))
    for rows, (start, stop) in zip(sets, pairwise((0, *ends)), strict=True):
        if rows:
            there = np.frombuffer(rows, dtype=np.int64)
            found[len(there), stop - start].append((there, order[start:stop]))
    return [tuple(map(np.array, zip(*parts, strict=True))) for parts in found.values()]


def _distinct(at):
    """The first of each kind of column, and of which kind every column is."""
    bits = np.ascontiguousarray(at.T)
    _, first, which = np.unique(
        bits.view(f"V{bits.itemsize * bits.shape[1]}")[:, 0], return_index=True, return_inverse=True
    )
    return first, which


def _colours(acting):
    """A colour for each component, (m,), such that no parameter acts on two of one colour."""
    sets = acting[:, _distinct(acting)[0]].astype(np.float32)
    clash, colours = sets @ sets.T > 0, np.full(len(sets), -1)
    for i, others in enumerate(clash):
        taken = set(colours[others])
        colours[i] = next(c for c in range(len(sets)) if c not in taken)
    return colours


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

    def pulled(self, rows, some=slice(None)):
        """Cotangents (..., positions, m) pulled back to the parameters, (..., P), summed over positions."""
        lead = rows.shape[:-2]

        def alike(x):
            return np.broadcast_to(x[some], (*lead, *x[some].shape))

        data = {n: alike(x) for n, x in self.data.items()}
        found = self.cell.params_vjp(self.params, alike(self.state), alike(self.inputs), rows, **data)
        return in_a_row({n: found[n] for n in self.params}, len(lead))

    def one_of(self, block, rng):
        """The component (P,) of a block that each parameter acts on, or -1; None if one acts on two.

        Pulled back with known weights, one component makes what it makes with ones, times its weight; more
        than one do that for no weight of theirs, but by chance.
        """
        count, m = self.state.shape
        by_position = rng.uniform(1, 2, count)  # with these no two positions add up to nothing
        known, other = rng.uniform(1, 2, (2, m))
        ones, first, second = (
            self.pulled(np.multiply.outer(by_position, block * w)) for w in (np.ones(m), known, other)
        )
        ratio = np.divide(first, ones, out=np.ones_like(ones), where=ones != 0)
        places = np.flatnonzero(block)
        places = places[np.argsort(known[places])]
        between = (known[places][1:] + known[places][:-1]) / 2
        found = places[np.searchsorted(between, ratio)]
        allowed = _ALIKE * np.abs(ones)
        right = all(
            (np.abs(x - w[found] * ones) <= allowed).all() for x, w in ((first, known), (second, other))
        )
        return np.where(ones != 0, found, -1) if right else None

    def acting(self, rng):
        """Where I is not zero at each of them, (m, P)."""
        count, m = self.state.shape
        length, found = max(1, _NUMBERS // m**2), False
        for start in range(0, count, length):
            some = slice(start, start + length)
            weight = rng.uniform(1, 2, (len(self.state[some]), 1))
            found = found | (self.pulled(np.eye(m)[:, None] * weight, some) != 0)
        return found

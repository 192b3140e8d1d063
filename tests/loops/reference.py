"""A run by plain loops over steps, sources and parameters, with dense Jacobians; nothing of gradsim is used.

States and derivatives are float64. What is multiplied and added up of them is in extended precision, whose
range is wide enough for any product here; Lyapunov exponents are of exact integer products.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from loops.plain import Plain, by_params, by_state

WIDE = np.longdouble
EPS = np.finfo(float).eps


@dataclass
class Given:
    """What decides a run: as the program was given it, in float64."""

    cell: Plain
    params: dict[str, np.ndarray]
    readout: dict[str, np.ndarray]
    inputs: np.ndarray
    first: np.ndarray
    data: dict[str, np.ndarray]
    loss: Any = None
    targets: np.ndarray | None = None
    weights: np.ndarray | None = None
    acts: Sequence[Any] = ()
    draws: Any = None
    blocks: dict[str, slice] = field(default_factory=dict)
    recurrent: tuple[str, ...] = ()


def norm(x, axes):
    return np.sqrt((x * x).sum(axis=axes))


def log10(x):
    with np.errstate(divide="ignore"):
        return np.log10(x)


@dataclass
class Raw:
    """The dynamics itself: states, losses and their derivatives, step Jacobians."""

    given: Given
    states: np.ndarray = field(init=False)
    losses: np.ndarray = field(init=False)
    jacobians: np.ndarray = field(init=False)

    def __post_init__(self):
        g = self.given
        self.steps, self.batch = g.inputs.shape[:2]
        states = [np.broadcast_to(g.first, (self.batch, g.cell.size))]
        for t in range(self.steps):
            here = {n: x[t] for n, x in g.data.items()}
            states.append(g.cell.step(g.params, states[-1], g.inputs[t], here))
        self.states = np.array(states)
        self.jacobians = self.jacobians_at(g.params, self.states[:-1])
        self.immediate = by_params(lambda p: self.step_of(p, self.states[:-1]), g.params)
        self.by_inputs = by_state(lambda x: g.cell.step(g.params, self.states[:-1], x, g.data), g.inputs)
        self._read()

    def step_of(self, params, before):
        return self.given.cell.step(params, before, self.given.inputs, self.given.data)

    def jacobians_at(self, params, before):
        """(step, batch, m, m)."""
        return by_state(lambda s: self.step_of(params, s), before)

    def opened(self, paths):
        """Step Jacobians where these paths alone are open beside the direct one."""
        g = self.given
        data = g.data | {"closed": {*g.cell.paths} - {*paths}}
        return by_state(lambda s: g.cell.step(g.params, s, g.inputs, data), self.states[:-1])

    @cached_property
    def shares(self):
        """What opening each path adds to the step Jacobians with those before it open, by path."""
        paths = self.given.cell.paths
        made = [self.opened(paths[:i]) for i in range(len(paths) + 1)]
        return dict(zip(("direct", *paths), [made[0], *np.diff(made, axis=0)], strict=True))

    def _read(self):
        """Losses (step, batch), q_t (time, batch, m), and what readout and output add to gradients."""
        g = self.given
        after = self.states[1:]
        seen = g.cell.seen(g.params, after, g.inputs)
        self.direct = np.zeros(self.states.shape)
        shapes = {n: p.shape for n, p in {**g.params, **g.readout}.items()}
        self.read_by_batch = {n: np.zeros((self.steps, self.batch, *shape)) for n, shape in shapes.items()}
        self.read_sizes_by_batch = {n: x.copy() for n, x in self.read_by_batch.items()}
        slopes = np.zeros(seen.shape)  # of what is seen
        self.losses = np.zeros((self.steps, self.batch))
        if g.loss is None:
            self.losses[-1] = seen[-1].sum(-1)
            slopes[-1] = 1 / self.batch
        else:
            said = seen
            if g.readout:
                said = seen @ g.readout["readout_W"].T + g.readout["readout_b"]
            value, slope = g.loss(said, g.targets)
            self.losses = g.weights * value
            slopes = slope * g.weights[..., None] / self.batch
            if g.readout:
                each = self.read_by_batch, self.read_sizes_by_batch
                for found, s, x in zip(each, (slopes, abs(slopes)), (seen, abs(seen)), strict=True):
                    found["readout_W"] += np.einsum("tbo,tbf->tbof", s, x)
                    found["readout_b"] += s
                slopes = slopes @ g.readout["readout_W"]
        by_after = by_state(lambda s: g.cell.seen(g.params, s, g.inputs), after)
        self.direct[1:] = np.einsum("tbf,tbfm->tbm", slopes, by_after)
        for n, d in by_params(lambda p: g.cell.seen(p, after, g.inputs), g.params).items():
            self.read_by_batch[n] += np.einsum("tbf,tbf...->tb...", slopes, d)
            self.read_sizes_by_batch[n] += np.einsum("tbf,tbf...->tb...", abs(slopes), abs(d))
        self.read = {n: x.sum(axis=1) for n, x in self.read_by_batch.items()}
        self.read_sizes = {n: x.sum(axis=1) for n, x in self.read_sizes_by_batch.items()}
        by_inputs = by_state(lambda x: g.cell.seen(g.params, after, x), g.inputs)
        self.direct_inputs = np.einsum("tbf,tbfi->tbi", slopes, by_inputs)

    @property
    def loss(self):
        return self.losses.sum() / self.batch


@dataclass
class Flow:
    """A way back: raw, or as changed by what acts."""

    raw: Raw
    effective: bool

    def __post_init__(self):
        r = self.raw
        self.acts = r.given.acts if self.effective else ()
        self.jacobians, self.reach = r.jacobians, np.zeros(r.steps, dtype=int)
        for act in self.acts:
            if act.jacobians:
                self.jacobians, self.reach = act.jacobians(r, self.jacobians, self.reach)
        self.earliest = np.append(0, self.reach)  # by time
        self.wide = self.jacobians.astype(WIDE)

    # Products.

    def products(self, pairs):
        """{(t, k): P(t, k) (batch, m, m)}; zero where the loss at t does not reach k."""
        m, found = self.raw.given.cell.size, {}
        longest = {}
        for t, k in pairs:
            longest[k] = max(t, longest.get(k, k))
        wanted = set(pairs)
        for k, end in longest.items():
            product = np.broadcast_to(np.eye(m, dtype=WIDE), (self.raw.batch, m, m))
            for t in range(k, end + 1):
                if t > k:
                    product = self.wide[t - 1] @ product
                if (t, k) in wanted:
                    found[t, k] = product * (k >= self.earliest[t])
        return found

    @property
    def shown(self):
        """Step Jacobians, zero where not even the loss at the same step passes."""
        passes = self.reach < np.arange(1, self.raw.steps + 1)
        return self.jacobians * passes[:, None, None, None]

    def exponents(self, shown):
        """(batch, m), decreasing, of the step Jacobians that the run has shown, in blocks (..., g, k, k).

        Beside them, how far they are off where each entry is off by a rounding.
        """
        shape = self.raw.batch, self.raw.given.cell.size
        if self.reach[-1] > 0:
            return np.full(shape, -np.inf), np.zeros(shape)

        def found(shown):
            each = [
                exact_exponents(x)
                for x in np.moveaxis(shown, 0, 2).reshape(-1, len(shown), *shown.shape[-2:])
            ]
            return -np.sort(-np.array(each).reshape(shape), axis=-1)

        values = found(shown)
        if np.linalg.cond(shown.astype(float)).max() < 1e6:
            return values, np.zeros(shape)
        signs = np.random.default_rng(0).choice([-1, 1], shown.shape)
        with np.errstate(invalid="ignore"):
            return values, np.nan_to_num(abs(found(shown * (1 + EPS * signs)) - values), posinf=1.0)

    # The way back.

    def go(self, penalty_by_state=None):
        """Adjoints (time, batch, m) and factors (time, batch)."""
        r = self.raw
        direct = r.direct.astype(WIDE)
        if penalty_by_state is not None:
            direct = direct + penalty_by_state
        change = [act.adjoint for act in self.acts if act.adjoint]
        adjoints, factors = np.zeros_like(direct), np.ones(direct.shape[:2], dtype=WIDE)
        windows: dict[int, np.ndarray] = {}
        for t in range(r.steps, -1, -1):
            windows = {reach: w for reach, w in windows.items() if reach <= t}
            if direct[t].any():
                windows[self.earliest[t]] = windows.get(self.earliest[t], 0) + direct[t]
            if change:
                windows = windows or {self.earliest[t]: 0 * direct[t]}
                before = sum(windows.values())
                for act in change:
                    windows = {reach: act(w, t, r.steps) for reach, w in windows.items()}
                after = sum(windows.values())
                over, under = norm(after, -1), norm(before, -1)
                factors[t] = np.divide(over, under, out=np.ones_like(over), where=under > 0)
            adjoints[t] = sum(windows.values(), 0 * direct[t])
            if t:
                windows = {k: np.einsum("bi,bij->bj", w, self.wide[t - 1]) for k, w in windows.items()}
        return adjoints, factors


def contributions(adjoints, immediate, read):
    """{name: (step, *param)} of adjoints at all times, or of their sizes."""
    found = {n: x.astype(WIDE) for n, x in read.items()}
    for n, x in immediate.items():
        added = np.einsum("tbm,tbmp->tp", adjoints[1:], x.reshape(*x.shape[:3], -1))
        found[n] = found[n] + added.reshape(found[n].shape)
    return found


def sizes(arrays):
    """Of all components, by step and batch element, with a share of what they are anywhere.

    Slopes of saturated units are differences of near numbers: 1 - tanh^2 is known beside 1.
    """
    return {n: abs(x) + 1e-3 * abs(x).max(axis=(0, 1)) for n, x in arrays.items()}


def exact_exponents(jacobians):
    """ln |R_ii| / T of P(T, 0) = Q R, (m,), with R from determinants of integers that are exact."""
    steps, m = jacobians.shape[:2]
    product, power = [[int(i == j) for j in range(m)] for i in range(m)], 0
    for jacobian in jacobians:
        parts = [[Fraction(float(x)) for x in row] for row in jacobian]
        scale = max(f.denominator for row in parts for f in row)
        whole = [[int(f * scale) for f in row] for row in parts]
        product = [[sum(whole[i][k] * product[k][j] for k in range(m)) for j in range(m)] for i in range(m)]
        power += scale.bit_length() - 1
    gram = [[sum(product[k][i] * product[k][j] for k in range(m)) for j in range(m)] for i in range(m)]
    found, last = [], 1
    for minor in _minors(gram):
        found.append((_log(minor) - _log(last)) / 2 - power * math.log(2) if minor else -math.inf)
        last = minor or last
    return np.array(found) / steps


def _minors(matrix):
    """Determinants of the upper left corners of a Gram matrix of integers (Bareiss 1968).

    0 for a column that depends on those before; the next ones go on without it.
    """
    rows, last = [row[:] for row in matrix], 1
    for i in range(len(rows)):
        pivot = rows[i][i]
        yield pivot
        if pivot:
            for j in range(i + 1, len(rows)):
                for k in range(i + 1, len(rows)):
                    rows[j][k] = (rows[j][k] * pivot - rows[j][i] * rows[i][k]) // last
            last = pivot


def _log(n):
    """Natural logarithm of a positive integer of any size."""
    shift = max(0, n.bit_length() - 900)
    return math.log(n >> shift) + shift * math.log(2)

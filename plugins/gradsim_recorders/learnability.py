"""Recorders of the learnability envelope: what gets from each unit to the same unit, by pairs of times."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal

import numpy as np

from gradsim import Recorder
from gradsim.contracts.pieces import Forward, Products
from gradsim.engine.segments import jacobian_length, jacobian_steps
from gradsim.numerics import autodiff
from gradsim.numerics.scaled import Scaled
from gradsim_recorders.paths import traced_jacobian
from gradsim_recorders.ranged import both, sized


class _Envelope(Recorder):
    """One number for each pair of times and of blocks."""

    def dims(self, problem):
        out, into = problem.product_blocks
        return {"to_block": list(out), "from_block": list(into)}

    def variables(self, problem):
        dims = (*problem.pair_dims, "batch", "to_block", "from_block")
        return sized(self.name, dims, self.long_name)


class LearnabilityEnvelopeRecorder(_Envelope):
    """The learnability envelope: the sum over units of |ds_t/ds_k| from each unit to itself, and its log10.

    mu_q = P(t, k)_qq is the effective learning rate of unit q at lag t - k, here with all ways in between
    through other units, and the envelope is ||mu||_1. Its mean at each lag is f(lag), as by
    ``analysis.by_lag(ds, "learnability_envelope").mean(("source", "batch"))``. To learn a lag takes a number
    of samples in proportion to f^(-a / (a - 1)), where the noise of gradients has the tail index a. The rate
    of the optimizer is left out: it multiplies f, or each mu_q where units have rates of their own.

    From and to each block of the state, so that of an LSTM there is dh_t/dc_k, too; NaN between blocks of
    different sizes. `learnability_envelope_diagonal` is what the paper takes in its place.

    Livi (2025), Learnability window in gated recurrent neural networks, arXiv 2512.05790. Known here by its
    abstract and by the code that goes with it, where this is the reference; the text was not at hand.
    """

    name = "learnability_envelope"
    long_name = "sum over units of |ds_t/ds_k| from a unit to itself"
    stream = Products

    def compute(self, piece):
        p, product = piece.problem, piece.product.common((2, 3, 4))
        pairs = _pairs(p, *p.product_blocks, *p.product_rows)
        parts = [Scaled(pair.of(product.mantissa), product.exponent) for pair in pairs]
        return both(self.name, _sums(pairs, parts, p.product_blocks, product.mantissa.shape[:2]))

    def flops(self, problem):
        return 2.0 * problem.pair_count * problem.batch * problem.cell.state_size


@dataclass(frozen=True, eq=False)
class LearnabilityEnvelopeDiagonalRecorder(_Envelope):
    """The envelope of `learnability_envelope` without ways through other units, approximated by diagonals.

    D_t is the diagonal of J_t where the direct path alone is open, such as the gate that keeps h, and R_t the
    rest of the diagonal of J_t. To first order, mu is the product of all D from k to t plus, for each step in
    between, that product with R in place of D at this step. Of blocks with as many units, such as h and c of
    an LSTM, D and R hold what leads from each unit to itself in any of them: small matrices, unit by unit. A
    cell without paths has the whole diagonal in D.

    Parameters
    ----------
    terms
        "first_order", as above and in the paper; "gates", the product of D alone; "diagonal", that of D + R,
        which is exact for cells whose units do not see each other.

    Livi (2025), see `learnability_envelope`. In the code that goes with the paper the product of gates of a
    GRU is that of 1 - z plus those of r and of (1 - z) r, which lie on no diagonal and are left out here. Of
    an LSTM it has what leads from c to h, with c_k also as it is seen through h_k, and no slope of the last
    output gate.
    """

    name = "learnability_envelope_diagonal"
    long_name = "sum over units of |ds_t/ds_k| from a unit to itself by diagonals alone"
    stream = Forward
    twin = False

    terms: Literal["first_order", "gates", "diagonal"] = "first_order"

    def start(self, problem):
        return _Window(problem, orders=2 if self.terms == "first_order" else 1)

    def compute(self, piece, carry):
        taken = piece.trajectory
        if taken.first == 1:
            carry.arrive(0)
        for steps in jacobian_steps(taken.steps, carry.problem):
            here, cell = taken[steps], taken.cell
            direct = whole = here.call(cell.step_jacobian)
            if cell.paths and self.terms != "diagonal":
                with autodiff.opened(()):
                    direct = here.call(functools.partial(traced_jacobian, cell))
            for t, one, all_of in zip(steps, direct, whole, strict=True):
                carry.advance(t, one, all_of - one)
                carry.arrive(t)
        return {}

    def finish(self, carry):
        return both(self.name, carry.found)

    def carry_bytes(self, problem):
        sizes = list(problem.cell.blocks.values())
        entries = sum(n * sizes.count(n) for n in sizes)
        window = min(len(problem.resolved[1]), problem.lags + 1) * problem.batch * entries
        jacobians = jacobian_length(problem) * problem.batch * problem.cell.state_size * problem.block
        made = 3 * jacobians * problem.dtype.itemsize  # direct, whole, and on the way to these
        return made + 8 * _COPIES * window + sum(v.bytes(problem) for v in self.variables(problem))


_COPIES = 8
"""Arrays like the window, of one order, that a step takes."""


class _Window:
    """Products of diagonals from all sources on their way, (source, order, batch, to, from, unit)."""

    def __init__(self, problem, orders):
        names, rows = tuple(problem.cell.blocks), np.arange(problem.block)
        self.problem, self.blocks = problem, (names, names)
        self.pairs = _pairs(problem, names, names, rows, rows)
        self.chosen = np.ix_(*([names.index(n) for n in side] for side in problem.product_blocks))
        times, self.sources = problem.resolved
        self.rows = {int(t): i for i, t in enumerate(times)}
        self.low = self.high = 0
        self.begun = [pair.identity(orders, problem.batch) for pair in self.pairs]
        self.parts = [part[:0] for part in self.begun]
        sides = map(len, problem.product_blocks)
        shape = *(problem.sizes()[d] for d in problem.pair_dims), problem.batch, *sides
        self.found = Scaled(np.full(shape, np.nan), np.zeros(shape, dtype=np.int32))

    def advance(self, t, direct, rest):
        """Take the step to time t, blocks (batch, g, k, k), with all that is not at its longest lag yet."""
        first = self.low
        while self.low < self.high and self.problem.ends[self.low] < t:
            self.low += 1
        for i, pair in enumerate(self.pairs):
            part = self.parts[i][self.low - first :]
            new = _times(pair.of(direct), part.mantissa)
            if new.shape[1] == 2:
                new[:, 1] += _times(pair.of(rest), part.mantissa[:, 0])
            self.parts[i] = Scaled(new, part.exponent).settled((1, 3, 4))

    def arrive(self, t):
        """Begin at time t, if it is a source, and keep what is recorded of it."""
        if self.high < len(self.sources) and self.sources[self.high] == t:
            self.high += 1
            self.parts = [_joined(*parts) for parts in zip(self.parts, self.begun, strict=True)]
        if t not in self.rows or self.low == self.high:
            return
        whole = [Scaled(part.mantissa.sum(axis=1), part.exponent[:, 0]) for part in self.parts]
        at = np.arange(self.low, self.high)
        sums = _sums(self.pairs, whole, self.blocks, (len(at), self.problem.batch))[(..., *self.chosen)]
        if self.problem.pair_dims[1] == "lag":
            lags = self.problem.lag_rows[t - self.sources[at]]
            self.found[at[lags >= 0], lags[lags >= 0]] = sums[lags >= 0]
        else:
            self.found[self.rows[t], at] = sums


class _Pairs:
    """Pairs of blocks with as many units: what leads from a unit to itself, (..., to, from, unit)."""

    def __init__(self, problem, out, into, rows, columns):
        self.names, g = (out, into), problem.groups
        components = np.arange(problem.cell.state_size)
        to = np.array([components[problem.cell.block(n)] for n in out])[:, None]
        source = np.array([components[problem.cell.block(n)] for n in into])
        self.inside = to % g == source % g
        # Row i of group j is component i g + j.
        self.entries = to % g, np.searchsorted(rows, to // g), np.searchsorted(columns, source // g)

    def of(self, blocks):
        """Of step Jacobians or products (..., g, rows, columns)."""
        return np.where(self.inside, blocks[(..., *self.entries)], 0.0)

    def identity(self, orders, batch):
        """Before the first step, (1, order, batch, to, from, unit)."""
        count, _, units = self.inside.shape
        start = np.zeros((1, orders, batch, count, count, units))
        start[:, 0] = np.eye(count)[:, :, None]
        return Scaled(start, np.zeros((1, 1, batch, 1, 1, units), dtype=np.int32))


def _pairs(problem, out, into, rows, columns):
    """All pairs of these blocks, by the number of units."""
    sizes = problem.cell.blocks
    alike = [
        ([n for n in out if sizes[n] == k], [n for n in into if sizes[n] == k]) for k in {*sizes.values()}
    ]
    return [_Pairs(problem, *names, rows, columns) for names in alike if all(names)]


def _times(one, other):
    """Small matrices side by side along the last axis, (..., to, from, unit), multiplied."""
    return (one[..., :, :, None, :] * other[..., None, :, :, :]).sum(axis=-3)


def _joined(*parts):
    return Scaled(*(np.concatenate([getattr(p, x) for p in parts]) for x in ("mantissa", "exponent")))


def _sums(pairs, parts, blocks, lead):
    """The sums of sizes over units, (..., to_block, from_block), NaN between blocks of different sizes."""
    shape = *lead, *map(len, blocks)
    found = Scaled(np.full(shape, np.nan), np.zeros(shape, dtype=np.int32))
    for pair, part in zip(pairs, parts, strict=True):
        place = np.ix_(
            *([side.index(n) for n in names] for side, names in zip(blocks, pair.names, strict=True))
        )
        sizes = Scaled(np.abs(part.mantissa), part.exponent).common(-1)
        found[(..., *place)] = Scaled(sizes.mantissa.sum(axis=-1), sizes.exponent[..., 0])
    return found

"""Runs by gradsim held against plain loops, variable by variable."""

from __future__ import annotations

import contextlib
import os
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from loops.drawing import LOSSES, Configuration
from loops.recorders import AdjointGap, SumSoFar
from loops.reference import WIDE, Flow, Given, Raw, contributions, log10, norm, sizes
from probes.recorders import InputGradient, LargestState

import gradsim
from gradsim.contracts import registry
from gradsim.engine import layout, segments
from gradsim.errors import NonFiniteError, OutOfRangeWarning

TOLERANCE = {"float64": 1e-9, "float32": 2e-3}
"""Largest deviation that is allowed, of a vector or matrix relative to its largest component.

In float32 states are off by rounding, which the dynamics may make a thousand times larger.
"""

DIFFERENCES = 1e-7
"""The same where the reference takes differences of near numbers, as for penalties on Jacobians."""

EXPONENTS = {"float64": 1e-7, "float32": 0.1}
"""The same for Lyapunov exponents, each by what it is beside the leading one; 1e-8 is promised of its own.

In float32 step Jacobians are off, and the smallest directions are made of what is left of large ones.
"""


@dataclass
class Table:
    """Values compared and the largest deviation, by dtype and variable."""

    values: dict[tuple[str, str], int] = field(default_factory=dict)
    worst: dict[tuple[str, str], float] = field(default_factory=dict)
    where: dict[tuple[str, str], int] = field(default_factory=dict)
    variables: int = 0
    runs: int = 0
    refused: int = 0

    def add(self, dtype: str, name: str, count: int, deviation: float, number: int) -> None:
        at = dtype, name
        self.values[at] = self.values.get(at, 0) + count
        self.variables += 1
        if not deviation <= self.worst.get(at, -1.0):
            self.worst[at], self.where[at] = deviation, number

    def __str__(self):
        names = sorted({name for _, name in self.values})
        lines = [f"{'variable':34}{'float64: values':>16}{'largest':>10}{'in':>5}{'float32: values':>18}"]
        lines[0] += f"{'largest':>10}{'in':>5}"
        for name in names:
            line = f"{name:34}"
            for dtype, width in (("float64", 16), ("float32", 18)):
                at = dtype, name
                line += f"{self.values.get(at, 0):{width},}"
                line += f"{self.worst[at]:10.1e}{self.where[at]:5}" if at in self.values else f"{'':15}"
            lines.append(line)
        total = f"{self.runs} runs, {self.variables:,} variables, {sum(self.values.values()):,} values"
        return "\n".join([*lines, f"{total}; {self.refused} runs refused by name"])


# The run.


ELSEWHERE = (
    *("path_jacobian", "path_norm", "path_product_norm", "gate"),
    *("block_norm", "input_adjoint", "gradient_norm_by_sequence", "parallelizability", "leading_lyapunov"),
    *("influence", "learnability_envelope", "learnability_envelope_diagonal"),
)
"""Recorders that have loops of their own in tests/plugins; most cells here have no paths."""


def held() -> list[Any]:
    """The shipped recorders that are held against plain loops here."""
    return [r for n, r in registry.catalogue().plugins["recorders"].items() if n not in ELSEWHERE]


def recorded(config: Configuration) -> list[Any]:
    """Every recorder that exists for this run."""
    shipped = held()
    raw = [r for r in (*shipped, InputGradient, LargestState, SumSoFar) if r.raw]
    twins = [r for r in (*shipped, InputGradient, SumSoFar) if r.twin and not r.both]
    rule, changed = any(a.rule for a in config.acts), any(a.adjoint for a in config.acts)
    if rule:
        twins = [r for r in twins if r.name.startswith("gradient")]
    elif changed:
        back = ("adjoint", "contribution", "gradient", "input_gradient", "loops_sum")
        twins = [r for r in twins if r.name.startswith(back)]
    both = [] if rule else [AdjointGap()]
    return [*(r() for r in raw), *(r(effective=True) for r in twins), *both]


@contextlib.contextmanager
def machine(config: Configuration) -> Iterator[None]:
    """With or without compiled kernels; as gradsim cuts a run, or in small pieces."""
    with contextlib.ExitStack() as stack:
        compiled = {"GRADSIM_COMPILED": "1" if config.compiled else "0"}
        stack.enter_context(mock.patch.dict(os.environ, compiled))
        if config.cut:
            one = config.batch * config.plain.size**2 * np.dtype(config.dtype).itemsize
            cuts = {"_STATE_BYTES": 1, "_JACOBIAN_BYTES": 3 * one}
            stack.enter_context(mock.patch.multiple(segments, **cuts))
            tiles = {"_TILE_BYTES": 3 * one, "_JOBS": 64, "_WRITTEN_BYTES": 5 * one, "_CHAIN_BYTES": one}
            stack.enter_context(mock.patch.multiple(layout, **tiles))
        yield


def run(config: Configuration):
    """(setup, dataset) of a run as it is configured."""
    arguments = config.arguments | {"pairs": config.pairs, "record": recorded(config)}
    if config.first is not None:
        arguments["initial_state"] = config.first
    prepared = gradsim.prepare(config.cell, **arguments, in_memory=not config.stored)
    memory = None if config.room is None else prepared.plan.memory_bytes + config.room
    more = {"threads": config.threads, "memory": memory}
    with tempfile.TemporaryDirectory() as folder:
        if config.stored:
            more["store"] = Path(folder) / "run"
        ds = gradsim.simulate(config.cell, **arguments, **more)
        if config.stored:
            ds.close()
            ds = gradsim.open_run(Path(folder) / "run")
        ds.load()
        ds.close()
    return prepared.setup, ds


def given(config: Configuration, setup) -> Given:
    """What the plain loops start from: what was drawn, rounded to the dtype of the run."""
    index = np.broadcast_to(np.arange(1, config.steps + 1)[:, None], (config.steps, config.batch))
    drawn = {n: np.asarray(x, dtype=float) for n, x in setup.step_data.items() if n != "step_index"}
    first = config.plain.start() if config.first is None else config.first
    rounded = lambda x: np.asarray(x).astype(config.dtype).astype(float)
    params = {n: rounded(p) for n, p in setup.params.items()}
    for act in config.acts:
        if act.params:
            act.params(params, config.cell.recurrent_weights)
    task = config.task
    return Given(
        config.plain,
        params,
        {n: rounded(p) for n, p in setup.readout.items()},
        rounded(config.inputs),
        rounded(first),
        {"step_index": index, **drawn},
        LOSSES[task.kind] if task else None,
        task.episode.targets if task else None,
        task.episode.weights if task else None,
        config.acts,
    )


# What every variable should be: values, the axes of one vector or matrix, what kind of number it is.


@dataclass
class Expected:
    """`axes`: those of one vector or matrix, whose components are compared relative to the largest.

    `scale`, of the shape of the values, where sums of large terms may be small: the sizes of the terms.
    """

    values: Any
    axes: tuple[int, ...] = ()
    kind: str = "plain"
    scale: Any = None


def sized(name, values, scale=None):
    logs = Expected(log10(values), kind="log10", scale=None if scale is None else log10(scale))
    return {name: Expected(values, scale=scale), f"{name}_log10": logs}


def expected(config: Configuration, start: Given) -> dict[str, Expected]:
    """By name, for all variables of any recorder."""
    raw = Raw(start)
    found = {
        "state": Expected(raw.states, (2,)),
        "loss": Expected(raw.losses, (0, 1)),
        "largest_state": Expected(abs(raw.states).max(axis=(0, 2))),
    }
    influence = _influence(raw)
    found |= sized("influence_norm", influence, influence.max(axis=(1, 2), keepdims=True))
    one, other = Flow(raw, False), Flow(raw, True)
    adjoints, _ = one.go()
    value, slopes, by_state = _penalty(config, raw, adjoints)
    changed, factors = other.go(by_state)
    found |= _forward(config, one) | _back(config, raw, adjoints, {}, effective=False)
    twins = _forward(config, other) | _back(config, raw, changed, slopes, effective=True)
    twins["adjoint_factor"] = Expected(factors)
    found |= {f"effective_{n}": e for n, e in twins.items()}
    largest = [abs(x).max(axis=2, keepdims=True) for x in (adjoints, changed)]
    found["loops_gap"] = Expected(changed - adjoints, scale=sum(largest) + 0 * adjoints)
    found["attrs loss"] = Expected(raw.loss, scale=abs(raw.losses).sum() / raw.batch)
    found["attrs penalty"] = Expected(value)
    return found


def _penalty(config, raw, adjoints):
    """Value, derivatives by parameter, and by state or None, of all penalties together."""
    value, slopes, by_state = 0.0, {}, None
    for act in config.acts:
        if act.penalty:
            more, by_params, by_own_state = act.penalty(raw, adjoints)
            value += more
            slopes = {n: slopes.get(n, 0) + by_params.get(n, 0) for n in {**slopes, **by_params}}
            if by_own_state is not None:
                by_state = by_own_state if by_state is None else by_state + by_own_state
    return value, slopes, by_state


def _back(config, raw, adjoints, slopes, effective):
    """What is made of adjoints: contributions and the gradient, as the mitigations of an effective run do."""
    acts, fixed = (config.acts, config.plain.fixed) if effective else ((), ())
    found = {"adjoint": Expected(adjoints, (2,)), **sized("adjoint_norm", norm(adjoints, -1))}
    by_inputs, terms = (
        np.einsum("tbm,tbmi->tbi", *pair)
        for pair in ((adjoints[1:], raw.by_inputs), (abs(adjoints[1:]), abs(raw.by_inputs)))
    )
    found["input_gradient"] = Expected(by_inputs, scale=terms)
    parts = contributions(adjoints, raw.immediate, raw.read)
    terms = contributions(abs(adjoints), sizes(raw.immediate), raw.read_sizes)
    kept = {n: p for n, p in parts.items() if n not in fixed}
    for act in acts:
        if act.contributions:
            before, kept = kept, act.contributions(kept)
            for n, part in kept.items():  # the terms are scaled as their sum is
                axes = tuple(range(1, part.ndim))
                sums = [norm(x, axes).reshape(-1, *(1,) * len(axes)) for x in (part, before[n])]
                terms[n] = terms[n] * np.divide(*sums, out=np.ones_like(sums[0]), where=sums[1] > 0)
    parts = {n: kept.get(n, 0 * p) for n, p in parts.items()}
    gradient = {n: p.sum(axis=0) + slopes.get(n, 0) for n, p in kept.items()}
    totals = {n: t.sum(axis=0) + abs(slopes.get(n, 0)) for n, t in terms.items()}
    before = _size(gradient)
    for act in acts:
        if act.gradient:
            gradient = act.gradient(gradient)
    acted = any(act.gradient for act in acts) and before > 0
    factor = _size(gradient) / before if acted else 1.0
    gradient = {n: gradient.get(n, 0 * p[0]) for n, p in parts.items()}
    if effective:
        found["gradient_factor"] = Expected(factor)
    axes = {n: tuple(range(1, p.ndim)) for n, p in parts.items()}
    for n, part in parts.items():
        largest = terms[n].max(axis=axes[n], keepdims=True)
        found[f"contribution_{n}"] = Expected(part, scale=largest + 0 * part)
        found[f"gradient_{n}"] = Expected(gradient[n], scale=factor * totals[n].max() + 0 * gradient[n])
    by_step = [np.stack([norm(x[n], axes[n]) for n in parts], axis=-1) for x in (parts, terms)]
    found |= sized("contribution_norm", *by_step)
    by_param = [np.stack([norm(x[n], tuple(range(x[n].ndim))) for n in parts]) for x in (gradient, totals)]
    found["gradient_norm"] = Expected(by_param[0], scale=factor * by_param[1])
    so_far = [sum(p.reshape(len(p), -1).sum(axis=1) for p in x.values()) for x in (parts, terms)]
    so_far = [np.cumsum(x[::-1])[::-1] for x in so_far]
    found["loops_sum"] = Expected(so_far[0], scale=so_far[1])
    return found


def _size(gradient):
    return np.sqrt(sum((g * g).sum() for g in gradient.values()))


def _forward(config, flow):
    """What is made of step Jacobians."""
    raw, g = flow.raw, config.plain.groups
    index, shape = laid_out(config)
    products = flow.products(list(index.values()))
    m, batch = config.plain.size, raw.batch
    matrices = np.full((*shape, batch, m, m), np.nan, dtype=WIDE)
    rows = np.full((*shape, batch, m), np.nan, dtype=WIDE)
    for at, (t, k) in index.items():
        matrices[at] = products[t, k]
        rows[at] = np.einsum("bi,bij->bj", raw.direct[t].astype(WIDE), products[t, k])
    kept = np.stack([matrices[..., j::g, j::g] for j in range(g)], axis=-3)  # groups of k x k
    steps = np.stack([flow.shown[..., j::g, j::g] for j in range(g)], axis=-3)
    values = _singular_values(kept)
    matrix = (-3, -2, -1) if g > 1 else (-2, -1)
    found = {
        "step_jacobian": Expected(steps if g > 1 else steps[..., 0, :, :], matrix),
        "jacobian_product": Expected(kept if g > 1 else kept[..., 0, :, :], matrix),
        "lyapunov": Expected(flow.exponents, kind="exponents"),
    }
    largest = values.max(axis=(-1, -2))
    found |= sized("product_norm", norm(matrices, (-1, -2)))
    found |= sized("product_spectral_norm", largest)
    found["product_spectrum"] = Expected(values, kind="spectrum")
    found["product_spectrum_log10"] = Expected(values, kind="log10 spectrum")
    return found | sized("loss_adjoint_norm", norm(rows, -1))


def _singular_values(blocks):
    """Of blocks (..., k, k) beyond the range of float64, each over its own power of two."""
    top = abs(blocks).max(axis=(-1, -2), keepdims=True)
    power = np.where(top > 0, np.frexp(np.where(top > 0, top, 1))[1], 0)
    power = np.where(np.isnan(top), 0, power)
    known = ~np.isnan(blocks).any(axis=(-1, -2))
    values = np.full(blocks.shape[:-1], np.nan, dtype=WIDE)
    scaled = np.ldexp(blocks, -power)[known].astype(float)
    values[known] = np.ldexp(np.linalg.svd(scaled, compute_uv=False).astype(WIDE), power[known][..., 0])
    return values


def _influence(raw):
    """(time, batch, param) norms of ds_t/dparams."""
    influence = {n: np.zeros(x[0].shape) for n, x in raw.immediate.items()}
    found = [np.zeros((len(influence), raw.batch))]
    for t in range(raw.steps):
        for n, immediate in raw.immediate.items():
            influence[n] = np.einsum("bij,bj...->bi...", raw.jacobians[t], influence[n]) + immediate[t]
        found.append([norm(x, tuple(range(1, x.ndim))) for x in influence.values()])
    values = np.moveaxis(np.array(found), 1, 2)
    none = np.zeros((*values.shape[:2], len(raw.given.readout)))
    return np.concatenate([values, none], axis=-1)


def laid_out(config):
    """{place: (t, k)} of all recorded products, and the shape of their two dims."""
    last, p = config.steps, config.pairs
    chosen = lambda which: sorted({i % (last + 1) for i in which})
    sources = range(last + 1) if p.sources is None else chosen(p.sources)
    if p.lags is not None or p.max_lag is not None:
        lags = sorted(set(p.lags)) if p.lags is not None else range(min(p.max_lag, last) + 1)
        places = {(i, j): (k + lag, k) for i, k in enumerate(sources) for j, lag in enumerate(lags)}
        return {at: (t, k) for at, (t, k) in places.items() if t <= last}, (len(sources), len(lags))
    times = range(last + 1) if p.times is None else chosen(p.times)
    places = {(i, j): (t, k) for i, t in enumerate(times) for j, k in enumerate(sources)}
    return {at: (t, k) for at, (t, k) in places.items() if t >= k}, (len(times), len(sources))


# Comparison.


def deviation(found, expectation: Expected, dtype: str) -> float:
    """How far off, relative to the largest component of each vector; inf if of another kind of number."""
    values = np.asarray(expectation.values, dtype=WIDE)
    found = np.asarray(found)
    if expectation.kind.endswith("spectrum"):
        return _spectrum_off(found.astype(WIDE), values, dtype, expectation.kind.startswith("log10"))
    if found.shape != values.shape:
        return np.inf
    if not found.size:
        return 0.0
    if expectation.kind == "exponents":
        return _exponents_off(found.astype(WIDE), values)
    if not np.array_equal(np.isnan(found), np.isnan(values)):
        return np.inf
    scale = None if expectation.scale is None else np.asarray(expectation.scale, dtype=WIDE)
    if expectation.kind == "log10":
        return _logs_off(found.astype(WIDE), values, scale)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        values = values.astype(found.dtype)
    infinite, least = np.isinf(values), np.finfo(found.dtype).tiny
    if not np.array_equal(found[infinite], values[infinite]):
        return np.inf
    values, found = (np.where(infinite, 0, x).astype(WIDE) for x in (values, found))
    if scale is None:
        scale = abs(values)
        if expectation.axes:
            scale = np.where(np.isnan(scale), 0, scale).max(axis=expectation.axes, keepdims=True)
    off = abs(found - values) / np.maximum(scale, least)
    return float(np.nanmax(off, initial=0.0))


def _logs_off(found, values, scale):
    """Relative deviations of what these are the logarithms of."""
    there = np.isfinite(values)
    infinite = np.isinf(values)
    if not np.array_equal(found[infinite], values[infinite]):
        return np.inf
    top = values if scale is None else np.maximum(values, scale)
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        off = np.where(there, abs(10 ** (found - top) - 10 ** (values - top)), 0)
    return float(off.max())


def _spectrum_off(found, values, dtype, logs):
    """Of all singular values (..., g, k), decreasing: relative to the largest.

    A dense product does not resolve what lies below its size times eps times the largest value of its block,
    and says NaN. What is up to 64 times that may be NaN or noise; so may zero, which rounding moves there.
    """
    if found.shape != (*values.shape[:-2], values.shape[-2] * values.shape[-1]):
        return np.inf
    floor = values.shape[-1] * np.finfo(dtype).eps * values[..., :1]
    sure = -np.sort(-np.where(values < 64 * floor, np.nan, values).reshape(found.shape), axis=-1)
    largest = np.broadcast_to(values.max(axis=(-1, -2))[..., None], found.shape)
    noise = 64 * floor.max(axis=-2)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
        plain = 10**found if logs else np.where(np.isinf(found) & (sure > np.finfo(float).max), sure, found)
        none = (largest == 0) | np.isnan(largest)
        if not np.array_equal(np.where(none, plain, 0), np.where(none, largest, 0), equal_nan=True):
            return np.inf
        if not (none | ~np.isnan(sure) | np.isnan(plain) | (plain <= noise)).all():
            return np.inf
        off = abs(plain - sure) / np.maximum(largest, np.finfo(float).tiny)
    return np.inf if np.isnan(plain[~np.isnan(sure) & ~none]).any() else float(np.nanmax(off, initial=0.0))


def _exponents_off(found, values):
    """Of directions that are annihilated -inf; the others by what they are beside the largest."""
    none = np.isneginf(values)
    if not np.isneginf(found[none]).all():
        return np.inf
    with np.errstate(invalid="ignore"):
        off = np.where(none, 0, abs(found - values) * np.exp(values - values[:, :1]))
    return float(off.max())


def compare(config: Configuration, table: Table) -> list[str]:
    """Run, add to the table, and say what is off."""
    with machine(config), warnings.catch_warnings():
        warnings.simplefilter("ignore", OutOfRangeWarning)
        try:
            setup, ds = run(config)
        except NonFiniteError as error:  # its range is that of the dtype
            table.runs, table.refused = table.runs + 1, table.refused + 1
            return [] if config.extreme else [f"{config}: {error}"]
        except Exception as error:
            table.runs += 1
            return [f"{type(error).__name__}: {error} in {config}"]
    start = given(config, setup)
    with np.errstate(all="ignore"):
        wanted = expected(config, start)
    inexact = any(not act.exact for act in config.acts)
    problems = []
    measured = {n: v.values for n, v in ds.data_vars.items()}
    measured |= {f"attrs {n}": np.float64(ds.attrs[n]) for n in ("loss", "penalty") if n in ds.attrs}
    for name, found in measured.items():
        off = deviation(found, wanted[name], config.dtype)
        general = name
        for param in (*start.params, *start.readout):
            for stem in ("contribution", "gradient"):
                if name.removeprefix("effective_") == f"{stem}_{param}":
                    general = name.removesuffix(param) + "*"
        table.add(config.dtype, general, found.size, off, config.number)
        limit = TOLERANCE[config.dtype]
        if inexact and name.startswith(("effective", "loops_gap", "attrs")):
            limit = max(limit, DIFFERENCES)
        if name.endswith("lyapunov"):
            limit = max(limit, EXPONENTS[config.dtype])
        if not off <= limit:
            problems.append(f"{name} off by {off:.1e} in {config}")
    table.runs += 1
    return problems

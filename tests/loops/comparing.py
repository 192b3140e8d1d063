"""Runs by gradsim held against plain loops, variable by variable."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field

import numpy as np
from loops.drawing import Configuration
from loops.expecting import Expected, expected
from loops.reference import WIDE
from loops.running import given, machine, run

from gradsim.errors import NonFiniteError, OutOfRangeWarning

TOLERANCE = {"float64": 1e-9, "float32": 1e-2}
"""Largest deviation that is allowed, of a vector or matrix relative to its largest component.

In float32 states are off by rounding, which the dynamics may make ten thousand times larger.
"""

DIFFERENCES = 1e-7
"""The same where the reference takes differences of near numbers, as for penalties on Jacobians."""

EXPONENTS = 1e-7
"""The same for each Lyapunov exponent, of the step Jacobians that the run has shown; 1e-8 is promised."""

CROWDED = 1e-8
"""The same for parallelizability, whose iteration ends where singular values lie so close to each other."""


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
        return _exponents_off(found.astype(WIDE), values, expectation.scale)
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
    off = abs(found - values) / np.maximum(np.maximum(scale, abs(values)), least)
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


def _exponents_off(found, values, unsure=None):
    """Beyond a hundred times what a rounding moves; -inf where a direction is annihilated or all rounding."""
    none, unsure = np.isneginf(values), np.zeros(values.shape) if unsure is None else unsure
    lost = np.isneginf(found)
    if (none & ~lost).any() or (lost & ~none & (unsure < 1e-4)).any():
        return np.inf
    with np.errstate(invalid="ignore"):
        off = np.where(none | lost, 0, abs(found - values) - 100 * unsure)
    return float(np.maximum(off, 0).max())


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
    shown = {n: v.values for n, v in ds.data_vars.items() if n.endswith("step_jacobian")}
    with np.errstate(all="ignore"):
        wanted = expected(config, start, shown)
    inexact = any(not act.exact for act in config.acts)
    problems = []
    measured = {n: v.values for n, v in ds.data_vars.items()}
    measured |= {f"attrs {n}": np.float64(ds.attrs[n]) for n in ("loss", "penalty") if n in ds.attrs}
    for name, found in measured.items():
        off = deviation(found, wanted[name], config.dtype)
        general = name
        for param in (*start.params, *start.readout):
            for stem in ("contribution", "gradient", "gradient_by_lag", "influence"):
                if name.removeprefix("effective_") == f"{stem}_{param}":
                    general = name.removesuffix(param) + "*"
        table.add(config.dtype, general, found.size, off, config.number)
        limit = TOLERANCE[config.dtype]
        if inexact and name.startswith(("effective", "loops_gap", "attrs")):
            limit = max(limit, DIFFERENCES)
        if name.endswith("lyapunov"):
            limit = EXPONENTS
        if name.startswith("parallelizability"):
            limit = max(limit, CROWDED)
        if not off <= limit:
            problems.append(f"{name} off by {off:.1e} in {config}")
    table.runs += 1
    return problems

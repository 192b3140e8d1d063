"""The checks of a recorder: what it declares, and that it computes just that."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, get_args

import numpy as np
import xarray as xr

from gradsim.contracts.cell import Cell
from gradsim.contracts.jacobians import Jacobians
from gradsim.contracts.pieces import Piece
from gradsim.contracts.plugin import Plugin
from gradsim.contracts.problem import Problem
from gradsim.contracts.recorder import Recorder, Variable
from gradsim.contracts.trajectory import Trajectory
from gradsim.numerics.scaled import Scaled
from gradsim.run.prepared import Simulation
from gradsim.simulation import prepare
from gradsim.testing import common
from gradsim.testing.kit import Bench, Checks, copied, names, same
from gradsim.testing.specimen import BATCH, STEPS, Elementwise, Fade, Plain, stage, witness
from gradsim.types import Array

CHECKS = Checks(common.CHECKS)

Values = Mapping[str, Any]
"""What a recorder computes, by the name of the variable."""


class RecorderBench(Bench):
    """A recorder, and small runs of a dense and of a diagonal cell to record."""

    family = "recorders"

    def __init__(self, recorder: Recorder) -> None:
        super().__init__(recorder)
        self.recorder = recorder if recorder.raw else dataclasses.replace(recorder, effective=True)

    @functools.cached_property
    def cells(self) -> tuple[Cell, ...]:
        """One with full and one with diagonal Jacobians."""
        return Plain(), Elementwise()

    def simulation(self, cell: Cell, *record: Recorder) -> Simulation:
        """A short run."""
        inputs = self.rng("inputs").standard_normal((STEPS, BATCH, cell.input_size))
        task = stage(inputs, {}, self.rng("stage"))
        # What is of both flows may be zero where they are the same.
        mitigations = [Fade()] if self.recorder.both else []
        return prepare(cell, task=task, batch=BATCH, record=record, mitigations=mitigations)

    def dataset(self, cell: Cell, recorder: Recorder) -> xr.Dataset:
        """What it records of a short run."""
        return self.simulation(cell, recorder).run(threads=1, progress=False)

    def pieces(self, cell: Cell) -> list[Piece]:
        """The pieces that pass by it in a short run."""
        r = self.recorder
        seen = witness(r.stream, r.effective, r.both)
        self.simulation(cell, seen).run(threads=1, progress=False)
        return [copied(piece) for piece in seen.kept]

    def problem(self, cell: Cell) -> Problem:
        """The sizes of a short run that it records."""
        return self.simulation(cell, self.recorder).plan.problem

    def computed(self, cell: Cell, pieces: list[Piece]) -> tuple[list[Values], Values]:
        """What it makes of these pieces, one after the other, and of all of them in the end."""
        recorder: Any = self.recorder
        if not recorder.carries:
            return [recorder.compute(piece) for piece in pieces], {}
        carry = recorder.start(self.problem(cell))
        found = [_settled(recorder.compute(piece, carry)) for piece in pieces]
        return found, recorder.finish(carry)


def _settled(values: Values) -> Values:
    """Copies, which what is carried on does not change."""
    return {n: v if isinstance(v, Scaled) else np.array(v) for n, v in values.items()}


@CHECKS()
def declares_variables(bench: RecorderBench) -> None:
    """Its variables have names, known dims, a long_name and units, before the run."""
    for cell in bench.cells:
        problem = bench.problem(cell)
        variables, sizes = bench.recorder.variables(problem), problem.sizes()
        bench.expect(variables, "variables() declares nothing")
        found = [v.name for v in variables]
        bench.expect(len(set(found)) == len(found), f"variables() declares a name twice: {found}")
        for v in variables:
            unknown = set(v.dims) - set(sizes)
            bench.expect(
                not unknown, f"{v.name} has the unknown dims {names(unknown)}; known are {names(sizes)}"
            )
            bench.expect(
                v.long_name and v.units, f'{v.name} needs a long_name and units ("1" for a pure number)'
            )


@CHECKS("declares_variables")
def declares_cost(bench: RecorderBench) -> None:
    """Its bytes and flops are finite numbers, known before the run."""
    for cell in bench.cells:
        problem = bench.problem(cell)
        for method in ("flops", "carry_bytes"):
            found = getattr(bench.recorder, method)(problem)
            wrong = f"{method}() is {found!r}; it should be a number, 0 or more"
            bench.expect(np.isfinite(found) and found >= 0, wrong)


@CHECKS("declares_variables")
def computes_what_it_declares(bench: RecorderBench) -> None:
    """Every piece gives every declared variable and no other, with the dims that it declares."""
    for cell in bench.cells:
        declared = {v.name: v for v in bench.recorder.variables(bench.problem(cell))}
        pieces = bench.pieces(cell)
        bench.expect(pieces, f"no piece of the stream {bench.recorder.stream.__name__} passed by")
        by_piece, in_the_end = bench.computed(cell, pieces)
        for values in by_piece:
            given = set(values) | set(in_the_end)
            bench.expect(
                given == set(declared),
                f"compute() and finish() give {names(given)} where variables() declares {names(declared)}",
            )
        for name, value in in_the_end.items():
            _expect_axes(bench, "finish()", declared[name], value, len(declared[name].dims))
        for piece, values in zip(pieces, by_piece, strict=True):
            for name, value in values.items():
                dims = declared[name].dims
                collapsed = [d for d in dims if isinstance(piece.region.get(d), int)]
                arrays = [d for d in dims if isinstance(piece.region.get(d), np.ndarray)]
                wanted = len(dims) - len(collapsed) - max(len(arrays) - 1, 0)
                _expect_axes(bench, "compute()", declared[name], value, wanted)


def _expect_axes(bench: RecorderBench, who: str, variable: Variable, value: Any, wanted: int) -> None:
    given = np.shape(value.mantissa if isinstance(value, Scaled) else value)
    bench.expect(
        len(given) == wanted,
        f"{who} gives {variable.name} of shape {given} where {wanted} axes of {variable.dims} are needed",
    )


@CHECKS("computes_what_it_declares")
def compute_is_pure(bench: RecorderBench) -> None:
    """It changes no piece, and gives the same for the same pieces."""
    for cell in bench.cells:
        pieces, before = bench.pieces(cell), bench.pieces(cell)
        one, again = (bench.computed(cell, pieces) for _ in range(2))
        bench.expect(
            same(_arrays(pieces), _arrays(before)),
            "compute() changes the piece that it is given; compute new arrays",
        )
        bench.expect(
            same(*([*map(_values, by_piece), _values(end)] for by_piece, end in (one, again))),
            "compute() gives two results for the same pieces; keep nothing on the object, but in a carry",
        )


def _values(found: Values) -> dict[str, Any]:
    return {n: [v.mantissa, v.exponent] if isinstance(v, Scaled) else np.array(v) for n, v in found.items()}


def _arrays(value: Any) -> Any:
    if isinstance(value, Jacobians):
        return [value.blocks, value.reach]
    if isinstance(value, Plugin):
        return None
    if dataclasses.is_dataclass(value):  # of a trajectory without what its cell has kept beside
        fields = (f.name for f in dataclasses.fields(Trajectory if isinstance(value, Trajectory) else value))
        return [_arrays(getattr(value, name)) for name in fields if name not in ("region", "steps")]
    if isinstance(value, list):
        return [_arrays(v) for v in value]
    return {k: _arrays(v) for k, v in value.items()} if isinstance(value, dict) else value


@CHECKS("compute_is_pure")
def minds_exponents(bench: RecorderBench) -> None:
    """Mantissas and exponents that stand for the same numbers give the same values."""
    for cell in bench.cells:
        pieces = bench.pieces(cell)
        one, other = (bench.computed(cell, given) for given in (pieces, [_shifted(p) for p in pieces]))
        for found, again in zip((*one[0], one[1]), (*other[0], other[1]), strict=True):
            for name in found:
                first, second = (_plain(values[name]) for values in (found, again))
                bench.expect(
                    np.allclose(first, second, rtol=1e-9, equal_nan=True),
                    f"{name} is another where mantissas are over 2**{_SHIFT} and exponents {_SHIFT} more, "
                    "which are the same numbers; take the value of what is scaled, not its mantissa alone",
                )


_SHIFT = 8


def _shifted(value: Any) -> Any:
    if isinstance(value, Scaled):
        return Scaled(np.ldexp(value.mantissa, -_SHIFT), value.exponent + _SHIFT)
    if isinstance(value, dict):
        return {name: _shifted(v) for name, v in value.items()}
    if isinstance(value, get_args(Piece)) and dataclasses.is_dataclass(value):
        fields = {f.name: _shifted(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
        return dataclasses.replace(value, **fields)  # type: ignore[type-var]
    return value


def _plain(values: Any) -> Array:
    return np.asarray(values.value if isinstance(values, Scaled) else values)


@CHECKS("compute_is_pure", "declares_cost")
def fills_its_variables(bench: RecorderBench) -> None:
    """No variable of a run is empty or silently zero."""
    for cell in bench.cells:
        dataset = bench.dataset(cell, bench.recorder)
        for name, array in dataset.data_vars.items():
            values = array.values
            bench.expect(not np.isnan(values).all(), f"{name} is NaN everywhere: nothing was written")
            bench.expect(
                values.dtype.kind != "f" or np.any(values[np.isfinite(values)] != 0),
                f"{name} is zero everywhere in a run of random numbers",
            )


@CHECKS("fills_its_variables", applies=lambda bench: bench.recorder.raw and bench.recorder.has_twin)
def twin_is_raw_without_mitigations(bench: RecorderBench) -> None:
    """Without mitigations, the effective twin holds the numbers of the raw one."""
    raw = dataclasses.replace(bench.recorder, effective=False)
    for cell in bench.cells:
        one = bench.dataset(cell, raw)
        twin = bench.dataset(cell, dataclasses.replace(raw, effective=True))
        for name, array in one.data_vars.items():
            bench.expect(
                same(array.values, twin[f"effective_{name}"].values),
                f"effective_{name} differs from {name} in a run without mitigations; do not look at "
                "`effective` in compute()",
            )

"""The checks of a recorder: what it declares, and that it computes just that."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
import xarray as xr

from gradsim.contracts.cell import Cell
from gradsim.contracts.problem import Problem
from gradsim.contracts.recorder import Piece, Recorder
from gradsim.numerics.scaled import Scaled
from gradsim.simulation import Simulation, prepare
from gradsim.testing import common
from gradsim.testing.kit import Bench, Checks, copied, names, same
from gradsim.testing.specimen import BATCH, STEPS, Elementwise, Plain, stage, witness

CHECKS = Checks(common.CHECKS)


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
        return prepare(cell, task=task, batch=BATCH, record=record)

    def dataset(self, cell: Cell, recorder: Recorder) -> xr.Dataset:
        """What it records of a short run."""
        return self.simulation(cell, recorder).run(threads=1, progress=False)

    def pieces(self, cell: Cell) -> list[Piece]:
        """The pieces that pass by it in a short run."""
        seen = witness(self.recorder.stream, self.recorder.effective)
        self.simulation(cell, seen).run(threads=1, progress=False)
        return [copied(piece) for piece in seen.kept]

    def problem(self, cell: Cell) -> Problem:
        """The sizes of a short run."""
        return self.simulation(cell, witness(self.recorder.stream)).plan.problem


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
        flops = bench.recorder.flops(problem)
        bench.expect(
            np.isfinite(flops) and flops >= 0, f"flops() is {flops!r}; it should be a number, 0 or more"
        )


@CHECKS("declares_variables")
def computes_what_it_declares(bench: RecorderBench) -> None:
    """Every piece gives every declared variable and no other, with the dims that it declares."""
    for cell in bench.cells:
        declared = {v.name: v for v in bench.recorder.variables(bench.problem(cell))}
        pieces = bench.pieces(cell)
        bench.expect(pieces, f"no piece of the stream {bench.recorder.stream.__name__} passed by")
        for piece in pieces:
            values = bench.recorder.compute(piece)
            bench.expect(
                set(values) == set(declared),
                f"compute() gives {names(values)} where variables() declares {names(declared)}",
            )
            for name, value in values.items():
                given = np.shape(value.mantissa if isinstance(value, Scaled) else value)
                collapsed = [d for d in declared[name].dims if isinstance(piece.region.get(d), int)]
                arrays = [d for d in declared[name].dims if isinstance(piece.region.get(d), np.ndarray)]
                wanted = len(declared[name].dims) - len(collapsed) - max(len(arrays) - 1, 0)
                bench.expect(
                    len(given) == wanted,
                    f"compute() gives {name} of shape {given} where {wanted} axes of {declared[name].dims} "
                    "are needed",
                )


@CHECKS("computes_what_it_declares")
def compute_is_pure(bench: RecorderBench) -> None:
    """It changes no piece, and gives the same for the same piece."""
    for cell in bench.cells:
        for piece, before in zip(bench.pieces(cell), bench.pieces(cell), strict=True):
            one, again = (_values(bench.recorder.compute(piece)) for _ in range(2))
            bench.expect(
                same(_arrays(piece), _arrays(before)),
                "compute() changes the piece that it is given; compute new arrays",
            )
            bench.expect(
                same(one, again), "compute() gives two results for the same piece; keep nothing on the object"
            )


def _values(found: Any) -> dict[str, Any]:
    return {n: [v.mantissa, v.exponent] if isinstance(v, Scaled) else np.array(v) for n, v in found.items()}


def _arrays(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return [
            _arrays(getattr(value, f.name))
            for f in dataclasses.fields(value)
            if f.name not in ("region", "steps")
        ]
    return {k: _arrays(v) for k, v in value.items()} if isinstance(value, dict) else value


@CHECKS("compute_is_pure")
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


@CHECKS("fills_its_variables", applies=lambda bench: bench.recorder.raw and bench.recorder.twin)
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

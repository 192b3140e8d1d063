"""What runs of different cells have in common, so that it can stand side by side in one dataset."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import xarray as xr

from gradsim.contracts.recorder import Variable
from gradsim.data.schema import Coordinates
from gradsim.errors import InputError
from gradsim.run.prepared import Simulation
from gradsim.types import Array


@dataclass(frozen=True)
class Alike:
    """The variables that some runs have in common, by the label of each.

    Along a dim whose members have names, such as `param` and `path`, there are the names of all of them, and
    NaN where a run does not have one; every other dim has to be the same in all of them. `absent`: by label
    the names of recorders that do not exist of a run, so that all of theirs is NaN; of the first all exist.
    """

    runs: Mapping[str, Simulation]
    absent: Mapping[str, Container[str]] = field(default_factory=dict)

    @cached_property
    def variables(self) -> list[Variable]:
        """Those of the first run.

        Raises
        ------
        InputError
            One of any run has no place beside the others.
        """
        found = {
            label: {variable.name: (recorder, variable) for recorder, variable in run.plan.variables()}
            for label, run in self.runs.items()
        }
        for label, table in found.items():
            for name, (recorder, variable) in table.items():
                for other, there in found.items():
                    if recorder.full_name in self.absent.get(other, ()):
                        continue
                    differs = self._difference(label, other, variable, there.get(name, (None, None))[1])
                    if differs:
                        raise InputError(
                            f"{name} of {label} and {other} cannot stand side by side: {differs}. Leave "
                            f"{recorder.full_name!r} out of record, and simulate each cell for it"
                        )
        return [variable for _, variable in next(iter(found.values())).values()]

    def _difference(self, label: str, other: str, one: Variable, two: Variable | None) -> str:
        """Why two variables of one name do not go together, if they do not."""
        if two is None:
            return f"{other} has none"
        if one.dims != two.dims:
            return f"its dims are {one.dims} and {two.dims}"
        for dim in one.dims:
            if dim not in self.joined and not _same(*(self._coordinates(r, dim) for r in (label, other))):
                sizes = [self.runs[r].frame().sizes[dim] for r in (label, other)]
                lengths = "" if sizes[0] == sizes[1] else f", {sizes[0]} and {sizes[1]} long"
                return f"its dim {dim} is not the same in both{lengths}"
        return ""

    def _coordinates(self, label: str, dim: str) -> Coordinates:
        frame = self.runs[label].frame()
        return {"": (dim, np.array(frame.sizes[dim]), {}), **frame.coordinates([dim])}

    @cached_property
    def joined(self) -> dict[str, Array]:
        """The names along every dim whose members have some."""
        names: dict[str, dict[str, None]] = {}
        for label in self.runs:
            for dim, members in self._named(label):
                names.setdefault(dim, {}).update(dict.fromkeys(members))
        return {dim: np.array(list(members)) for dim, members in names.items()}

    def _named(self, label: str) -> Iterator[tuple[str, list[str]]]:
        run = self.runs[label]
        for dim in dict.fromkeys(d for v in run.variables() for d in v.dims):
            found = self._coordinates(label, dim).get(dim)
            if found is not None and found[1].dtype.kind == "U":
                yield dim, found[1].tolist()

    def sizes(self) -> dict[str, int]:
        """The length of every dim."""
        return {**self._first.frame().sizes, **{dim: len(names) for dim, names in self.joined.items()}}

    def coordinates(self, dims: Iterable[str]) -> Coordinates:
        """The coordinates along these dims."""
        found = self._first.frame().coordinates(dims)
        return {n: (dim, self.joined.get(n, x), attrs) for n, (dim, x, attrs) in found.items()}

    @property
    def _first(self) -> Simulation:
        return next(iter(self.runs.values()))

    def fitted(self, variable: xr.DataArray) -> Array:
        """The values of a variable of one run, in its place among all names."""
        joined = {dim: names for dim, names in self.joined.items() if dim in variable.dims}
        return np.asarray(variable.reindex(joined).values)


def _same(one: Coordinates, two: Coordinates) -> bool:
    return one.keys() == two.keys() and all(
        dim == two[name][0] and np.array_equal(values, two[name][1]) for name, (dim, values, _) in one.items()
    )

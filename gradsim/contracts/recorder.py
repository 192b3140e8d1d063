"""The contract of a recorder, and the variables that it declares."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import NoneType
from typing import Any, ClassVar, get_args

import numpy as np
from numpy.typing import ArrayLike

from gradsim.contracts.pieces import IN_ORDER, TOGETHER, Both, Piece
from gradsim.contracts.plugin import Plugin, calling, number_of
from gradsim.contracts.problem import OF_TRAINING, Problem
from gradsim.errors import PluginError, shown, unknown
from gradsim.numerics.scaled import Scaled
from gradsim.types import Array


@dataclass(frozen=True)
class Variable:
    """One variable of the dataset. `dtype` None is the dtype of the run; units "1" is a pure number."""

    name: str
    dims: tuple[str, ...]
    long_name: str
    units: str = "1"
    dtype: str | None = None

    def bytes(self, problem: Problem) -> int:
        """Its size, uncompressed."""
        return self.bytes_in(problem.sizes(), problem.dtype)

    def bytes_in(self, lengths: Mapping[str, int], dtype: np.dtype) -> int:
        """Its size, uncompressed, where dims have these lengths; `dtype` if it names none."""
        return math.prod(lengths[d] for d in self.dims) * np.dtype(self.dtype or dtype).itemsize


@dataclass(frozen=True, eq=False)
class Recorder(Plugin, ABC):
    """Computes variables of the dataset from the pieces of one kind, its `stream`, that pass by.

    The streams are the classes in `gradsim.contracts.pieces`. `Forward`, `LossTerms` and
    `Jacobians` pass from the first steps to the last, `Adjoints`, `FullAdjoints` and `Contributions` from the
    last back to the first, `Gradient`, `GradientByLag` and `Exponents` once; `Products`, `ProductNorms` and
    `LossRows` in any order, on several threads. Each piece says in its `region` where it lies. Numbers with
    exponents are `Scaled`: their ``.value`` is the plain array, 0 for what is too small for the dtype and
    infinite for what is too large, and their mantissa alone means nothing.

    ``effective`` asks for the run as changed by the mitigations; the variables are then named
    ``effective_<name>``. ``raw`` and ``twin`` say whether the quantity exists of the raw dynamics and
    of the effective run. With ``both`` it is one quantity of the two, and its pieces are `Both`.

    What it knows from earlier pieces lies in a carry, which `start` makes: any object that `compute` may
    change. So reductions and recursions over time are recorders too.
    """

    stream: ClassVar[type] = NoneType
    raw: ClassVar[bool] = True
    twin: ClassVar[bool] = True
    both: ClassVar[bool] = False

    effective: bool = False

    @abstractmethod
    def variables(self, problem: Problem) -> tuple[Variable, ...]:
        """What it will write, without the prefix of its effective twin."""

    @abstractmethod
    def compute(self, piece: Piece) -> Mapping[str, Array | Scaled]:
        """The values for the region of this piece, by variable name, dims in order.

        It may name a second argument, `carry`. The arrays of a piece may be used again for the next one:
        copy what is to be kept.
        """

    def dims(self, problem: Problem) -> Mapping[str, ArrayLike]:
        """Dims of its own: the coordinate of each, of the length of the dim."""
        return {}

    def start(self, problem: Problem) -> Any:
        """A new carry, before the first piece; for the streams of `IN_ORDER`."""
        return None

    def finish(self, carry: Any) -> Mapping[str, Array | Scaled]:
        """Whole variables, after the last piece."""
        return {}

    def flops(self, problem: Problem) -> float:
        """The floating-point operations of `compute` over the whole run, for the plan."""
        return 0.0

    def carry_bytes(self, problem: Problem) -> float:
        """The bytes of its carry, and of what it makes of a piece, for the plan."""
        return 0.0

    def declared(self, problem: Problem) -> tuple[Variable, ...]:
        """Its variables, named in full.

        Raises
        ------
        PluginError
            Its stream is none, or one that does not go with `both` or a carry; or a variable has a dim
            that nobody knows.
        """
        found = self._checked_variables(problem)
        return tuple(_effective(v) for v in found) if self.effective else found

    def own_dims(self, problem: Problem) -> dict[str, Array]:
        """The coordinates of the dims of its own.

        Raises
        ------
        PluginError
            They are no named vectors.
        """
        with calling(self, "dims"):
            found = self.dims(problem)
        if not (isinstance(found, Mapping) and all(isinstance(dim, str) for dim in found)):
            raise PluginError(f"{self!r}: dims() should give a dict of named vectors, not {shown(found)}")
        coordinates = {dim: np.asarray(values) for dim, values in found.items()}
        for dim, values in coordinates.items():
            if values.ndim != 1 or values.dtype.kind not in "fiubUmM":
                raise PluginError(
                    f"{self!r}: the coordinate of {dim} should be a vector of numbers or of text, not "
                    f"{shown(found[dim])}"
                )
        return coordinates

    def cost(self, problem: Problem) -> float:
        """The floating-point operations that it says it takes.

        Raises
        ------
        PluginError
            It says something else.
        """
        return number_of(self, "flops", problem)

    def carried(self, problem: Problem) -> int:
        """The bytes that it says its carry takes.

        Raises
        ------
        PluginError
            It says something else.
        """
        return math.ceil(number_of(self, "carry_bytes", problem))

    def _checked_variables(self, problem: Problem) -> tuple[Variable, ...]:
        stream: Any = type(self).stream
        if stream not in get_args(Piece) or stream is Both:
            known = ", ".join(s.__name__ for s in get_args(Piece) if s is not Both)
            raise PluginError(f"{self!r}: stream is {stream!r}; it should be one of {known}")
        if self.both and stream not in TOGETHER:
            names = ", ".join(s.__name__ for s in TOGETHER)
            raise PluginError(f"{self!r}: both goes with the streams {names}, not with {stream.__name__}")
        if self.carries and stream not in IN_ORDER:
            names = ", ".join(s.__name__ for s in IN_ORDER)
            raise PluginError(f"{self!r}: a carry goes with the streams {names}, not with {stream.__name__}")
        with calling(self, "variables"):
            found = self.variables(problem)
        if not (isinstance(found, tuple | list) and all(isinstance(v, Variable) for v in found)):
            raise PluginError(f"{self!r}: variables() should give a tuple of Variables, not {shown(found)}")
        known_dims = {**problem.sizes(), **self.own_dims(problem)}
        for variable in found:
            for mistake in _mistakes(variable, known_dims):
                raise PluginError(f"{self!r}: {mistake}")
        return tuple(found)

    @property
    def carries(self) -> bool:
        """Whether it keeps something from piece to piece."""
        return type(self).start is not Recorder.start

    @property
    def has_twin(self) -> bool:
        """Whether there is the same of the effective run."""
        return self.twin and not self.both

    @property
    def flows(self) -> tuple[bool, ...]:
        """The flows that it records: raw (False), effective (True)."""
        return (False, True) if self.both else (self.effective,)

    @property
    def full_name(self) -> str:
        """The name that asks for this recorder."""
        return f"effective_{self.name}" if self.effective else self.name


def with_own_dims(problem: Problem, recorders: Sequence[Recorder]) -> Problem:
    """The sizes of a run, with the dims that its recorders bring along.

    Raises
    ------
    PluginError
        A dim is there already, or its coordinate has not one axis.
    """
    found: dict[str, Array] = {}
    for recorder in recorders:
        for dim, coordinate in recorder.own_dims(problem).items():
            taken = dim in (*problem.sizes(), *OF_TRAINING) or not np.array_equal(
                found.get(dim, coordinate), coordinate
            )
            if taken:
                raise PluginError(f"{recorder!r}: the dim {dim} is there already; give it another name")
            found[dim] = coordinate
    return replace(problem, own_dims=found) if found else problem


def declared(problem: Problem, recorders: Sequence[Recorder]) -> list[tuple[Recorder, Variable]]:
    """Every variable that recorders will write, named in full.

    Raises
    ------
    PluginError
        One is wrong, or has the name of a dim that a recorder brings along, or of another one.
    """
    found: list[tuple[Recorder, Variable]] = []
    writers: dict[str, Recorder] = {}
    for recorder in recorders:
        for variable in recorder.declared(problem):
            if variable.name in problem.own_dims:
                raise PluginError(
                    f"{recorder!r}: {variable.name} is a dim, too; give the variable another name"
                )
            if variable.name in writers:
                raise PluginError(
                    f"{writers[variable.name]!r} and {recorder!r} both write {variable.name}; record one of "
                    "them, or rename its variable"
                )
            writers[variable.name] = recorder
            found.append((recorder, variable))
    return found


def _mistakes(variable: Variable, known_dims: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with a variable that a recorder declares."""
    name, dims = variable.name, variable.dims
    for what in ("name", "long_name", "units"):
        text = getattr(variable, what)
        if not (isinstance(text, str) and text):
            yield f"{what} of the variable {name!r} should be text, not {text!r}"
    if isinstance(dims, str) or not all(isinstance(dim, str) for dim in dims):
        yield f"dims of {name} should be a tuple of names, such as ('time', 'batch'), not {dims!r}"
    for dim in dims:
        if dim not in known_dims:
            yield str(unknown(f"dim of {name}", dim, known_dims))
    if len(set(dims)) < len(dims):
        yield f"dims of {name} has a name twice: {dims!r}"
    if not _is_of_numbers(variable.dtype):
        yield f"dtype of {name} should be one of numbers, such as 'float64', or None, not {variable.dtype!r}"


def _is_of_numbers(dtype: Any) -> bool:
    try:
        return dtype is None or np.dtype(dtype).kind in "fiub"
    except TypeError:
        return False


def _effective(variable: Variable) -> Variable:
    head, log, size = variable.long_name.rpartition("log10 of the ")
    return replace(variable, name=f"effective_{variable.name}", long_name=f"{head}{log}effective {size}")

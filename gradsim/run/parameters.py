"""The parameters of a verb, listed once, and the lists of `simulate` and of how any run is launched.

A list is a dataclass. Signature and docstring of the verb, the keys of TOML, the record of a run, what
resumes it and the options of the command line are read from it. Nothing heavy is imported here, because the
command line reads the lists to print its help: types of arrays or plugins are written as strings.
"""

import functools
import inspect
import operator
import os
import pkgutil
import re
import textwrap
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Concatenate,
    Literal,
    ParamSpec,
    TypeVar,
    Union,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

from annotated_types import Ge, Gt

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike

    from gradsim.contracts.cell import Cell
    from gradsim.contracts.mitigation import Mitigation
    from gradsim.contracts.problem import Pairs
    from gradsim.contracts.recorder import Recorder
    from gradsim.contracts.registry import Builder
    from gradsim.contracts.task import Task
    from gradsim.contracts.validation import Types
    from gradsim.run.seeds import Seed

P = ParamSpec("P")
C = TypeVar("C")
Given = TypeVar("Given")
Result = TypeVar("Result")
Owner = TypeVar("Owner")

Count = Annotated[int, Gt(0)]


@dataclass(frozen=True)
class Parameter:
    """One entry of a list.

    Parameters
    ----------
    name, default, kw_only
        As in Python; the default is MISSING where there is none.
    type
        Its type, or the text of one that is heavy to import.
    doc
        Whole sentences; the first one is the help of its option.
    key
        Its name in TOML and on the command line; empty where it cannot be written there.
    written
        The type of what is written there, if it is a plain value.
    of
        "module:Class" of the plugins, or of the dataclass, that a table there stands for.
    """

    name: str
    type: Any
    default: Any
    doc: str
    key: str
    written: Any
    of: str
    kw_only: bool

    @property
    def required(self) -> bool:
        """Whether it has no default."""
        return self.default is MISSING

    @property
    def many(self) -> bool:
        """Whether a list of tables is written."""
        return bool(self.of) and "Sequence[" in str(self.type)

    @property
    def cls(self) -> Any:
        """The class that a table stands for."""
        return pkgutil.resolve_name(self.of)

    @property
    def hint(self) -> Any:
        """What `registry.Builder.value` makes of what is written."""
        if not self.of:
            return Any
        cls = self.cls
        return tuple[cls, ...] if self.many else cls  # type: ignore[valid-type]


def parameter(
    *,
    doc: str,
    default: Any = MISSING,
    kw_only: bool = True,
    key: str | None = None,
    written: Any = None,
    of: str = "",
) -> Any:
    """An entry of a list; see `Parameter`. `key`: its name, unless given, if its value can be written."""
    return field(
        default=default, kw_only=kw_only, metadata={"doc": doc, "key": key, "written": written, "of": of}
    )


def as_in(cls: type, name: str, **changes: Any) -> Any:
    """An entry of another list, by name; `changes` as `parameter` takes them."""
    entry = next(f for f in fields(cls) if f.name == name)
    return parameter(**{"default": entry.default, **entry.metadata, **changes})


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(parameter,))
def parameters(cls: type[C]) -> type[C]:
    """Make a class a list of parameters."""
    return dataclass(frozen=True, eq=False, kw_only=True)(cls)


@functools.cache
def listed(cls: type) -> dict[str, Parameter]:
    """The entries of a list: positional ones first, then those without a default."""
    found = sorted(map(_entry, fields(cls)), key=lambda e: (e.kw_only, e.kw_only and not e.required))
    return {entry.name: entry for entry in found}


def _entry(f: Any) -> Parameter:
    doc, key, written, of = (f.metadata[name] for name in ("doc", "key", "written", "of"))
    if written is None and not isinstance(f.type, str):
        written = f.type
    if key is None:
        key = f.name if of or written is not None else ""
    return Parameter(f.name, f.type, f.default, " ".join(doc.split()), key, written, of, f.kw_only)


def arguments(cls: type, tables: Mapping[str, Any], builder: "Builder") -> dict[str, Any]:
    """The arguments that are written in tables; what they hold of plugins the builder makes."""
    return {
        entry.name: builder.value(entry.key, tables[entry.key], entry.hint)
        for entry in listed(cls).values()
        if entry.key in tables
    }


def chosen(given: Any, cls: type) -> dict[str, Any]:
    """The values that a list shares with a shorter one."""
    return {name: getattr(given, name) for name in listed(cls)}


_HEAVY = ("ArrayLike", "DTypeLike", "Seed")
"""Types in texts that are checked where the values are used."""


@functools.cache
def checks(cls: type) -> "Types":
    """What the values of a list are checked against."""
    from gradsim.contracts.validation import Types  # slow to import, and of no use to a help text

    known = dict.fromkeys(_HEAVY, Any) | {e.cls.__name__: e.cls for e in listed(cls).values() if e.of}
    return Types(get_type_hints(cls, localns=known, include_extras=True))


# Functions that take a list.


def verb(cls: Callable[P, Given]) -> Callable[[Callable[[Given], Result]], Callable[P, Result]]:
    """Let a function of one argument, a list, take the entries of that list instead."""
    return lambda act: _taking(cls, act)


def method_verb(
    cls: Callable[P, Given],
) -> Callable[[Callable[[Owner, Given], Result]], Callable[Concatenate[Owner, P], Result]]:
    """The same for a method."""
    return lambda act: _taking(cls, act)


def _taking(cls: Any, act: Callable[..., Any]) -> Any:
    own = list(inspect.signature(act).parameters.values())[:-1]

    takes = {name: _as_inspect(entry) for name, entry in listed(cls).items()}

    @functools.wraps(act)
    def call(*args: Any, **kwargs: Any) -> Any:
        from gradsim.contracts.validation import arguments

        given = arguments(act.__name__, takes, checks(cls), args[len(own) :], kwargs)
        return act(*args[: len(own)], cls(**given))

    returns = inspect.signature(act).return_annotation
    call.__signature__ = inspect.Signature([*own, *takes.values()], return_annotation=returns)  # type: ignore[attr-defined]
    call.__annotations__ = {p.name: p.annotation for p in takes.values()} | {"return": returns}
    call.__doc__ = _documented(act.__doc__ or "", listed(cls).values())
    return call


def _as_inspect(entry: Parameter) -> inspect.Parameter:
    return inspect.Parameter(
        entry.name,
        inspect.Parameter.KEYWORD_ONLY if entry.kw_only else inspect.Parameter.POSITIONAL_OR_KEYWORD,
        default=inspect.Parameter.empty if entry.required else entry.default,
        annotation=bare(entry.type),
    )


def bare(hint: Any) -> Any:
    """A type without its limits."""
    if get_origin(hint) is Annotated:
        return bare(get_args(hint)[0])
    if get_origin(hint) in (Union, types.UnionType):
        return functools.reduce(operator.or_, map(bare, get_args(hint)))
    return hint


def _documented(doc: str, entries: Iterable[Parameter]) -> str:
    """The docstring with a section of the parameters behind its introduction."""
    introduction, line, rest = re.split(r"(\n\n(?=\w+\n---)|$)", inspect.cleandoc(doc), maxsplit=1)
    section = "\n".join(line for entry in entries for line in (entry.name, _indented(entry.doc)))
    return f"{introduction}\n\nParameters\n----------\n{section}{line}{rest}\n"


def _indented(text: str) -> str:
    return textwrap.fill(text, 100, initial_indent="    ", subsequent_indent="    ")


# The lists.


@parameters
class RunParameters:
    """What decides the numbers of any run."""

    cell: "Cell" = parameter(
        kw_only=False,
        of="gradsim.contracts.cell:Cell",
        doc="The recurrence, for example ``LSTM(input_size=1, hidden_size=32)``.",
    )
    task: "Task | None" = parameter(
        default=None,
        of="gradsim.contracts.task:Task",
        doc="""Draws inputs and targets and gives the loss, through a linear readout of random weights.
            Without one the loss is the sum of the last outputs, averaged over the batch.""",
    )
    mitigations: "Sequence[Mitigation]" = parameter(
        default=(), of="gradsim.contracts.mitigation:Mitigation", doc="Applied in this order."
    )
    params: "Mapping[str, ArrayLike] | None" = parameter(
        default=None,
        doc="""Named parameters instead of freshly drawn ones; the readout's are `readout_W`,
            `readout_b`.""",
    )
    rng: "Seed" = parameter(
        default=0,
        key="seed",
        written=Annotated[int, Ge(0)],
        doc="Seed of all random numbers. Or a SeedSequence, or a Generator, from which a seed is drawn.",
    )
    dtype: "DTypeLike" = parameter(
        default="float64", written=Literal["float32", "float64"], doc="float64 or float32."
    )
    derivatives: Literal["auto", "autograd", "jax"] = parameter(
        default="auto",
        doc="""Which library makes the derivatives that a cell does not bring along. JAX compiles them, which
            takes a second or two; auto takes it if it is there, can trace the step and is estimated to be
            sooner.""",
    )
    snapshots: "Annotated[int, Ge(0)] | Literal['sqrt'] | None" = parameter(
        default=None,
        written=Annotated[int, Ge(0)] | Literal["sqrt"],
        doc="""How many states are kept for the way back, from which the steps between are taken again. No
            number depends on it. Steps are kept or taken again some at a time, in segments; the first of the
            snapshots is the state at time 0, they are placed where the fewest steps are taken again
            (Griewank & Walther 2000), and 0 keeps all steps. sqrt takes no step again more than once, in
            about sqrt(2 T) states (Chen et al. 2016 in 2 sqrt(T)). When left out, as few are taken again as
            `memory` allows. Attributes `snapshots` and `recomputed_steps` of the dataset say what it came
            to.""",
    )


@parameters
class SimulationParameters(RunParameters):
    """What decides the numbers of a simulation."""

    inputs: "ArrayLike | None" = parameter(
        default=None, kw_only=False, doc="Shape (time, batch, input). Left out when a task draws them."
    )
    batch: Count | None = parameter(default=None, doc="How many sequences the task draws (default 1).")
    initial_state: "ArrayLike | None" = parameter(
        default=None, doc="s_0, shape (m,) or (batch, m); the cell's own, usually zeros, when left out."
    )
    record: "Sequence[str | Recorder]" = parameter(
        default=("product_norm", "adjoint_norm"),
        of="gradsim.contracts.recorder:Recorder",
        doc="""Names of recorders (``gradsim list recorders``), or recorder objects. ``effective_<name>``
            is the same quantity as changed by the mitigations.""",
    )
    pairs: "Pairs | None" = parameter(
        default=None,
        of="gradsim.contracts.problem:Pairs",
        doc="Which products P(t, k) are recorded; all unless narrowed.",
    )


@parameters
class PreparationParameters(SimulationParameters):
    """What `prepare` takes."""

    in_memory: bool = parameter(
        default=True, key="", doc="Whether all values will be kept in memory, or go to a run folder."
    )
    tried: bool = parameter(
        default=False,
        key="",
        doc="""Draw a few sequences of a large batch only. What is prepared can then be planned and tried
            in short, but not run.""",
    )
    replicate: Annotated[int, Ge(0)] = parameter(
        default=0, key="", doc="Replicates differ in what the mitigations draw, and in nothing else."
    )


@parameters
class ComputingParameters:
    """How any run is computed; no number depends on it."""

    threads: Count | None = parameter(default=None, doc="All cores when left out; no number depends on it.")
    memory: Annotated[float, Gt(0)] | None = parameter(
        default=None, doc="Bytes that the run may use; what is available when left out."
    )
    progress: bool | None = parameter(default=None, doc="Show progress; when left out, only on a terminal.")


@parameters
class LaunchParameters(ComputingParameters):
    """How any run is launched."""

    store: str | os.PathLike[str] | None = parameter(
        default=None, key="", doc="A run folder to write into; values then never need to fit in memory."
    )
    force: bool = parameter(default=False, doc="Replace the run that is in the folder.")


@parameters
class SimulateParameters(LaunchParameters, SimulationParameters):
    """What `simulate` takes."""

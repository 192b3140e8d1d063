"""The keys of an experiment file, and what is wrong with those of a given one."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import (
    BaseModel,
    ConfigDict,
    NonNegativeInt,
    PositiveInt,
    StringConstraints,
    ValidationError,
    create_model,
)

from gradsim.contracts.validation import phrase
from gradsim.errors import unknown

FolderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$")]
Table = dict[str, Any]


def _key(field: str) -> str:
    """A field is named as its key; `validate_` because pydantic takes `validate` for itself."""
    return field.removesuffix("_")


class Keys(BaseModel):
    """Types are strict, because TOML has types of its own."""

    model_config = ConfigDict(extra="forbid", strict=True, alias_generator=_key)


class PluginKeys(BaseModel):
    """A plugin by name; the other keys are its parameters."""

    model_config = ConfigDict(extra="allow", strict=True)

    name: str


class RunKeys(Keys):
    """What decides the numbers of one run, be it a simulation or a training."""

    task: PluginKeys
    cell: PluginKeys
    mitigations: list[PluginKeys] | None = None
    seed: NonNegativeInt = 0
    batch: PositiveInt | None = None
    dtype: Literal["float32", "float64"] = "float64"


class SimulationKeys(RunKeys):
    """Those of a simulation; what is recorded is looked at when it is built."""

    record: Any = None
    pairs: Any = None


class TrainingKeys(RunKeys):
    """Those of a training."""

    optimizer: PluginKeys
    updates: PositiveInt | None = None
    epochs: PositiveInt | None = None
    stateful: bool = False
    record: Table | None = None
    validate_: Table | None = None
    stop: Table | None = None


def names(keys: type[BaseModel]) -> dict[str, Any]:
    """The keys, and the default of each."""
    return {_key(field): info.default for field, info in keys.model_fields.items()}


@functools.cache
def compare_keys(run: type[RunKeys]) -> type[Keys]:
    """The keys of a further run: what is given there replaces that part of the main one.

    A plugin without a name is that of the main run with these parameters changed.
    """
    hints = get_type_hints(run, include_extras=True)
    fields: Any = {
        name: ((Table if hints[name] is PluginKeys else hints[name]) | None, None)
        for name in run.model_fields
    }
    return create_model("CompareKeys", __base__=Keys, label=(FolderName, ...), **fields)


@functools.cache
def file_keys(run: type[RunKeys]) -> type[RunKeys]:
    """The keys of a whole file."""
    title, compared = FolderName | None, list[compare_keys(run)] | None  # type: ignore[misc]
    more: Any = {"name": (title, None), "label": (title, None), "compare": (compared, None)}
    return create_model("FileKeys", __base__=run, **more)


def mistakes_in(tables: Mapping[str, Any], run: type[RunKeys]) -> Iterator[str]:
    """One line for each key of a file that is unknown, missing or of the wrong type."""
    try:
        file_keys(run).model_validate(dict(tables))
    except ValidationError as error:
        known = names(file_keys(run)), names(compare_keys(run))
        for mistake in error.errors():
            key = mistake["loc"]
            extra = mistake["type"] == "extra_forbidden"
            what = unknown("key", key[-1], known[len(key) > 1]) if extra else phrase(**mistake)
            yield f"{'.'.join(map(str, key))}: {what}"

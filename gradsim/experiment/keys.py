"""The keys of an experiment file, and what is wrong with those of a given one."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from annotated_types import MinLen
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError, create_model

from gradsim.contracts.plugin import Plugin
from gradsim.contracts.recorder import Recorder
from gradsim.contracts.registry import FAMILIES
from gradsim.contracts.validation import phrases
from gradsim.errors import unknown
from gradsim.run.parameters import Parameter, listed

FolderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$")]
Table = dict[str, Any]


def _key(field: str) -> str:
    """A field is named as its key, with an `_` behind: pydantic takes names such as `validate` for itself."""
    return field.removesuffix("_")


class Keys(BaseModel):
    """Types are strict, because TOML has types of its own."""

    model_config = ConfigDict(extra="forbid", strict=True, alias_generator=_key)


class PluginKeys(BaseModel):
    """A plugin by name; what is in the table is looked at when it is built."""

    model_config = ConfigDict(extra="allow", strict=True)


def written(cls: type) -> dict[str, Parameter]:
    """The entries of a list of parameters that an experiment may hold, by key."""
    return {entry.key: entry for entry in listed(cls).values() if entry.key}


def _type(entry: Parameter) -> Any:
    if not entry.of:
        return entry.written
    cls = entry.cls
    if issubclass(cls, Recorder):
        return Annotated[list[str], MinLen(1)]
    plugin = issubclass(cls, Plugin) and issubclass(cls, tuple(FAMILIES.values()))
    return list[PluginKeys] if entry.many else PluginKeys if plugin else Table


@functools.cache
def compare_keys(run: type) -> type[Keys]:
    """The keys of a further run: what is given there replaces that part of the main one.

    A plugin without a name is that of the main run with these parameters changed.
    """
    types = {key: _type(entry) for key, entry in written(run).items()}
    fields: Any = {f"{k}_": ((Table if t is PluginKeys else t) | None, None) for k, t in types.items()}
    return create_model("CompareKeys", __base__=Keys, label=(FolderName, ...), **fields)


@functools.cache
def file_keys(run: type) -> type[Keys]:
    """The keys of a whole file."""
    fields: Any = {
        f"{key}_": (_type(entry), ...) if entry.required else (_type(entry) | None, None)
        for key, entry in written(run).items()
    }
    title, compared = FolderName | None, list[compare_keys(run)] | None  # type: ignore[misc]
    more: Any = {"name": (title, None), "label": (title, None), "compare": (compared, None)}
    return create_model("FileKeys", __base__=Keys, **fields, **more)


def mistakes_in(tables: Mapping[str, Any], run: type) -> Iterator[str]:
    """One line for each key of a file that is unknown, missing or of the wrong type."""
    try:
        file_keys(run).model_validate(dict(tables))
    except ValidationError as error:
        known = [[*map(_key, keys.model_fields)] for keys in (file_keys(run), compare_keys(run))]
        found: dict[tuple[int | str, ...], list[dict[str, Any]]] = {}
        for mistake in error.errors():
            found.setdefault(tuple(_place(mistake["loc"], tables)), []).append(dict(mistake))
        for key, several in found.items():
            extra = several[0]["type"] == "extra_forbidden"
            what = unknown("key", key[-1], known[len(key) > 1]) if extra else phrases(several)
            yield f"{'.'.join(map(str, key))}: {what}"


def _place(loc: tuple[int | str, ...], value: Any) -> Iterator[int | str]:
    """Where a mistake is, without the types that were tried there."""
    for key in loc:
        if isinstance(value, Mapping):
            yield key
            value = value.get(key)
        elif isinstance(value, list) and isinstance(key, int):
            yield key
            value = value[key]

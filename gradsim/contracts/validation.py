"""Values checked against annotations, and what is wrong with them in words."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any, get_type_hints

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError, create_model


def validated(cls: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """The values of all fields of a dataclass, as their annotations have them.

    Raises
    ------
    ValidationError
        Of pydantic, with every mistake; see `phrases`.
    """
    checked = _model(cls)(**{name: _plain(value) for name, value in given.items()})
    return {name: getattr(checked, name) for name in given}


def mistakes(cls: type, given: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with some values of the fields of a dataclass: dotted key -> phrase."""
    try:
        validated(cls, given)
    except ValidationError as error:
        return {where: what for where, what in phrases(error) if where.split(".")[0] in given}
    return {}


def phrases(error: ValidationError) -> Iterator[tuple[str, str]]:
    """(dotted key, what is wrong with it, and the value that was given) for each mistake of a validation."""
    for mistake in error.errors():
        yield ".".join(map(str, mistake["loc"])), phrase(**mistake)


def phrase(*, type: str, msg: str, input: Any, **_: Any) -> str:
    """One mistake of a validation in words."""
    match type:
        case "missing":
            return "is missing"
        case "model_type":
            return f'should be a table with a name, such as {{ name = "..." }} (got {input!r})'
        case "dict_type":
            return f"should be a table (got {input!r})"
        case "tuple_type" | "list_type":
            return f"should be a list (got {input!r})"
        case "too_short":
            return f"should not be empty (got {input!r})"
        case "string_pattern_mismatch":
            return f"should be made of letters, digits and . _ - to name a folder (got {input!r})"
    what = msg.removeprefix("Input ").removeprefix("Value error, ")
    return f"{what[:1].lower()}{what[1:]} (got {input!r})"


@functools.cache
def _model(cls: type) -> type[BaseModel]:
    hints = get_type_hints(cls, include_extras=True)
    fields: Any = {f.name: (hints[f.name], ...) for f in dataclasses.fields(cls)}
    config = ConfigDict(strict=True, arbitrary_types_allowed=True, allow_inf_nan=False)
    return create_model(cls.__name__, __config__=config, **fields)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value

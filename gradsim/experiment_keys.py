"""The keys of an experiment file, and what is wrong with those of a given one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveInt, StringConstraints, ValidationError

from gradsim.errors import unknown

FolderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$")]


class Keys(BaseModel):
    """Types are strict, because TOML has types of its own."""

    model_config = ConfigDict(extra="forbid", strict=True)


class PluginKeys(BaseModel):
    """A plugin by name; the other keys are its parameters."""

    model_config = ConfigDict(extra="allow", strict=True)

    name: str


class PairsKeys(Keys):
    """Which products are recorded; see `gradsim.Pairs`."""

    times: list[int] | None = None
    sources: list[int] | None = None
    max_lag: NonNegativeInt | None = None
    lags: list[int] | None = None


class RunKeys(Keys):
    """What decides the numbers of one run."""

    task: PluginKeys
    cell: PluginKeys
    mitigations: list[PluginKeys] | None = None
    record: list[str] | None = None
    pairs: PairsKeys | None = None
    seed: NonNegativeInt = 0
    batch: PositiveInt = 1
    dtype: Literal["float32", "float64"] = "float64"


class CompareKeys(Keys):
    """A further run: what is given here replaces that part of the main one.

    A cell or task without a name is that of the main run with these parameters changed.
    """

    label: FolderName
    task: dict[str, Any] | None = None
    cell: dict[str, Any] | None = None
    mitigations: list[PluginKeys] | None = None
    record: list[str] | None = None
    pairs: PairsKeys | None = None
    seed: NonNegativeInt | None = None
    batch: PositiveInt | None = None
    dtype: Literal["float32", "float64"] | None = None


class ExperimentKeys(RunKeys):
    """A whole file."""

    name: FolderName | None = None
    label: FolderName | None = None
    compare: list[CompareKeys] | None = None


def mistaken_keys(tables: Mapping[str, Any]) -> Iterator[str]:
    """One line for each key that is unknown, missing or of the wrong type."""
    try:
        ExperimentKeys.model_validate(dict(tables))
    except ValidationError as error:
        for key, what in phrases(error):
            yield f"{key}: {what}"


def phrases(error: ValidationError) -> Iterator[tuple[str, str]]:
    """(key, what is wrong with it) for each mistake of a validation."""
    for mistake in error.errors():
        yield ".".join(str(part) for part in mistake["loc"]), _phrase(**mistake)


def _phrase(type: str, loc: tuple[int | str, ...], msg: str, input: Any, **_: Any) -> str:
    if type == "extra_forbidden":
        return str(unknown("key", loc[-1], _known_at(loc)))
    if type == "missing":
        return "is missing"
    if type in ("model_type", "dict_type"):
        return f'should be a table with a name, such as {{ name = "..." }} (got {input!r})'
    if type == "string_pattern_mismatch":
        return f"should be made of letters, digits and . _ - to name a folder (got {input!r})"
    what = msg.removeprefix("Input ").removeprefix("Value error, ")
    return f"{what[:1].lower()}{what[1:]} (got {input!r})"


def _known_at(loc: tuple[int | str, ...]) -> Mapping[str, Any]:
    if "pairs" in loc[:-1]:
        return PairsKeys.model_fields
    return (CompareKeys if len(loc) > 1 else ExperimentKeys).model_fields

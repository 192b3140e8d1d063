"""What all plugins share: a name and validated parameters."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, get_args, get_type_hints

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from gradsim.errors import InputError, unknown


class Plugin:
    """A frozen dataclass (``eq=False``) whose fields are its parameters.

    Every field is validated against its annotation when the object is made, and all mistakes are
    reported at once. ``name`` is how the plugin is found: lower case, words joined by ``_``.

    Raises
    ------
    InputError
        One or more parameters have the wrong type or are out of range.
    """

    name: ClassVar[str]

    def __post_init__(self) -> None:
        given = {f.name: _plain(getattr(self, f.name)) for f in dataclasses.fields(self)}  # type: ignore[arg-type]
        try:
            checked = _model(type(self))(**given)  # type: ignore[arg-type]
        except ValidationError as error:
            raise InputError(describe(type(self).__name__, error)) from None
        for key in given:
            object.__setattr__(self, key, getattr(checked, key))

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any]) -> Any:
        """Build the plugin from named parameters, as a TOML table, ``--set`` or `parameters` gives them.

        Lists are tuples. For a parameter that is a plugin itself, a table with its name and parameters
        stands for it, or the name alone.
        """
        fields = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
        for key in parameters:
            if key not in fields:
                raise unknown(f"parameter of {cls.name}", key, fields)
        required = {
            f.name
            for f in dataclasses.fields(cls)  # type: ignore[arg-type]
            if f.default is f.default_factory is dataclasses.MISSING
        }
        if missing := required - set(parameters):
            raise InputError(f"{cls.name} needs {', '.join(sorted(missing))}")
        hints = get_type_hints(cls)
        return cls(**{n: _built(n, v, plugin_class(hints[n])) for n, v in parameters.items()})

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters as plain values, for provenance; `from_parameters` takes them."""
        return {f.name: _described(getattr(self, f.name)) for f in dataclasses.fields(self)}  # type: ignore[arg-type]


def call_with(function: Callable[..., Any], **offered: Any) -> Any:
    """Call a function with those of the offered arguments that it names, as a hook is called."""
    parameters = inspect.signature(function).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return function(**offered)
    return function(**{name: value for name, value in offered.items() if name in parameters})


def plugin_class(hint: Any) -> type[Plugin] | None:
    """The class of plugins in an annotation, such as `Schedule | None` or `tuple[Cell, ...]`."""
    if isinstance(hint, type) and issubclass(hint, Plugin):
        return hint
    return next(filter(None, map(plugin_class, get_args(hint))), None)


def _built(parameter: str, value: Any, cls: type[Plugin] | None) -> Any:
    from gradsim.contracts import registry  # which knows the names, and needs this module

    if isinstance(value, list):
        return tuple(_built(parameter, item, cls) for item in value)
    if cls is None or not isinstance(value, str | dict):
        return value
    try:
        return registry.rebuild(registry.family_of(cls), {"name": value} if isinstance(value, str) else value)
    except InputError as error:
        raise InputError(f"{parameter}: {error}") from None


def describe(owner: str, error: ValidationError) -> str:
    """All mistakes of a validation, one phrase each, with the value that was given."""
    return f"{owner}: " + "; ".join(_phrases(error))


def _phrases(error: ValidationError) -> Iterable[str]:
    for mistake in error.errors():
        where = ".".join(str(part) for part in mistake["loc"])
        what = mistake["msg"].removeprefix("Input should ").removeprefix("Value error, ")
        yield f"{where} should {what} (got {mistake['input']!r})"


@functools.cache
def _model(cls: type) -> type[BaseModel]:
    hints = get_type_hints(cls, include_extras=True)
    fields: Any = {f.name: (hints[f.name], ...) for f in dataclasses.fields(cls)}
    config = ConfigDict(strict=True, arbitrary_types_allowed=True, allow_inf_nan=False)
    return create_model(cls.__name__, __config__=config, **fields)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _described(value: Any) -> Any:
    match value:
        case Plugin():
            return {"name": value.name, **value.parameters}
        case np.ndarray():
            return f"array of shape {value.shape}, dtype {value.dtype}"
        case list() | tuple():
            return [_described(item) for item in value]
        case dict():
            return {str(key): _described(item) for key, item in value.items()}
        case None | bool() | int() | float() | str():
            return value
    return repr(value)

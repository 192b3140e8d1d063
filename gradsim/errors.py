"""Every error and warning that gradsim raises on purpose."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class GradsimError(Exception):
    """Base of every error that gradsim raises on purpose."""


class InputError(GradsimError, ValueError):
    """An argument does not fit: the message names it, its value and the fix."""


class UnknownNameError(GradsimError, LookupError):
    """A name that nobody provides: the message offers the nearest known one."""


class PluginError(GradsimError):
    """A plugin breaks its contract: the message names the plugin and the rule."""


class TracingError(PluginError):
    """A `step` or `output` cannot be differentiated; who called it knows whose it is, and says so."""


class DerivativeError(PluginError):
    """A derivative disagrees with central differences of `step`."""


class NonFiniteError(GradsimError, ArithmeticError):
    """NaN or infinity appeared: the message says where first."""


class BudgetError(GradsimError, MemoryError):
    """A run needs more memory or disk than there is."""


class StoreError(GradsimError, OSError):
    """A run folder cannot be made, written or read."""


class DivergedError(NonFiniteError):
    """A training met NaN or infinity: the message says at which update, and where it began."""


class ChangedRunError(GradsimError):
    """A run that should go on was begun with another configuration or other code: the message says what."""


class IncompleteRunError(StoreError):
    """A run folder whose run did not finish."""


class OutOfRangeWarning(UserWarning):
    """Some values of a variable are too large for its dtype and infinite; a log10 twin holds their size."""


class PluginWarning(UserWarning):
    """An installed plugin could not be used; the others work."""


_LONG = 200
"""Characters of a value that a message has room for."""

_ROOM = 4000
"""Characters of a list of names: more than all plugins have, and less than a model of 100 layers has."""


def unknown(kind: str, name: object, known: Iterable[str]) -> UnknownNameError:
    """Make the error for an unknown name, with the nearest known one and the whole list."""
    names = sorted(known)
    by_lower = {n.lower(): n for n in names}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1) if isinstance(name, str) else []
    hint = f"; did you mean {by_lower[near[0]]!r}?" if near else "."
    return UnknownNameError(f"unknown {kind} {shown(name)}{hint} Known: {listed(names)}")


def listed(names: Iterable[str]) -> str:
    """Names in a message, as many as there is room for."""
    text = ", ".join(names) or "none"
    return text if len(text) <= _ROOM else f"{text[:_ROOM]}..."


_AS_MANY = "a unit gets as many sums as its cell has in `sums`, and as many blocks as `blocks` names"
_CURES = {
    "read-only": "what it is given must not be changed: compute a new array instead",
    "truth value of an array": "choose unit by unit, with xp.where(condition, this, that)",
    "boolean conversion of traced": "choose unit by unit, with xp.where(condition, this, that)",
    "real number, not 'ArrayBox'": "leave out float() and int(): what xp computes stays an array",
    "support item assignment": "make a new array, by xp.where or xp.concat, in place of writing into one",
    "values to unpack": _AS_MANY,
    "tuple index out of range": _AS_MANY,
    "setting an array element": "make a new array, by xp.stack or xp.concat, in place of writing into one",
}


def cure(error: Exception) -> str:
    """What to do about an error whose words say too little, as the end of a sentence."""
    return next((f"; {cure}" for symptom, cure in _CURES.items() if symptom in str(error)), "")


def shown(value: object) -> str:
    """A value in a message: arrays by their shape, what is long or cannot be written in short."""
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape and dtype is not None and not isinstance(value, type):
        return f"{type(value).__name__} of shape {shape}, dtype {dtype}"
    if isinstance(value, int) and abs(value) >= 10**50:
        return f"an int of {value.bit_length()} bits"
    try:
        text = repr(value)
    except Exception:
        return f"a {type(value).__name__}"
    return short(text)


def short(text: str) -> str:
    """The beginning of a text that is long."""
    first = text.partition("\n")[0][:_LONG]
    return text if first == text else f"{first}..."

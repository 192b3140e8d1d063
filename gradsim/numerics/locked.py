"""Arrays that are handed out to be read only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gradsim.types import Array


def locked(value: Any) -> Array:
    """A view that nobody can write to; the array itself stays as it is."""
    view = np.asarray(value).view()
    view.flags.writeable = False
    return view


def all_locked(values: Mapping[Any, Any]) -> dict[Any, Array]:
    """Such views of named arrays."""
    return {name: locked(value) for name, value in values.items()}

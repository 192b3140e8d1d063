"""What a training needs to go on where it stopped, in one file that is replaced in one go."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from gradsim.data.files import plain, replacing
from gradsim.data.store import CHECKPOINT, reading
from gradsim.loading.files import npz_arrays
from gradsim.types import Array


@dataclass
class State:
    """Where a training stands after `update` updates; random numbers follow from the seed and the update.

    `vector`: all parameters; `slots`: what the optimizer remembers; `memory`: what the mitigations do;
    `carried` (batch, m): the state that a stateful training carries to the next batch; `loss` and `penalty`:
    of the last update. `best_...`: of the validation with the lowest loss, `worse` validations ago. `ended`:
    why the training is over; empty while it is not.
    """

    vector: Array
    slots: dict[str, Array]
    carried: Array
    best_vector: Array
    update: int = 0
    loss: float = np.nan
    penalty: float = 0.0
    best_loss: float = np.inf
    best_update: int = 0
    worse: int = 0
    ended: str = ""
    memory: dict[str, Array] = field(default_factory=dict)
    rows: dict[str, Array] = field(default_factory=dict)
    """Values on their way into the dataset; see `History`."""


_TABLES = ("slots", "memory", "rows")


def save(folder: Path, state: State) -> None:
    """Replace the checkpoint; a reader sees the old one or the new one, whatever happens."""
    flat: dict[str, Any] = {}
    for f in fields(State):
        value = getattr(state, f.name)
        flat |= {f"{f.name}/{n}": x for n, x in value.items()} if f.name in _TABLES else {f.name: value}
    with replacing(folder / CHECKPOINT) as file:
        np.savez(file, **flat)


def load(folder: Path) -> State | None:
    """The last checkpoint; None if there is none yet.

    Raises
    ------
    StoreError
        It cannot be read.
    """
    try:
        with reading(folder / CHECKPOINT, FileNotFoundError), plain(folder / CHECKPOINT) as file:
            return _state({name: array.copy() for name, array in npz_arrays(file).items()})
    except FileNotFoundError:
        return None


def _state(flat: dict[str, Array]) -> State:
    found: dict[str, Any] = {name: {} for name in _TABLES}
    for key, value in flat.items():
        name, inner, part = key.partition("/")
        if inner:
            found[name][part] = value
        else:
            found[name] = value if value.ndim else value.item()
    return State(**found)

"""The contract of a layout: how a library names and orders the weights of a recurrent network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from gradsim.contracts.cell import Cell
from gradsim.contracts.plugin import Plugin
from gradsim.contracts.validation import unmasked
from gradsim.errors import InputError, listed, short, unknown
from gradsim.types import Array, Params


class Model(NamedTuple):
    """A cell and its parameters, as `simulate(cell, ..., params=params)` takes them."""

    cell: Cell
    params: Params


class Arrays(Mapping[str, Array]):
    """Named arrays of a model from elsewhere, all of which are to be taken."""

    def __init__(self, arrays: Mapping[str, Array], about: str) -> None:
        self._arrays, self._about = dict(arrays), about
        self._taken: set[str] = set()

    def __getitem__(self, name: str) -> Array:
        """The array of this name, float64; it counts as taken.

        Raises
        ------
        UnknownNameError
            There is none.
        InputError
            It has no entries, is a single number, or is not made of finite real numbers.
        """
        if name not in self._arrays:
            raise unknown(f"weight of {self._about}", name, self._arrays)
        self._taken.add(name)
        value = self._arrays[name]
        try:
            array = np.asarray(unmasked(value))
        except Exception as error:  # rows of several lengths, or an object of another library
            raise InputError(f"{self._about}: {name} is no array: {short(str(error))}") from error
        if array.ndim == 0 or array.size == 0 or array.dtype.kind not in "biuf":
            raise InputError(
                f"{self._about}: {name} is of shape {array.shape} and dtype {array.dtype}, where an array of "
                "real numbers is needed"
            )
        with np.errstate(over="ignore"):  # which is told below
            array = array.astype(np.float64)
        if not (good := np.isfinite(array)).all():
            place = tuple(np.argwhere(~good)[0].tolist())
            raise InputError(f"{self._about}: {name} is {array[place]} at index {place}; weights are finite")
        return array

    def __contains__(self, name: object) -> bool:
        return name in self._arrays

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def take(self, name: str, shape: tuple[int, ...]) -> Array:
        """The array of this name, which has to have this shape."""
        array = self[name]
        if array.shape != shape:
            raise InputError(f"{self._about}: {name} has shape {array.shape}, where {shape} is needed")
        return array

    def refuse_rest(self) -> None:
        """Raise if some have not been taken."""
        if rest := [n for n in self._arrays if n not in self._taken]:
            raise InputError(
                f"{self._about}: {listed(rest)} would not be used; leave them out, or take another layout"
            )


class Layout(Plugin, ABC):
    """How a library names and orders the weights of a recurrent network, layer by layer.

    A concrete layout is a frozen dataclass (``eq=False``) that gives `name` and `model`. Its fields are what
    cannot be seen from the arrays, such as an activation.
    """

    @abstractmethod
    def model(self, arrays: Arrays) -> Model:
        """The cell and its parameters, of named arrays in the layout of the library."""

"""The contract of an initializer: how weights, biases or eigenvalues start."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gradsim.contracts.plugin import Plugin
from gradsim.errors import InputError
from gradsim.types import Array


class Initializer(Plugin):
    """How parameters are drawn before anything is learnt.

    A concrete one is a frozen dataclass (``eq=False``) that gives `name` and one or more of `weight`, `bias`
    and `eigenvalues`; a cell asks for what it needs. All arrays are float64, and all randomness is that of
    `rng`.
    """

    def weight(self, rng: np.random.Generator, shape: tuple[int, int, int]) -> Array:
        """`shape` (r, n, columns): r weights, each of which takes vectors of length `columns` to n units."""
        raise self._cannot("weight")

    def bias(self, rng: np.random.Generator, shape: tuple[int, int], keeps: Sequence[int] | None) -> Array:
        """`shape` (r, n): r biases of n units each.

        `keeps` tells for each of the r whether it belongs to a gate that keeps the state (1), one that admits
        something new (-1), or to something else (0); it is None where that is told of another bias only.
        """
        raise self._cannot("bias")

    def eigenvalues(self, rng: np.random.Generator, n: int) -> Array:
        """Complex eigenvalues (n) of a diagonal recurrence in discrete time."""
        raise self._cannot("eigenvalues")

    def rates(self, rng: np.random.Generator, n: int) -> Array:
        """The same (n) in continuous time: their logarithms.

        One that knows more of them overrides it: a turn by more than pi in a step is lost in `eigenvalues`.
        """
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(self.eigenvalues(rng, n)))

    def _cannot(self, what: str) -> InputError:
        able = [n for n in _WAYS if getattr(type(self), n) is not getattr(Initializer, n)]
        return InputError(
            f"{self!r} draws no {_WAYS[what]}; it draws {' and '.join(_WAYS[n] for n in able) or 'nothing'}"
        )


_WAYS = {"weight": "weights", "bias": "biases", "eigenvalues": "eigenvalues"}

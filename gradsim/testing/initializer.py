"""The checks of an initializer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gradsim.contracts.initializer import Initializer
from gradsim.errors import InputError
from gradsim.testing import common
from gradsim.testing.kit import Bench, Checks, no_global_randomness
from gradsim.types import Array

CHECKS = Checks(common.CHECKS)

_Draw = Callable[[np.random.Generator], Array]

_WEIGHTS = ((1, 4, 4), (3, 4, 4), (2, 5, 3), (1, 3, 5), (1, 1, 1))
"""Numbers of weights, rows and columns."""

_BIASES = (((1, 4), (1,)), ((3, 4), (-1, 1, 0)), ((3, 4), None))
"""Numbers of biases and units, and which of them hold the state."""


class InitializerBench(Bench):
    """An initializer at weights, biases and eigenvalues of several sizes."""

    family = "initializers"

    def __init__(self, initializer: Initializer) -> None:
        super().__init__(initializer)
        self.initializer = initializer

    @property
    def draws(self) -> list[tuple[str, tuple[int, ...], _Draw]]:
        """(what, shape, how) of all that it draws."""
        given = self.initializer
        all_of_them: list[tuple[str, tuple[int, ...], _Draw]] = [
            *(("weight", s, lambda rng, s=s: given.weight(rng, s)) for s in _WEIGHTS),
            *(("bias", s, lambda rng, s=s, h=h: given.bias(rng, s, h)) for s, h in _BIASES),
            *(("eigenvalues", (n,), lambda rng, n=n: given.eigenvalues(rng, n)) for n in (1, 5)),
        ]
        own = {
            n
            for n in ("weight", "bias", "eigenvalues")
            if getattr(type(given), n) is not getattr(Initializer, n)
        }
        return [draw for draw in all_of_them if draw[0] in own]

    def arrays(self) -> list[tuple[str, tuple[int, ...], Array]]:
        """(what, shape, drawn); sizes that are refused are left out."""
        found = []
        for what, shape, draw in self.draws:
            try:
                found.append((f"{what} of shape {shape}", shape, draw(self.rng(what))))
            except InputError:
                continue
        return found


@CHECKS()
def draws_something(bench: InitializerBench) -> None:
    """It draws weights, biases or eigenvalues, of some size at least."""
    bench.expect(bench.arrays(), "it draws nothing; define weight, bias or eigenvalues")


@CHECKS("draws_something")
def finite_and_of_this_shape(bench: InitializerBench) -> None:
    """All is float64 or, of eigenvalues, complex; finite; and of the shape that is asked for."""
    for what, shape, drawn in bench.arrays():
        bench.expect(isinstance(drawn, np.ndarray), f"{what} is {drawn!r}; it should be an array")
        kind = "complex128" if what.startswith("eigenvalues") else "float64"
        bench.expect(
            drawn.shape == shape and drawn.dtype == kind,
            f"{what} is drawn as {drawn.dtype} of shape {drawn.shape}; it should be {kind} of shape {shape}",
        )
        bench.expect(np.isfinite(drawn).all(), f"{what} is not finite")


@CHECKS("finite_and_of_this_shape")
def all_randomness_is_of_the_rng(bench: InitializerBench) -> None:
    """The same rng gives the same, and arrays that are nobody else's."""
    with no_global_randomness(bench, "drawing"):
        one, other = bench.arrays(), bench.arrays()
    for (what, _, a), (_, _, b) in zip(one, other, strict=True):
        bench.expect(np.array_equal(a, b), f"{what} differs when it is drawn again from the same rng")
        bench.expect(not np.shares_memory(a, b) and a.flags.writeable, f"{what} is the same array each time")

"""Variables of sizes that may leave the range of float64: the size and its log10."""

from __future__ import annotations

from gradsim import Variable
from gradsim.numerics.scaled import Scaled
from gradsim.types import Array


def sized(name: str, dims: tuple[str, ...], long_name: str) -> tuple[Variable, Variable]:
    """A size in float64, 0 or infinite where that cannot hold it, and its log10, which can."""
    return (
        Variable(name, dims, long_name, dtype="float64"),
        Variable(f"{name}_log10", dims, f"log10 of the {long_name}", dtype="float64"),
    )


def both(name: str, size: Scaled) -> dict[str, Array | Scaled]:
    """The values of the two."""
    return {name: size, f"{name}_log10": size.log10}

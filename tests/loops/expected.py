"""What a variable should be: values, the axes of one vector or matrix, the kind of number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from loops.reference import log10


@dataclass
class Expected:
    """`axes`: those of one vector or matrix, whose components are compared relative to the largest.

    `scale`, of the shape of the values, where sums of large terms may be small: the sizes of the terms.
    """

    values: Any
    axes: tuple[int, ...] = ()
    kind: str = "plain"
    scale: Any = None


def sized(name, values, scale=None):
    logs = Expected(log10(values), kind="log10", scale=None if scale is None else log10(scale))
    return {name: Expected(values, scale=scale), f"{name}_log10": logs}

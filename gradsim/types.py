"""The few type names that the contracts are written in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

import numpy as np
from annotated_types import Ge, Gt, Interval
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Params: TypeAlias = dict[str, Array]
StepData: TypeAlias = Mapping[str, Array]
"""What varies by step besides state and inputs: named arrays, leading axes (time, batch)."""

PositiveInt = Annotated[int, Gt(0)]
NonNegativeInt = Annotated[int, Ge(0)]
PositiveFloat = Annotated[float, Gt(0)]
NonNegativeFloat = Annotated[float, Ge(0)]
Probability = Annotated[float, Interval(ge=0, le=1)]

FLOAT_DTYPES = (np.dtype("float32"), np.dtype("float64"))

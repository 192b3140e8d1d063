"""Where in a training a pass lies, and what mitigations remember from update to update."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from gradsim.errors import PluginError
from gradsim.types import Array

Memory = dict[str, Array]
"""What one mitigation remembers: named arrays, so that a checkpoint can hold them."""

Purpose = Literal["learn", "measure", "validate"]


@dataclass(frozen=True)
class Moment:
    """The place of one pass in a training; a simulation is a pass that measures, outside any training.

    `update`: the update that the pass makes, 1..`updates`, or the one after which it measures or
    validates; 0 before the first and outside a training. `purpose`: "learn" for a pass that makes an
    update, "measure" for a simulation or a probe, which runs as an update would and changes nothing,
    "validate" for a pass on sequences that are not trained on, where nothing is forced or dropped.
    """

    update: int = 0
    updates: int = 0
    purpose: Purpose = "measure"
    memories: Mapping[Any, Memory] = field(default_factory=dict)
    noted: dict[Any, Memory] = field(default_factory=dict, repr=False)

    @property
    def learning(self) -> bool:
        """Whether this pass makes an update; only then is anything remembered."""
        return self.purpose == "learn"

    @property
    def validating(self) -> bool:
        """Whether this pass is on sequences that are not trained on; what forces or drops is off then."""
        return self.purpose == "validate"

    def memory(self, mitigation: Any) -> Memory:
        """What a mitigation has remembered up to the update before: copies; empty at first."""
        return {name: value.copy() for name, value in self.memories.get(mitigation, {}).items()}

    def remember(self, mitigation: Any, **values: Any) -> None:
        """Keep named arrays for the updates that follow; nothing is kept unless this pass learns.

        Raises
        ------
        PluginError
            A value is no array of numbers.
        """
        if not self.learning:
            return
        for name, value in values.items():
            array = np.array(value)
            if array.dtype.kind not in "fiub":
                raise PluginError(
                    f"{mitigation!r} should remember numbers; {name} is {value!r}, of dtype {array.dtype}"
                )
            self.noted.setdefault(mitigation, {})[name] = array

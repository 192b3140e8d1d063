"""What a training records, measures and stops at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar, cast

from annotated_types import MinLen

from gradsim.contracts import registry
from gradsim.contracts.plugin import Plugin
from gradsim.contracts.problem import Pairs
from gradsim.contracts.recorder import Recorder
from gradsim.contracts.validation import constructed
from gradsim.types import PositiveInt


class Setting(Plugin):
    """What a training does besides training; given as an object, or a table of its parameters."""


@constructed
@dataclass(frozen=True, eq=False)
class Probe(Setting):
    """Recorders of a simulation, run on the same few sequences before the first and every so many updates.

    The sequences are those of the "validation" part of a finite task that has one, or drawn once.
    """

    name = "record"

    every: PositiveInt
    recorders: Annotated[tuple[str | Recorder, ...], MinLen(1)] = ("product_norm",)
    batch: PositiveInt = 1
    pairs: Pairs = field(default_factory=Pairs)

    @property
    def parameters(self) -> dict[str, Any]:
        """As plain values; `setting` takes them."""
        names = [r if isinstance(r, str) else r.full_name for r in self.recorders]
        return {**super().parameters, "recorders": names, "pairs": vars(self.pairs)}


@constructed
@dataclass(frozen=True, eq=False)
class Validation(Setting):
    """Loss and score on sequences that are not trained on, before the first and every so many updates.

    A finite task has them in its part "validation", of which the first `sequences` are taken, or all
    if None; of other tasks that many are drawn once, 1000 if None. What a finite task has in a part "test"
    is measured once, with the trained parameters: attributes `test_loss` and `test_score`.
    """

    name = "validate"

    every: PositiveInt
    sequences: PositiveInt | None = None


@constructed
@dataclass(frozen=True, eq=False)
class Stopping(Setting):
    """When a training ends before its last update, judged by its validations.

    - `score_above`, `loss_below`: the task is solved when the validation gets there;
    - `patience`: so many validations in a row without a lower loss. The parameters with the lowest
      validation loss are then the trained ones.
    """

    name = "stop"

    patience: PositiveInt | None = None
    score_above: float | None = None
    loss_below: float | None = None


S = TypeVar("S", bound=Setting)


def setting(cls: type[S], given: S | Mapping[str, Any] | None) -> S | None:
    """The setting, from an object or a table of its parameters."""
    if given is None or isinstance(given, cls):
        return given
    made: S = registry.with_parameters(cls, cast("Mapping[str, Any]", given))
    return made

"""One cell with one choice of mitigations, in a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gradsim.contracts import registry
from gradsim.contracts.cell import Cell
from gradsim.contracts.hooks import RunHooks
from gradsim.contracts.mitigation import Mitigation
from gradsim.contracts.recorder import Recorder
from gradsim.errors import InputError
from gradsim.run.arguments import why_not

NONE = "none"
"""The label of no mitigation at all, which is always among those that are compared."""

Record = Sequence[str | Recorder]


@dataclass(frozen=True)
class Member:
    """One cell with one choice of mitigations.

    `place`: where it lies along the dims of the comparison. `absent`: the recorders, by name, that do not
    exist of it, and why. `settings`: what `simulate` is given besides cell, seed and what to record.
    """

    place: Mapping[str, int]
    label: str
    cell: Cell
    mitigations: tuple[Mitigation, ...]
    absent: Mapping[str, str]
    settings: Mapping[str, Any]

    def recording(self, record: Record) -> dict[str, Any]:
        """Its settings, with what there is of these recorders."""
        there = [r for r in record if _full_name(r) not in self.absent]
        if self.absent and not there:
            raise InputError(next(iter(self.absent.values())))
        return {**self.settings, "record": there}


def left_out(record: Record, mitigations: Sequence[Mitigation]) -> dict[str, str]:
    """The recorders, by name, that do not exist with these mitigations, and why."""
    hooks = RunHooks(mitigations)
    known = registry.recorders()
    found = [known.get(r) if isinstance(r, str) else r for r in record]  # what is unknown is refused later
    reasons = {r.full_name: why_not(r, hooks) for r in found if isinstance(r, Recorder)}
    return {name: why for name, why in reasons.items() if why}


def _full_name(recorder: str | Recorder) -> str:
    return recorder if isinstance(recorder, str) else recorder.full_name

"""A simulation that has been checked, ready to be run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gradsim.contracts.problem import Problem
from gradsim.contracts.recorder import Variable
from gradsim.data import schema
from gradsim.data.schema import Frame
from gradsim.errors import InputError
from gradsim.machine.progress import Advance, unseen
from gradsim.numerics.autodiff import Provider
from gradsim.plan.plan import Plan
from gradsim.run.derivatives import Derivation
from gradsim.run.launch import Prepared, Running
from gradsim.run.recording import Recording
from gradsim.run.run import Run
from gradsim.run.setup import Setup


@dataclass(frozen=True)
class Simulation(Prepared):
    """A run that has been checked but not started: what `simulate` does, in two parts."""

    setup: Setup
    plan: Plan
    provenance: dict[str, Any]
    derivation: Derivation

    kind = "simulation"

    @property
    def provider(self) -> Provider:
        return self.derivation.provider

    @property
    def problem(self) -> Problem:
        return self.plan.problem

    def frame(self) -> Frame:
        return schema.frame(self.plan.problem)

    def variables(self) -> list[Variable]:
        return [variable for _, variable in self.plan.variables()]

    def chunks(self) -> Mapping[str, Mapping[str, int]]:
        return self.plan.chunks()

    @property
    def work(self) -> float:
        return sum(self.plan.flops().values())

    def refuse_beyond(self, memory: float | None, disk: float | None) -> None:
        self.plan.refuse_beyond(memory, disk)

    def execute(self, running: Running, advance: Advance) -> dict[str, Any]:
        if self.setup.inputs.shape[1] != self.problem.batch:
            raise InputError("what was prepared with tried=True can only be planned; prepare it without")

        def by_share(stage: str, share: float) -> None:
            advance(stage, share * self.plan.flops().get(stage, 0.0))

        seen = advance if advance is unseen else by_share
        with Recording(self.plan, running.sink, running.threads) as recording:
            run = Run(self.setup, self.plan, recording, running.sink, seen, running.memory)
            run.check()
            run.execute()
            recording.settle()
            advance("writing", 0.0)
        found = schema.dataset_attributes(self.provenance, run.loss, run.penalty) | run.recomputing
        if run.unchecked:
            found["derivatives_not_checked"] = f"{', '.join(run.unchecked)}: no smooth place was met"
        return found

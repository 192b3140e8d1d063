"""The kinds of experiment: a simulation, and a training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

from gradsim.contracts.cell import Cell
from gradsim.contracts.hooks import RunHooks
from gradsim.contracts.mitigation import Mitigation
from gradsim.contracts.optimizer import Optimizer
from gradsim.contracts.plugin import Plugin
from gradsim.contracts.problem import Pairs
from gradsim.contracts.task import FiniteTask, Task
from gradsim.errors import GradsimError
from gradsim.experiment.draft import ONE_OF, Draft
from gradsim.experiment.keys import RunKeys, SimulationKeys, TrainingKeys
from gradsim.simulation import Simulation, prepare
from gradsim.training.prepared import PreparedTraining
from gradsim.training.settings import Probe, Stopping, Validation
from gradsim.training.verb import prepare_training


@dataclass(frozen=True)
class Experiment(ABC):
    """One run of an experiment: what a verb takes, and what to call it.

    `keys`: what its tables may hold; `default`: the file of the built-in experiment.
    """

    name: str
    label: str
    cell: Cell
    task: Task
    mitigations: Sequence[Mitigation]
    seed: int
    batch: int
    dtype: str

    keys: ClassVar[type[RunKeys]]
    default: ClassVar[str]

    @classmethod
    @abstractmethod
    def parts(cls, draft: Draft) -> dict[str, Any]:
        """All arguments, except what the run is called."""

    @abstractmethod
    def prepare(self) -> Any:
        """Check it and plan it; an error names this run."""

    @contextmanager
    def named(self) -> Iterator[None]:
        """Let an error say which run it is of."""
        try:
            yield
        except GradsimError as error:
            raise type(error)(f"{self.name}: {error}") from error


RECORD = ("product_norm", "adjoint", "adjoint_norm", "gradient_norm", "loss", "lyapunov")
"""What is recorded when an experiment does not say; `default_record` adds what mitigations change."""


@dataclass(frozen=True)
class SimulationExperiment(Experiment):
    """What `gradsim.prepare` takes."""

    record: Sequence[str]
    pairs: Pairs | None

    keys = SimulationKeys
    default = "default.toml"

    @classmethod
    def parts(cls, draft: Draft) -> dict[str, Any]:
        """Its tables, as arguments."""
        world, record = draft.world(), draft.recorders(draft.tables.get("record"))
        return {
            **world,
            **draft.values(cls.keys, "seed", "dtype"),
            "batch": draft.tables.get("batch", 1),
            "record": default_record(world["mitigations"]) if record is None else record,
            "pairs": draft.pairs(draft.tables.get("pairs")),
        }

    def prepare(self) -> Simulation:
        """See `gradsim.prepare`."""
        with self.named():
            return prepare(
                self.cell,
                task=self.task,
                batch=self.batch,
                mitigations=self.mitigations,
                record=self.record,
                pairs=self.pairs,
                rng=self.seed,
                dtype=self.dtype,
                in_memory=False,
            )


def default_record(mitigations: Sequence[Mitigation]) -> list[str]:
    """What an experiment records unless it says otherwise: raw, and effective where that may differ."""
    used = RunHooks(mitigations).used
    found = list(RECORD)
    if used & {"gradsim_jacobians", "gradsim_adjoint", "gradsim_penalty", "gradsim_gradient"}:
        found += [f"effective_{n}" for n in ("adjoint", "adjoint_norm", "gradient_norm")]
    if "gradsim_adjoint" in used:
        found.append("effective_adjoint_factor")
    elif "gradsim_jacobians" in used:
        found.append("effective_product_norm")
    return found


@dataclass(frozen=True)
class TrainingExperiment(Experiment):
    """What `gradsim.train` takes."""

    optimizer: Optimizer
    updates: int | None
    epochs: int | None
    stateful: bool
    record: Probe | None
    validate: Validation | None
    stop: Stopping | None

    keys = TrainingKeys
    default = "default_training.toml"

    @classmethod
    def parts(cls, draft: Draft) -> dict[str, Any]:
        """Its tables, as arguments."""
        given = [key for key in ONE_OF if draft.tables.get(key) is not None]
        if len(given) != 1:
            draft.report(given[-1] if given else ONE_OF[0], "give updates or epochs: exactly one of the two")
        world = draft.world()
        return {
            **world,
            **draft.values(cls.keys, "seed", "dtype", *ONE_OF, "stateful"),
            "batch": draft.tables.get("batch", _usual_batch(world["task"])),
            "optimizer": draft.plugin("optimizer", "optimizers", draft.tables.get("optimizer")),
            "record": _setting(draft, Probe),
            "validate": _setting(draft, Validation),
            "stop": _setting(draft, Stopping),
        }

    def prepare(self) -> PreparedTraining:
        """See `gradsim.prepare_training`."""
        with self.named():
            return prepare_training(
                self.cell,
                self.task,
                optimizer=self.optimizer,
                updates=self.updates,
                epochs=self.epochs,
                batch=self.batch,
                mitigations=self.mitigations,
                stateful=self.stateful,
                record=self.record,
                validate=self.validate,
                stop=self.stop,
                rng=self.seed,
                dtype=self.dtype,
            )


def _usual_batch(task: Task | None) -> int:
    """32 sequences, or all where there are fewer."""
    return min(32, task.sequences["train"]) if isinstance(task, FiniteTask) else 32


def _setting(draft: Draft, cls: type[Plugin]) -> Any:
    table = draft.tables.get(cls.name)
    return draft.builder.built(cls.name, cls, table) if isinstance(table, Mapping) else None

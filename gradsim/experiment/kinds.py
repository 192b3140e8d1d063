"""The kinds of experiment: a simulation, a comparison, and a training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from gradsim.comparison.parameters import ComparisonParameters
from gradsim.comparison.verb import prepare_comparison
from gradsim.contracts.hooks import RunHooks
from gradsim.contracts.mitigation import Mitigation
from gradsim.contracts.task import FiniteTask
from gradsim.errors import GradsimError
from gradsim.experiment.draft import ONE_OF, Draft
from gradsim.experiment.keys import written
from gradsim.run.launch import Prepared
from gradsim.run.parameters import SimulationParameters
from gradsim.run.prepared import Simulation
from gradsim.simulation import prepare
from gradsim.training.parameters import TrainingParameters
from gradsim.training.verb import prepare_training


@dataclass(frozen=True)
class Kind:
    """A verb, as experiments know it.

    Parameters
    ----------
    name, command
        What errors call it, and the command that does it.
    parameters
        The list of its parameters, which its tables hold.
    prepare
        Takes them, and makes what is launched.
    tried
        Takes them, and makes what can be planned, without drawing much.
    default
        The file of the built-in experiment.
    completed
        Adds to the arguments of a run what an experiment leaves out, and reports what does not go together.
    """

    name: str
    command: str
    parameters: type
    prepare: Callable[..., Prepared]
    tried: Callable[..., Prepared]
    default: str
    completed: Callable[[Draft, Mapping[str, Any]], dict[str, Any]]

    def arguments(self, draft: Draft) -> dict[str, Any]:
        """All arguments of one run."""
        found = draft.arguments(self.parameters)
        return found | self.completed(draft, found)


@dataclass(frozen=True)
class Experiment:
    """One run of an experiment: what its verb takes, and what to call it."""

    name: str
    label: str
    kind: Kind
    arguments: Mapping[str, Any]

    def prepare(self, *, tried: bool = False) -> Prepared:
        """Check it and plan it, and draw what it needs unless it is `tried` only; an error names this run."""
        with self.named():
            return (self.kind.tried if tried else self.kind.prepare)(**self.arguments)

    @contextmanager
    def named(self) -> Iterator[None]:
        """Let an error say which run it is of."""
        try:
            yield
        except GradsimError as error:
            raise type(error)(f"{self.name}: {error}") from error


RECORD = ("product_norm", "adjoint", "adjoint_norm", "gradient_norm", "loss", "lyapunov")
"""What is recorded when an experiment does not say; `default_record` adds what mitigations change."""


def default_record(mitigations: Sequence[Mitigation]) -> list[str]:
    """What an experiment records unless it says otherwise: raw, and effective where that may differ."""
    used = RunHooks(mitigations).used
    found = list(RECORD)
    beside = ["effective_gradient_norm", "effective_gradient_factor", "gradient_bias", "gradient_cosine"]
    if "gradsim_rule" in used:  # it makes the gradient without adjoints
        return [*found, *beside]
    on_the_way = {"gradsim_jacobians", "gradsim_adjoint", "gradsim_contributions"}
    if used & {*on_the_way, "gradsim_penalty", "gradsim_gradient"}:
        found += ["effective_adjoint", "effective_adjoint_norm", *beside]
    if "gradsim_adjoint" in used:
        found.append("effective_adjoint_factor")
    elif "gradsim_jacobians" in used:
        found.append("effective_product_norm")
    return found


def _simulation(draft: Draft, found: Mapping[str, Any]) -> dict[str, Any]:
    if "record" in found:
        return {}
    return {"record": default_record(found.get("mitigations", ()))}


def _stored(**arguments: Any) -> Simulation:
    return prepare(**arguments, in_memory=False)


def _tried(**arguments: Any) -> Simulation:
    return prepare(**arguments, in_memory=False, tried=True)


def _training(draft: Draft, found: Mapping[str, Any]) -> dict[str, Any]:
    given = [key for key in ONE_OF if key in found]
    if len(given) != 1:
        draft.report(given[-1] if given else ONE_OF[0], "give updates or epochs: exactly one of the two")
    task: Any = found.get("task")
    small = "batch" not in found and isinstance(task, FiniteTask)
    return {"batch": min(32, task.sequences["train"])} if small else {}


SIMULATION = Kind("simulation", "run", SimulationParameters, _stored, _tried, "default.toml", _simulation)
TRAINING = Kind(
    "training",
    "train",
    TrainingParameters,
    prepare_training,
    prepare_training,
    "default_training.toml",
    _training,
)
COMPARISON = Kind(
    "comparison",
    "compare",
    ComparisonParameters,
    prepare_comparison,
    prepare_comparison,
    "default_comparison.toml",
    lambda draft, found: {},
)
KINDS = (SIMULATION, TRAINING, COMPARISON)


def marks(kind: Kind) -> list[str]:
    """The keys that tell a kind from a simulation."""
    return [key for key in written(kind.parameters) if key not in written(SIMULATION.parameters)]

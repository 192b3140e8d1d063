"""gradsim: how gradients travel through time in recurrent networks.

The public names are below; they are loaded when first used, so that ``gradsim --help`` is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from gradsim.contracts.cell import Cell, Wrapper, pick
    from gradsim.contracts.mitigation import BackwardJacobian, Mitigation, Pass, Penalty
    from gradsim.contracts.optimizer import Optimizer, Schedule
    from gradsim.contracts.problem import Pairs, Problem
    from gradsim.contracts.recorder import Recorder, Variable
    from gradsim.contracts.task import (
        Baseline,
        Episode,
        FiniteTask,
        Task,
        accuracy,
        cross_entropy,
        squared_error,
    )
    from gradsim.data.store import open_run
    from gradsim.simulation import prepare, simulate
    from gradsim.training.resuming import resume
    from gradsim.training.settings import Probe, Stopping, Validation
    from gradsim.training.trained import trained_params
    from gradsim.training.verb import prepare_training, train

hookimpl = pluggy.HookimplMarker("gradsim")

_WHERE = {
    "gradsim.contracts.cell": ("Cell", "Wrapper", "pick"),
    "gradsim.data.store": ("open_run",),
    "gradsim.contracts.mitigation": ("BackwardJacobian", "Mitigation", "Pass", "Penalty"),
    "gradsim.contracts.optimizer": ("Optimizer", "Schedule"),
    "gradsim.contracts.problem": ("Pairs", "Problem"),
    "gradsim.contracts.recorder": ("Recorder", "Variable"),
    "gradsim.simulation": ("prepare", "simulate"),
    "gradsim.contracts.task": (
        "Baseline",
        "Episode",
        "FiniteTask",
        "Task",
        "accuracy",
        "cross_entropy",
        "squared_error",
    ),
    "gradsim.training.settings": ("Probe", "Stopping", "Validation"),
    "gradsim.training.trained": ("trained_params",),
    "gradsim.training.resuming": ("resume",),
    "gradsim.training.verb": ("prepare_training", "train"),
}
_MODULE = {name: module for module, names in _WHERE.items() for name in names}

__all__ = [
    "BackwardJacobian",
    "Baseline",
    "Cell",
    "Episode",
    "FiniteTask",
    "Mitigation",
    "Optimizer",
    "Pairs",
    "Pass",
    "Penalty",
    "Probe",
    "Problem",
    "Recorder",
    "Schedule",
    "Stopping",
    "Task",
    "Validation",
    "Variable",
    "Wrapper",
    "accuracy",
    "cross_entropy",
    "hookimpl",
    "open_run",
    "pick",
    "prepare",
    "prepare_training",
    "resume",
    "simulate",
    "squared_error",
    "train",
    "trained_params",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE:
        raise AttributeError(f"module 'gradsim' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULE[name]), name)


def __dir__() -> list[str]:
    return __all__

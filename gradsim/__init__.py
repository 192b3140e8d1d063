"""gradsim: how gradients travel through time in recurrent networks.

The public names are below; they are loaded when first used, so that ``gradsim --help`` is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradsim.comparison.verb import compare, prepare_comparison
    from gradsim.contracts import (
        Baseline,
        Cell,
        Dense,
        Derived,
        Episode,
        FiniteTask,
        Initializer,
        Jacobians,
        Layout,
        Mitigation,
        Model,
        Moment,
        Optimizer,
        Pairs,
        Penalty,
        Problem,
        Recorder,
        Schedule,
        Task,
        Term,
        TorchCell,
        Trajectory,
        Variable,
        Weighted,
        Wrapper,
        accuracy,
        cross_entropy,
        detach,
        hookimpl,
        squared_error,
        surrogate,
        through,
    )
    from gradsim.data.store import open_run
    from gradsim.data.verify import verify
    from gradsim.loading.models import from_torch, load_weights
    from gradsim.run.matching import matched
    from gradsim.simulation import prepare, simulate
    from gradsim.training.resuming import resume
    from gradsim.training.settings import Probe, Stopping, Validation
    from gradsim.training.trained import trained_params
    from gradsim.training.verb import prepare_training, train

_WHERE = {
    "gradsim.comparison.verb": ("compare", "prepare_comparison"),
    "gradsim.data.store": ("open_run",),
    "gradsim.data.verify": ("verify",),
    "gradsim.loading.models": ("from_torch", "load_weights"),
    "gradsim.run.matching": ("matched",),
    "gradsim.simulation": ("prepare", "simulate"),
    "gradsim.training.settings": ("Probe", "Stopping", "Validation"),
    "gradsim.training.trained": ("trained_params",),
    "gradsim.training.resuming": ("resume",),
    "gradsim.training.verb": ("prepare_training", "train"),
}
"""What does not belong to the contracts."""

_MODULE = {name: module for module, names in _WHERE.items() for name in names}

__all__ = [
    "Baseline",
    "Cell",
    "Dense",
    "Derived",
    "Episode",
    "FiniteTask",
    "Initializer",
    "Jacobians",
    "Layout",
    "Mitigation",
    "Model",
    "Moment",
    "Optimizer",
    "Pairs",
    "Penalty",
    "Probe",
    "Problem",
    "Recorder",
    "Schedule",
    "Stopping",
    "Task",
    "Term",
    "TorchCell",
    "Trajectory",
    "Validation",
    "Variable",
    "Weighted",
    "Wrapper",
    "accuracy",
    "compare",
    "cross_entropy",
    "detach",
    "from_torch",
    "hookimpl",
    "load_weights",
    "matched",
    "open_run",
    "prepare",
    "prepare_comparison",
    "prepare_training",
    "resume",
    "simulate",
    "squared_error",
    "surrogate",
    "through",
    "train",
    "trained_params",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'gradsim' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULE.get(name, "gradsim.contracts")), name)


def __dir__() -> list[str]:
    return __all__

"""gradsim: how gradients travel through time in recurrent networks.

The public names are below; they are loaded when first used, so that ``gradsim --help`` is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from gradsim.cell import Cell, Wrapper, pick
    from gradsim.data.store import open_run
    from gradsim.mitigation import BackwardJacobian, Mitigation, Pass, Penalty
    from gradsim.problem import Pairs, Problem
    from gradsim.recorder import Recorder, Variable
    from gradsim.simulation import prepare, simulate
    from gradsim.task import Episode, Task, cross_entropy, squared_error

hookimpl = pluggy.HookimplMarker("gradsim")

_WHERE = {
    "gradsim.cell": ("Cell", "Wrapper", "pick"),
    "gradsim.data.store": ("open_run",),
    "gradsim.mitigation": ("BackwardJacobian", "Mitigation", "Pass", "Penalty"),
    "gradsim.problem": ("Pairs", "Problem"),
    "gradsim.recorder": ("Recorder", "Variable"),
    "gradsim.simulation": ("prepare", "simulate"),
    "gradsim.task": ("Episode", "Task", "cross_entropy", "squared_error"),
}
_MODULE = {name: module for module, names in _WHERE.items() for name in names}

__all__ = [
    "BackwardJacobian",
    "Cell",
    "Episode",
    "Mitigation",
    "Pairs",
    "Pass",
    "Penalty",
    "Problem",
    "Recorder",
    "Task",
    "Variable",
    "Wrapper",
    "cross_entropy",
    "hookimpl",
    "open_run",
    "pick",
    "prepare",
    "simulate",
    "squared_error",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE:
        raise AttributeError(f"module 'gradsim' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULE[name]), name)


def __dir__() -> list[str]:
    return __all__

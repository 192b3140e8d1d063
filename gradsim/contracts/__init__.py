"""What plugins stand on: the contract of each family, and the hooks of a run.

The names below are promised to authors of plugins; each is a name of `gradsim` as well. So are the pieces
that recorders are given, in `gradsim.contracts.pieces`, what slopes and kernels of dense cells are made of,
in `gradsim.contracts.dense`, the hooks in `gradsim.contracts.hookspecs`, the
types in `gradsim.types`, the errors in `gradsim.errors` and the conformance kit in `gradsim.testing`. Nothing
else is.
"""

from gradsim.contracts.cell import Cell
from gradsim.contracts.dense import Dense, Term
from gradsim.contracts.derived import Derived
from gradsim.contracts.hooks import hookimpl
from gradsim.contracts.initializer import Initializer
from gradsim.contracts.jacobians import Jacobians
from gradsim.contracts.layout import Layout, Model
from gradsim.contracts.mitigation import Mitigation, Penalty
from gradsim.contracts.moment import Moment
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
from gradsim.contracts.torch_cell import TorchCell
from gradsim.contracts.trajectory import Trajectory
from gradsim.contracts.weighted import Weighted
from gradsim.contracts.wrapper import Wrapper
from gradsim.numerics.autodiff.tags import detach, surrogate, through

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
    "Problem",
    "Recorder",
    "Schedule",
    "Task",
    "Term",
    "TorchCell",
    "Trajectory",
    "Variable",
    "Weighted",
    "Wrapper",
    "accuracy",
    "cross_entropy",
    "detach",
    "hookimpl",
    "squared_error",
    "surrogate",
    "through",
]

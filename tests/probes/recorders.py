"""Recorders written as somebody outside would."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Recorder, Variable
from gradsim.contracts.pieces import Adjoints, Contributions, Forward


@dataclass(frozen=True, eq=False)
class InputGradient(Recorder):
    """dL/dx_t, from the adjoint and the trajectory of each step."""

    name = "input_gradient"
    stream = Adjoints

    def dims(self, problem):
        return {"feature": np.arange(problem.cell.input_size)}

    def variables(self, problem):
        return (Variable("input_gradient", ("step", "batch", "feature"), "gradient dL/dx_t"),)

    def compute(self, piece):
        steps = len(piece.trajectory.steps)
        return {"input_gradient": piece.trajectory.inputs_vjp(piece.adjoint.value[-steps:])}


@dataclass(frozen=True, eq=False)
class RunningCosine(Recorder):
    """The cosine of the raw and the effective gradient as far as they have been added up, going back."""

    name = "running_cosine"
    stream = Contributions
    both = True

    def variables(self, problem):
        return (Variable("running_cosine", ("step",), "cosine of raw and effective gradient so far"),)

    def start(self, problem):
        return [0.0, 0.0]

    def compute(self, piece, carry):
        found = np.empty(len(piece.raw.trajectory.steps))
        flat = [
            np.concatenate([p.value.reshape(len(found), -1) for p in flow.parts.values()], axis=1)
            for flow in (piece.raw, piece.effective)
        ]
        for i in range(len(found) - 1, -1, -1):
            carry[:] = [total + by_step[i] for total, by_step in zip(carry, flat, strict=True)]
            found[i] = carry[0] @ carry[1] / np.linalg.norm(carry[0]) / np.linalg.norm(carry[1])
        return {"running_cosine": found}


@dataclass(frozen=True, eq=False)
class LargestState(Recorder):
    """The largest component of the state over the whole run: a reduction."""

    name = "largest_state"
    stream = Forward
    twin = False

    def variables(self, problem):
        return (Variable("largest_state", ("batch",), "largest component of the state"),)

    def start(self, problem):
        return np.zeros(problem.batch)

    def compute(self, piece, carry):
        np.maximum(carry, np.abs(piece.states).max(axis=(0, 2)), out=carry)
        return {}

    def finish(self, carry):
        return {"largest_state": carry}

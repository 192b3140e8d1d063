"""Recorders of the forward pass: states, losses, step Jacobians."""

from __future__ import annotations

from gradsim import Jacobians, Recorder, Variable
from gradsim.contracts.pieces import Forward, LossTerms


class StateRecorder(Recorder):
    """The state s_t, at every time."""

    name = "state"
    stream = Forward
    twin = False

    def variables(self, problem):
        return (Variable("state", ("time", "batch", "component"), "state s_t"),)

    def compute(self, piece):
        return {"state": piece.states}


class LossRecorder(Recorder):
    """The weighted loss of each step and batch element; their sum over the batch size is the loss."""

    name = "loss"
    stream = LossTerms
    twin = False

    def variables(self, problem):
        return (Variable("loss", ("step", "batch"), "weighted loss of a step"),)

    def compute(self, piece):
        return {"loss": piece.values}


class StepJacobianRecorder(Recorder):
    """The step Jacobian J_t = ds_t/ds_{t-1} of the joint state; only its diagonal blocks are kept."""

    name = "step_jacobian"
    stream = Jacobians

    def variables(self, problem):
        dims = ("step", "batch", *problem.matrix_dims)
        return (Variable("step_jacobian", dims, "step Jacobian ds_t/ds_{t-1}"),)

    def compute(self, piece):
        return {"step_jacobian": piece.blocks[:, :, 0] if piece.blocks.shape[2] == 1 else piece.blocks}

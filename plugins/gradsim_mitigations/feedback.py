"""Rules that carry influence within units, and random feedback, which is an option of theirs."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from gradsim import Mitigation, hookimpl
from gradsim.errors import InputError
from gradsim.numerics import autodiff
from gradsim_mitigations.influence import influence_bytes, influence_flops

READOUT = "readout_W"


@dataclass(frozen=True, eq=False)
class WithinUnits(Mitigation):
    """A rule that carries influence forward, each unit by itself.

    With ``feedback="random"`` errors reach the state by fixed random weights B, of the shape (output,
    features) of the readout's weights W and with entries N(0, 1 / features), in the place of W.
    """

    feedback: Literal["readout", "random"] = field(default="readout", kw_only=True)

    @abstractmethod
    def forward(self, trajectory):
        """The influence that it carries."""

    def refuse(self, shapes):
        if self.feedback == "random" and READOUT not in shapes:
            raise InputError(
                f"{self.name}: feedback='random' takes the place of the weights of a readout, and this run "
                "has none; give it a task with a readout, or feedback='readout'"
            )

    def draw(self, rng, shapes):
        if self.feedback == "readout":
            return {}
        return {"feedback": rng.standard_normal(shapes[READOUT]) / np.sqrt(shapes[READOUT][1])}

    def carry_bytes(self, problem):
        return influence_bytes(problem, min(len(problem.cell.blocks), problem.block))

    def flops(self, problem):
        return influence_flops(problem, min(len(problem.cell.blocks), problem.block))

    @hookimpl(wrapper=True)
    def gradsim_rule(self, trajectory, direct, errors, params, draws, moment):
        yield
        if self.feedback == "random":
            direct = self._fed_back(trajectory, direct, errors, params, draws, moment)
        return self.forward(trajectory).gradient(direct)

    def _fed_back(self, trajectory, direct, errors, params, draws, moment):
        """The derivatives q with B in the place of W: q_t + e_t (B - W) do_t/ds_t.

        e_t (output): the errors dL_t/dy_t; o_t (features): what the readout sees of s_t. A training remembers
        the B of its first update.
        """
        weights = moment.memory(self).get("feedback", draws[self]["feedback"])
        moment.remember(self, feedback=weights)
        seen = errors[1:] @ (weights - params[READOUT]).astype(errors.dtype)
        place = trajectory.params, trajectory.after, trajectory.inputs, seen, {}
        moved = autodiff.provider().state_vjp(trajectory.cell.output, *place)
        return direct + np.concatenate((np.zeros_like(moved[:1]), moved))

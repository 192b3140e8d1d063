"""A penalty on the size of step Jacobians."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Mitigation, hookimpl
from gradsim.contracts.trajectory import step_rows
from gradsim.types import NonNegativeFloat, NonNegativeInt
from gradsim_mitigations.costs import param_count, positions_flops
from gradsim_mitigations.parts import over_steps


@dataclass(frozen=True, eq=False)
class JacobianRegulariser(Mitigation):
    """Add (weight / 2) ||J_t||_F^2, averaged over the steps and the batch, to the loss.

    With `projections` = r > 0 it is estimated, without bias, by (m / r) sum ||v J_t||^2 over r random
    directions v (m), uniform on the unit sphere; 0 takes all of J_t. Its gradient goes through all that J_t
    depends on, the states too. A step that shrinks everything has the smallest penalty: what explodes is held
    back, and what vanishes is not.

    Hoffman, Roberts & Yaida (2019), Robust learning with Jacobian regularization, algorithm 1,
    where J is that of the output of a network by its input.
    """

    name = "jacobian_regulariser"
    idle = {"weight": 0.0}

    weight: NonNegativeFloat = 0.01
    projections: NonNegativeInt = 0

    def draw(self, rng, steps, batch, cell):
        if not self.projections:
            return {}
        drawn = rng.standard_normal((steps, batch, self.projections, cell.state_size))
        scale = np.sqrt(cell.state_size / self.projections)
        return {"directions": scale * drawn / np.linalg.norm(drawn, axis=-1, keepdims=True)}

    def flops(self, problem):
        return positions_flops(problem, 7.5 * ((self.projections or 1) + 1) * param_count(problem))

    @hookimpl(wrapper=True)
    def gradsim_penalty(self, trajectory, draws):
        penalty = yield
        steps, batch, _ = trajectory.before.shape
        scale = self.weight / (steps * batch)

        def whole(part):
            jacobian = part.call(part.cell.step_jacobian)
            return 0.5 * scale * np.sum(jacobian**2), *part.call(part.cell.jacobian_vjp, scale * jacobian)

        def projected(part):
            left = np.moveaxis(draws[self]["directions"][step_rows(part.steps)], 2, 0)
            right = np.stack([part.call(part.cell.state_vjp, v) for v in left])
            return 0.5 * scale * np.sum(right**2), *part.call(part.cell.bilinear_vjp, left, scale * right)

        if self.projections:
            return penalty + over_steps(trajectory, projected, self.projections)
        return penalty + over_steps(trajectory, whole, trajectory.cell.state_size)

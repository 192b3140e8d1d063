"""What the mitigations of a run make of its backward pass: their hooks, and the checks of the results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gradsim.contracts.hooks import RunHooks
from gradsim.contracts.mitigation import BackwardJacobian, Draws, Pass, Penalty, UnreadJacobian
from gradsim.contracts.recorder import Gradient
from gradsim.errors import NonFiniteError, PluginError
from gradsim.numerics.scaled import euclidean
from gradsim.types import Array, Params


@dataclass(frozen=True)
class Mitigated:
    """The hooks of one run. A hook that no mitigation implements is not called."""

    hooks: RunHooks
    run: Pass
    draws: Draws

    def jacobians(
        self, steps: range, given: BackwardJacobian, measured: Mapping[str, Array]
    ) -> BackwardJacobian:
        """The Jacobians that carry the adjoint back through some steps, and how far each loss reaches."""
        asked = self.hooks.uses("gradsim_backward_jacobian", "jacobian")
        changed = self.hooks(
            "gradsim_backward_jacobian",
            run=self.run,
            steps=steps,
            jacobian=given.blocks if asked else given,
            measured=measured,
            draws=self.draws,
        )
        if not isinstance(changed, BackwardJacobian):
            raise PluginError(
                f"gradsim_backward_jacobian should return a BackwardJacobian, not {type(changed).__name__}; "
                "use dataclasses.replace on what yield gave"
            )
        if isinstance(changed, UnreadJacobian) and changed.unread and len(changed.reach) == len(steps):
            return changed
        raw = given.blocks
        if changed.blocks.shape != raw.shape or changed.reach.shape != given.reach.shape:
            raise PluginError(
                f"gradsim_backward_jacobian returned blocks {changed.blocks.shape} and reach "
                f"{changed.reach.shape} where {raw.shape} and {given.reach.shape} are needed"
            )
        if not np.isfinite(changed.blocks).all():
            raise NonFiniteError("gradsim_backward_jacobian returned Jacobians that are not finite")
        return BackwardJacobian(changed.blocks.astype(raw.dtype, copy=False), changed.reach)

    def adjoint(self, time: int, adjoint: Array) -> Array:
        """The adjoint (batch, m) at one time."""
        adjoint.flags.writeable = False
        changed = self.hooks(
            "gradsim_backward_step", run=self.run, time=time, adjoint=adjoint, draws=self.draws
        )
        if np.shape(changed) != adjoint.shape:
            raise PluginError(
                f"gradsim_backward_step returned shape {np.shape(changed)} "
                f"for an adjoint of shape {adjoint.shape}"
            )
        return np.asarray(changed, dtype=adjoint.dtype)

    def penalty(
        self, adjoint: Array | None, jacobian: Array | None, measured: Mapping[str, Array]
    ) -> Penalty:
        """The terms added to the loss."""
        if not self.hooks.uses("gradsim_penalty"):
            return Penalty(0.0, {})
        penalty: Penalty = self.hooks(
            "gradsim_penalty",
            run=self.run,
            adjoint=adjoint,
            jacobian=jacobian,
            measured=measured,
            draws=self.draws,
        )
        shapes = {n: p.shape for n, p in self.run.params.items()}
        for name, value in penalty.gradient.items():
            if np.shape(value) != shapes.get(name):
                raise PluginError(
                    f"gradsim_penalty gives a gradient of {name!r} with shape {np.shape(value)}; "
                    f"the parameters have the shapes {shapes}"
                )
        states = penalty.state_gradient
        if states is not None and states.shape != self.run.states.shape:
            raise PluginError(
                f"gradsim_penalty gives a state_gradient of shape {states.shape} "
                f"where (time, batch, m) = {self.run.states.shape} is needed"
            )
        return penalty

    def gradient(self, values: Params) -> Gradient:
        """The gradient after the mitigations of the gradient."""
        if not self.hooks.uses("gradsim_backward"):
            return Gradient(values, 1.0)
        for array in values.values():
            array.flags.writeable = False
        changed = self.hooks("gradsim_backward", run=self.run, gradient=values, draws=self.draws)
        for name, value in values.items():
            if name not in changed or np.shape(changed[name]) != value.shape:
                raise PluginError(
                    f"gradsim_backward should return a gradient for {name!r} of shape {value.shape}"
                )
        before, after = _norm(values), _norm(changed)
        return Gradient(changed, after / before if before else 1.0, before)


def _norm(gradient: Params) -> float:
    return euclidean(np.array([euclidean(g) for g in gradient.values()]))

"""The raw and the mitigated way back: what carries adjoints through time, and what becomes of the gradient.

Every stage of the raw flow is the identity, so that the backward pass need not ask which one it serves.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np

from gradsim.contracts.hooks import RunHooks
from gradsim.contracts.jacobians import Jacobians
from gradsim.contracts.mitigation import Measured, Penalty
from gradsim.contracts.pieces import Gradient
from gradsim.contracts.plugin import calling
from gradsim.contracts.problem import Problem
from gradsim.contracts.returned import refuse_other_arrays
from gradsim.contracts.trajectory import Trajectory
from gradsim.engine.backward import Backward, Change, ThroughJacobians, after, plain
from gradsim.engine.carried import Carried
from gradsim.engine.derivatives import singular
from gradsim.engine.segments import jacobian_steps
from gradsim.errors import GradsimError, NonFiniteError, PluginError, unknown
from gradsim.numerics.locked import all_locked, locked
from gradsim.numerics.scaled import Scaled, add, euclidean
from gradsim.run.setup import Setup
from gradsim.types import Array, Params

_ALONE = np.zeros((), dtype=np.int32)
"""The exponent of an array that has none."""


class Flow(ABC):
    """One way back. `change` is what happens to the adjoint at each time, if anything does."""

    effective: bool
    change: Change | None = None

    @abstractmethod
    def jacobians(self, trajectory: Trajectory) -> Jacobians:
        """What carries adjoints back through these steps."""

    @abstractmethod
    def backward(self, back: Backward, trajectory: Trajectory, direct: Array) -> Iterator[Carried]:
        """Carry adjoints back through these steps, the last ones first."""

    def direct(self, steps: range, direct: Array) -> Array:
        """q, the direct derivative of the loss, at the times after these steps (rows 1, 2, ... of it)."""
        return direct

    def direct_at_start(self, zeros: Array) -> Array:
        """The same for the state at time 0, which no loss sees directly."""
        return zeros

    def contributions(self, trajectory: Trajectory, parts: dict[str, Scaled]) -> dict[str, Scaled]:
        """What enters the gradient at each of these steps."""
        return parts

    def of_lag(self, lag: int, parts: dict[str, Scaled]) -> dict[str, Scaled]:
        """The part of the gradient at one lag."""
        return parts

    def gradient(self, parts: dict[str, Scaled]) -> Gradient:
        """The gradient of the run."""
        return Gradient(parts, 1.0)


class Raw(Flow):
    """The dynamics itself, outside every hook. `kept`: all step Jacobians, once they have been made."""

    effective = False

    def __init__(self) -> None:
        self.kept: Jacobians | None = None

    def jacobians(self, trajectory: Trajectory) -> Jacobians:
        """The step Jacobians of the cell; all losses reach all the way."""
        steps, kept = trajectory.steps, self.kept
        if kept is not None:  # for products or a penalty: they are not made twice
            rows = slice(steps.start - kept.steps.start, steps.stop - kept.steps.start)
            return Jacobians(steps, kept.blocks[rows], own=True)
        return Jacobians(steps, lambda: _step_jacobian(trajectory), own=True)

    def backward(self, back: Backward, trajectory: Trajectory, direct: Array) -> Iterator[Carried]:
        """Through the steps as they are."""
        return back.through(trajectory, direct)


def _step_jacobian(trajectory: Trajectory) -> Array:
    cell = trajectory.cell
    with np.errstate(all="ignore"), calling(cell, "step_jacobian", trajectory.params):
        blocks: Array = trajectory.call(cell.step_jacobian)
    if not np.isfinite(blocks).all():
        t, b = (int(i) for i in np.argwhere(~np.isfinite(blocks))[0][:2])
        where = f"step {trajectory.first + t}, batch {b}"
        raise NonFiniteError(
            f"{cell!r}: the step Jacobian is not finite, first at {where}{singular(cell, 'step_jacobian')}"
        )
    blocks.flags.writeable = False
    return blocks


class Mitigated(Flow):
    """The way back as the mitigations of a run change it. A hook that none implements is not called."""

    effective = True

    def __init__(
        self, problem: Problem, raw: Raw, setup: Setup, whole: Trajectory, measured: Measured
    ) -> None:
        self.problem, self.raw, self.setup, self.whole = problem, raw, setup, whole
        self.hooks: RunHooks = setup.hooks
        self.measured, self.penalty = measured, Penalty(0.0, {})
        if self.hooks.uses("gradsim_adjoint"):
            self.change = self._adjoint

    def _hook(self, name: str, **arguments: Any) -> Any:
        return self.hooks(name, draws=self.setup.draws, moment=self.setup.moment, **arguments)

    def jacobians(self, trajectory: Trajectory) -> Jacobians:
        """The raw ones, as the mitigations that change them do."""
        return self._jacobians(trajectory, self.raw.jacobians(trajectory))

    def _jacobians(self, trajectory: Trajectory, given: Jacobians) -> Jacobians:
        if not self.hooks.uses("gradsim_jacobians"):
            return given
        changed: Jacobians = self._hook(
            "gradsim_jacobians", trajectory=trajectory, jacobians=given, measured=self.measured
        )
        if changed.own:  # only the reach has changed: nothing need be made
            return changed
        dtype = self.problem.dtype
        return Jacobians(trajectory.steps, lambda: locked(np.asarray(changed.blocks, dtype)), changed.reach)

    def backward(self, back: Backward, trajectory: Trajectory, direct: Array) -> Iterator[Carried]:
        """Through the steps by changed Jacobians, a few at a time; as it is where none has been changed."""
        if not self.hooks.uses("gradsim_jacobians"):
            yield from back.through(trajectory, direct)
            return
        # Asked of the last few steps first, so that a hook that reads Jacobians need not make all of them.
        ranges = jacobian_steps(trajectory.steps, self.problem)
        if self.jacobians(trajectory[ranges[-1]]).own:
            whole = self.jacobians(trajectory)
            if whole.own:
                yield from back.through(trajectory, direct, whole.reach)
                return
        reach, stop = np.zeros(len(trajectory.steps), dtype=np.int64), trajectory.steps.stop

        def through(here: Trajectory) -> Iterator[Carried]:
            rows = slice(here.first - trajectory.first, here.steps.stop - trajectory.first)
            return back.through(here, after(direct, rows), reach[rows])

        for steps in reversed(ranges):
            given = self.raw.jacobians(here := trajectory[steps])
            made = self._jacobians(here, given)
            reach[steps.start - trajectory.first : steps.stop - trajectory.first] = made.reach
            if made.same_as(given):
                continue  # they go the cell's own way, together with the steps before
            if later := range(steps.stop, stop):
                yield from through(trajectory[later])
            yield from through(ThroughJacobians.of(here, made.blocks))
            stop = steps.start
        if first := range(trajectory.first, stop):
            yield from through(trajectory[first])

    def _adjoint(self, trajectory: Trajectory, time: int, adjoint: Array) -> Array:
        changed = self._hook("gradsim_adjoint", trajectory=trajectory, time=time, adjoint=locked(adjoint))
        return np.asarray(changed, dtype=adjoint.dtype)

    def contributions(self, trajectory: Trajectory, parts: dict[str, Scaled]) -> dict[str, Scaled]:
        """Those of the cell and of the readout, as the mitigations change them; zeros for what is fixed.

        The same object if nothing is changed.
        """
        fixed = {n: _nothing(part) for n, part in parts.items() if self._is_fixed(n)}
        if not self.hooks.uses("gradsim_contributions"):
            return parts | fixed
        values = {n: plain(f"a contribution to {n}", part) for n, part in parts.items() if n not in fixed}
        given = all_locked(values)
        found = self._hook("gradsim_contributions", trajectory=trajectory, contributions=given)
        changed = {n: x for n, x in self._own(found).items() if not np.array_equal(x, values[n])}
        if not changed and not fixed:
            return parts
        return parts | fixed | {n: Scaled(x, _no_exponent(x)) for n, x in changed.items()}

    def find_penalty(self, adjoint: Array | None, jacobians: Jacobians | None) -> None:
        """Ask for the terms that are added to the loss."""
        if not self.hooks.uses("gradsim_penalty"):
            return
        if adjoint is not None and not np.isfinite(adjoint).all():
            raise NonFiniteError(
                f"{self.hooks.who('gradsim_penalty')} asks for the adjoint, which leaves the range of "
                f"{adjoint.dtype}; take fewer steps, smaller weights or dtype='float64'"
            )
        penalty: Penalty = self._hook(
            "gradsim_penalty",
            cell=self.setup.cell,
            trajectory=self.whole,
            params=dict(self.setup.all_params),
            episode=self.setup.episode,
            adjoint=None if adjoint is None else locked(adjoint),
            jacobians=jacobians,
            measured=self.measured,
        )
        p, who, states = self.problem, self.hooks.who("gradsim_penalty"), penalty.state_gradient
        for name, slope in penalty.gradient.items():
            if name not in p.param_shapes:
                raise PluginError(f"{who}: the gradient has an {unknown('parameter', name, p.param_shapes)}")
            if slope.shape != p.param_shapes[name]:
                raise PluginError(
                    f"{who}: the gradient of {name!r} has shape {slope.shape}, where "
                    f"{p.param_shapes[name]} is needed"
                )
        vectors = p.steps + 1, p.batch, p.cell.state_size
        if states is not None and states.shape != vectors:
            raise PluginError(
                f"{who}: state_gradient has shape {states.shape}, where (time, batch, m) = {vectors} is "
                "needed"
            )
        self.penalty = penalty

    def direct(self, steps: range, direct: Array) -> Array:
        """That of the loss, and that of the penalty."""
        if self.penalty.state_gradient is not None:
            direct[1:] += self.penalty.state_gradient[steps.start : steps.stop].astype(direct.dtype)
        return direct

    def direct_at_start(self, zeros: Array) -> Array:
        """That of the penalty."""
        states = self.penalty.state_gradient
        return zeros if states is None else states[0].astype(zeros.dtype)

    def of_lag(self, lag: int, parts: dict[str, Scaled]) -> dict[str, Scaled]:
        """Zeros for what is fixed; what a penalty adds at fixed states is of lag 0."""
        fixed, free = self._fixed_and_free(parts)
        return parts | fixed | ({} if lag else {n: self._penalised(n, part) for n, part in free.items()})

    def gradient(self, parts: dict[str, Scaled]) -> Gradient:
        """With the penalty, after the mitigations of the gradient, which see nothing of what is fixed."""
        fixed, free = self._fixed_and_free(parts)
        free = {n: self._penalised(n, part) for n, part in free.items()}
        if not self.hooks.uses("gradsim_gradient"):
            return Gradient(parts | fixed | free, 1.0)
        values = {n: plain(f"the gradient of {n}", part) for n, part in free.items()}
        changed = self._hook(
            "gradsim_gradient",
            gradient=all_locked(values),
            params=dict(self.setup.all_params),
            episode=self.setup.episode,
            trajectory=self.whole,
        )
        found = self._own(changed)
        before, size = euclidean(*values.values()), euclidean(*found.values())
        unchanged = 1.0 if before == size else np.inf
        factor = size / before if before else unchanged
        changed = {n: Scaled(x, _ALONE) for n, x in found.items() if not np.array_equal(x, values[n])}
        return Gradient(parts | fixed | free | changed, factor, before)

    def _fixed_and_free(self, parts: dict[str, Scaled]) -> tuple[dict[str, Scaled], dict[str, Scaled]]:
        """Zeros for what training leaves alone, and the rest."""
        fixed = {n: _nothing(part) for n, part in parts.items() if self._is_fixed(n)}
        return fixed, {n: part for n, part in parts.items() if n not in fixed}

    def _penalised(self, name: str, part: Scaled) -> Scaled:
        """What is added to the loss has a gradient, too."""
        if name not in self.penalty.gradient:
            return part
        added = np.asarray(self.penalty.gradient[name], dtype=part.mantissa.dtype)
        return add(part, Scaled(added, _ALONE), axis=None) if added.any() else part

    def _is_fixed(self, name: str) -> bool:
        """Whether training leaves this parameter alone."""
        return name in self.setup.cell.fixed

    def by_rule(self, direct: Array, errors: Array | None) -> Params:
        """The gradient of the parameters of the cell that a rule makes."""
        found: Params = self._hook(
            "gradsim_rule",
            trajectory=self.whole,
            direct=locked(direct),
            errors=None if errors is None else locked(errors),
            params=dict(self.setup.all_params),
        )
        try:
            refuse_other_arrays(self.setup.params, found)
        except GradsimError as error:
            advice = "; take fewer steps, smaller weights or dtype='float64'"
            more = advice if isinstance(error, NonFiniteError) else ""
            raise type(error)(f"{self.hooks.who('gradsim_rule')} {error}{more}") from None
        return self._own(found)

    def _own(self, found: Params) -> Params:
        """What mitigations return, in the dtype of the run."""
        return {n: np.asarray(x, dtype=self.problem.dtype) for n, x in found.items()}


def _nothing(part: Scaled) -> Scaled:
    return Scaled(np.zeros_like(part.mantissa), part.exponent)


def _no_exponent(value: Array) -> Array:
    return np.zeros((len(value), *(1,) * (value.ndim - 1)), dtype=np.int32)

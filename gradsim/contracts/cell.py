"""The contract of a recurrent cell, and the derivatives that it gets for free."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any, ClassVar

import numpy as np

from gradsim.contracts.compiled import CompiledSteps
from gradsim.contracts.evaluated import Evaluated
from gradsim.contracts.inherited import outlived
from gradsim.contracts.plugin import Plugin, parameters_of
from gradsim.contracts.start import Start
from gradsim.contracts.trajectory import Parallel, Trajectory
from gradsim.errors import unknown
from gradsim.numerics import autodiff
from gradsim.types import Array, Params, StepData


class Cell(Plugin, ABC):
    """One step of a recurrence, s_t = step(s_{t-1}, x_t; params).

    A concrete cell is a frozen dataclass that gives `name`, `input_size`, `blocks`, `init_params`
    and `step`; everything else has a default. The state is one vector of length m, in which the
    named blocks lie side by side.

    The step Jacobian is made of g diagonal blocks of size k x k, with m = g k: group j holds the
    components j, j+g, j+2g, ... of the state. A dense cell has g = 1 (the default), an elementwise
    one g = m, a complex diagonal one kept as blocks (real, imaginary) g = m/2.
    """

    input_size: int

    exact: ClassVar[bool] = True
    """False for a step whose backward pass is not its derivative on purpose, such as one with `surrogate`."""

    time_step: float | None = None
    """The time that one step takes, where the step integrates an equation in continuous time."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Leave behind the derivatives of a step that another one has replaced: the free ones are right."""
        super().__init_subclass__(**options)
        for name, instead in list(outlived(cls, Cell)):
            setattr(cls, name, instead)

    @property
    @abstractmethod
    def blocks(self) -> Mapping[str, int]:
        """The named blocks of the state and their sizes, in order."""

    @abstractmethod
    def init_params(self, rng: np.random.Generator) -> Params:
        """Draw the parameters: named float64 arrays."""

    @abstractmethod
    def step(self, params: Params, state: Any, inputs: Any, xp: Any) -> Any:
        """Advance the state by one step.

        Parameters
        ----------
        params
            Named arrays, as `init_params` shapes them.
        state
            Shape (..., m), any leading axes.
        inputs
            Shape (..., input_size), the same leading axes.
        xp
            The array namespace to compute with, by the names of the array API standard: `xp.concat`
            and not `concatenate`, `xp.tanh` and never `numpy.tanh`. It is NumPy in a run, and that of
            autograd while a derivative is traced.

        Further keyword-only parameters name the step data that the cell asks for: `step_index`
        (int, 1..T, shape (...)) is always there; `targets` and `weights` are those of the task; `draw`
        makes the others, or the task. Floats have the dtype of the state; integers and booleans belong
        into `xp.where`, as arithmetic with them would widen float32. In a pass that validates, the state
        must not depend on `targets`, which are the answers: a cell that is fed with them asks for an array
        of its own besides, which its `draw` makes 0 where ``moment.validating``. The readout is not at hand
        in a step: a cell that is fed with its own answers makes them itself, in `output`, for a task with
        ``readout = False``.

        Returns
        -------
        The new state, shape (..., m), dtype of `state`. The arguments must not be changed.
        """

    @cached_property
    def step_data(self) -> tuple[str, ...]:
        """The names of the step data that `step` asks for: its keyword-only parameters."""
        return keywords(self.step)

    def draw(self, rng: np.random.Generator, steps: int, batch: int) -> dict[str, Array]:
        """Draw, before the unroll, the random step data: arrays of shape (steps, batch, ...).

        A `draw` may name any of `rng`, `steps`, `batch`, `inputs` (steps, batch, input) and `moment`. One
        that is random has to name the `moment` to be validated: dropout and noise are off where
        ``moment.validating``, or there because they belong to the model.
        """
        return {}

    @property
    def jacobian_groups(self) -> int:
        """The number g of diagonal blocks of the step Jacobian."""
        return 1

    @property
    def output_blocks(self) -> tuple[str, ...]:
        """The blocks that a readout sees; the first one unless the cell says otherwise."""
        return (next(iter(self.blocks)),)

    @property
    def output_size(self) -> int:
        """The number of features that a readout sees; a cell with an `output` of another size says so."""
        return sum(self.blocks[name] for name in self.output_blocks)

    def output(self, params: Params, state: Any, inputs: Any, xp: Any) -> Any:
        """What a readout sees of the state s_t (..., m), shape (..., output_size): the output blocks.

        A cell whose output is something else, such as a gated state, overrides it, and nothing that is
        only there to be read has to be in the state. `inputs` are x_t, those of the step that made s_t. The
        rules are those of `step`; the derivatives come for free.
        """
        blocks = tuple(state[..., self.block(name)] for name in self.output_blocks)
        return blocks[0] if len(blocks) == 1 else xp.concat(blocks, axis=-1)

    @property
    def own_output(self) -> bool:
        """Whether a readout sees something else than blocks of the state."""
        return type(self).output is not Cell.output

    @property
    def recurrent_weights(self) -> tuple[str, ...]:
        """The parameters that multiply a block of the state, shape (rows * n, n); none by default."""
        return ()

    def factors(self, params: Params) -> dict[str, str]:
        """What parameters multiply: "x" the inputs, "h" the state or, of biases, "1"; of others nothing."""
        return dict.fromkeys((n for n in self.recurrent_weights if n in params), "h")

    def started(self, params: Params, rng: np.random.Generator, start: Start) -> Params:
        """Parameters, with those in place that start as told; all their `factors` say what they are."""
        told = {n: start.parameter(rng, params[n], "h") for n in self.factors(params)}
        return params | told

    @property
    def fixed(self) -> tuple[str, ...]:
        """The parameters that training leaves alone, such as those of a reservoir; none by default.

        Their gradients are recorded raw; their effective gradients are zero.
        """
        return ()

    @property
    def unused(self) -> Mapping[str, Array]:
        """Which numbers of parameters no step looks at, such as those behind a mask; none by default.

        Boolean arrays of the shapes of the parameters. They are drawn like the others, their gradients are
        zero, and where parameters are counted they are left out.
        """
        return {}

    @property
    def gates(self) -> Mapping[str, tuple[str, ...]]:
        """For parameters whose rows belong to gates, the gates, each with as many rows, in order."""
        return {}

    @property
    def paths(self) -> tuple[str, ...]:
        """The tags of `gradsim.through` in `step`, in the order in which `path_jacobians` opens them.

        A path within another comes after it: where it comes first its share is zero.
        """
        return ()

    @property
    def output_paths(self) -> tuple[str, ...]:
        """The tags of `gradsim.through` in `output`, which are paths of a cell that has this one inside."""
        return ()

    def initial_state(self) -> Array:
        """The state s_0 of a run that is given none, shape (m,): zeros."""
        return np.zeros(self.state_size)

    # Many steps at once. A cell may override both, for speed.

    def unroll(
        self, params: Params, state: Array, inputs: Array, step_data: StepData, parallel: Parallel
    ) -> Trajectory:
        """Take a block of steps from `state` (batch, m): inputs and step data (steps, batch, ...).

        The same numbers as `step`, to rounding. `parallel` runs independent jobs on threads; what they
        compute must not depend on how many there are.
        """
        if self.free:
            by = autodiff.provider()
            if (block := by.unroll(self.step, params, state, inputs, step_data)) is not None:
                return CompiledSteps(self, params, block.states, inputs, step_data, block)
        states = np.empty((len(inputs) + 1, *state.shape), dtype=state.dtype)
        states[0] = state
        before = states.view()
        before.flags.writeable = False  # a step that changes its argument would change the run
        for t, x in enumerate(inputs):
            here = {name: data[t] for name, data in step_data.items()}
            states[t + 1] = self.step(params, before[t], x, np, **here)
        return Trajectory(self, params, states, inputs, step_data)

    def evaluated(self, params: Params, step_data: StepData) -> Evaluated:
        """The same cell with its derived parameters evaluated; see `gradsim.contracts.derived`.

        A cell that holds others passes it on to them; most have nothing to derive, and are the same.
        """
        return Evaluated(self, params, lambda gradient: gradient)

    @property
    def saved_size(self) -> int:
        """The floats that `unroll` keeps for each step and batch element, besides the state."""
        return 0

    # Derivatives. A cell may override them with analytic ones, for speed.

    def step_jacobian(self, params: Params, state: Array, inputs: Array, **data: Array) -> Array:
        """J = ds_t/ds_{t-1}, shape (..., g, k, k); row = output, column = input."""
        return autodiff.step_jacobian(self.step, self.jacobian_groups, params, state, inputs, data)

    def state_vjp(
        self, params: Params, state: Array, inputs: Array, cotangent: Array, **data: Array
    ) -> Array:
        """`cotangent` (..., m) of the new state, pulled back to the old state: cotangent @ J."""
        return autodiff.provider().state_vjp(self.step, params, state, inputs, cotangent, data)

    def params_vjp(
        self, params: Params, state: Array, inputs: Array, cotangent: Array, **data: Array
    ) -> Params:
        """`cotangent` (..., batch, m) pulled back to the parameters.

        Summed over the last leading axis only: leading axes (time, batch) give one contribution
        per time, shapes (time, *param).
        """
        return autodiff.provider().params_vjp(self.step, params, state, inputs, cotangent, data)

    def bilinear_vjp(
        self, params: Params, state: Array, inputs: Array, left: Array, right: Array, **data: Array
    ) -> tuple[Params, Array]:
        """Derivative of sum(left @ J @ right) with respect to parameters and old states.

        For penalties on step Jacobians: dR/dJ = sum over copies of outer(left, right), with `left`
        and `right` of shape (copies, ..., m). By autograd, through `step`, unless overridden.
        """
        free = autodiff.provider().bilinear_vjp
        return autodiff.bilinear_in_pieces(free, self.step, params, state, inputs, left, right, data)

    def jacobian_vjp(
        self, params: Params, state: Array, inputs: Array, cotangent: Array, **data: Array
    ) -> tuple[Params, Array]:
        """Derivative of sum(cotangent * J) with respect to parameters and old states.

        `cotangent` has the shape (..., g, k, k) of the step Jacobians. In bounded memory, by `bilinear_vjp`.
        """
        return autodiff.jacobian_vjp(self.bilinear_vjp, params, state, inputs, cotangent, data)

    def path_jacobians(self, params: Params, state: Array, inputs: Array, **data: Array) -> dict[str, Array]:
        """The share of each path in J, (..., g, k, k): "direct", then `paths` in order. They sum to J.

        Each share is what opening the path adds to those before it; "direct" has all of them closed.
        """
        return autodiff.path_jacobians(
            self.step, self.paths, self.jacobian_groups, params, state, inputs, data
        )

    # What follows from the above.

    @property
    def state_size(self) -> int:
        """The length m of the state vector."""
        return sum(self.blocks.values())

    def split(self, state: Any) -> tuple[Any, ...]:
        """The blocks of a state (..., m), in order, as views."""
        return tuple(state[..., a:b] for a, b in pairwise(accumulate(self.blocks.values(), initial=0)))

    def block(self, name: str) -> slice:
        """Where a block lies in the state vector."""
        if name not in self.blocks:
            raise unknown(f"block of {self.name}", name, self.blocks)
        names = list(self.blocks)
        start = sum(self.blocks[n] for n in names[: names.index(name)])
        return slice(start, start + self.blocks[name])

    def analytic(self, method: str) -> bool:
        """Whether the cell overrides this derivative instead of taking the free one."""
        return getattr(type(self), method) is not getattr(Cell, method)

    def written(self, method: str) -> str:
        """The member in which the author wrote what an analytic derivative is made of."""
        return method

    @property
    def free(self) -> bool:
        """Whether its steps and their way back are made of `step` alone, so that a library may make both."""
        return not any(map(self.analytic, ("unroll", "state_vjp", "params_vjp")))


def keywords(function: Callable[..., Any]) -> tuple[str, ...]:
    """The names of its keyword-only parameters."""
    return tuple(p.name for p in parameters_of(function).values() if p.kind is p.KEYWORD_ONLY)

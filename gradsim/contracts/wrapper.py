"""The contract of a cell around another one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from gradsim.contracts.cell import Cell, keywords
from gradsim.contracts.evaluated import Evaluated
from gradsim.contracts.moment import Moment
from gradsim.contracts.plugin import call_with, calling, drawn
from gradsim.contracts.promises import params_mistakes, refuse
from gradsim.contracts.start import Start
from gradsim.contracts.trajectory import Parallel, Trajectory
from gradsim.errors import PluginError
from gradsim.numerics import autodiff
from gradsim.numerics.blocks import dense_blocks
from gradsim.types import Array, Params, StepData


class Wrapper(Cell):
    """A cell around another one, which says only what it adds: s_t = mix(s_{t-1}, x_t, f(s_{t-1}, x_t)).

    f is the step of the cell inside. A concrete wrapper is a frozen dataclass with a field `cell` that
    gives `mix`, `own_params` if it has parameters, and `own_draw` if it draws step data.

    In a run, the names of what it adds begin with its own name and its depth: the `b` of a wrapper named
    ``gated`` is `gated1_b` next to the cell and `gated2_b` further out, so that no two wrappers ever share
    one. Everything inside keeps its name.

    The derivatives chain those of `mix`, by autograd, with those of the cell inside, so that an analytic
    cell stays as fast.

    Weights that change from step to step are beyond a wrapper: the cell inside multiplies all its positions
    with one set of them. Noise that is drawn once for each pass, as in the papers on weight noise and
    DropConnect of recurrent weights, is `Derived.own_noise`; noise at every step is a matter of the cell
    itself, whose `draw` makes the masks.
    """

    _layer: ClassVar[str] = "step"

    cell: Cell

    def __init_subclass__(cls, **options: Any) -> None:
        """What is derived inside is evaluated once, whatever the step."""
        super().__init_subclass__(**options)
        if cls.unroll is Cell.unroll:
            setattr(cls, "unroll", Wrapper.unroll)  # noqa: B010 - mypy refuses an assignment

    def own_params(self, rng: np.random.Generator) -> Params:
        """Draw the parameters that the wrapper adds; it may also name `inner`, those of the cell inside."""
        return {}

    def own_draw(self, rng: np.random.Generator, steps: int, batch: int) -> dict[str, Array]:
        """Draw the step data that the wrapper adds, arrays of shape (steps, batch, ...).

        It names what it needs of `rng`, `steps`, `batch`, `inputs` (steps, batch, input) and `moment`; see
        `Cell.draw`.
        """
        return {}

    def mix(self, own: Params, state: Any, inputs: Any, new: Any, xp: Any) -> Any:
        """The new state (..., m), of the old one and of what the cell inside makes of it.

        `own` are the wrapper's parameters, by the names that `own_params` gives them. Keyword-only
        parameters name step data: what `own_draw` draws is the wrapper's own, anything else is common to
        all, such as `step_index` and what a task gives. The rules are those of `Cell.step`.
        """
        return new

    @property
    def own_recurrent_weights(self) -> tuple[str, ...]:
        """Those of the own parameters that multiply a block of the state; see `Cell.recurrent_weights`."""
        return ()

    # Names.

    @cached_property
    def prefix(self) -> str:
        """What the names of its parameters and step data begin with in a run.

        Where it is empty all of them are its own, and the cell inside is nobody else's business.
        """
        depth, inner = 1, self.cell
        while isinstance(inner, Wrapper):
            # Counted apart, so that no name changes when derived parameters are evaluated.
            depth += inner._layer == self._layer
            inner = inner.cell
        return f"{self.name}{depth}_"

    @cached_property
    def mix_data(self) -> Mapping[str, str]:
        """The step data that `mix` asks for: the name there -> the name in the run."""
        inputs = np.zeros((2, 1, self.input_size))
        own = drawn(self.own_draw, np.random.default_rng(0), inputs, Moment())
        return {n: self.prefix + n if n in own else n for n in keywords(self.mix)}

    @cached_property
    def step_data(self) -> tuple[str, ...]:
        """What the cell inside asks for, and what `mix` does."""
        self._refuse("step datum", self.cell.step_data)
        return tuple(dict.fromkeys((*self.cell.step_data, *self.mix_data.values())))

    def _refuse(self, what: str, inside: Iterable[str]) -> None:
        """Refuse a cell inside that uses a name which belongs to this wrapper."""
        for name in inside:
            if self.prefix and name.startswith(self.prefix):
                raise PluginError(
                    f"the {what} {name!r} of {self.cell!r} would belong to {type(self).__name__} around it, "
                    f"whose names begin with {self.prefix!r}; rename it"
                )

    def _parted(self, params: Params) -> tuple[Params, Params]:
        """(own, by their own names; those of the cell inside)."""
        p = self.prefix
        own = {n[len(p) :]: params[n] for n in params if n.startswith(p)}
        return own, {n: params[n] for n in params if not n.startswith(p)}

    def _joined(self, own: Params, inside: Params) -> Params:
        return inside | {self.prefix + n: p for n, p in own.items()}

    def _inside(self, data: StepData) -> dict[str, Any]:
        return {n: data[n] for n in self.cell.step_data}

    # The cell that the two make.

    @property
    def input_size(self) -> int:  # type: ignore[override]
        """That of the cell inside."""
        return self.cell.input_size

    @property
    def blocks(self) -> Mapping[str, int]:
        """Those of the cell inside."""
        return self.cell.blocks

    @property
    def jacobian_groups(self) -> int:
        """Those of the cell inside; a wrapper that mixes units has 1."""
        return self.cell.jacobian_groups

    @property
    def output_blocks(self) -> tuple[str, ...]:
        """Those of the cell inside."""
        return self.cell.output_blocks

    @property
    def output_size(self) -> int:
        """That of the cell inside."""
        return self.cell.output_size

    def output(self, params: Params, state: Any, inputs: Any, xp: Any) -> Any:
        """That of the cell inside."""
        return self.cell.output(self._inner(params, xp), state, inputs, xp)

    def _inner(self, params: Params, xp: Any) -> Params:
        """The parameters that the cell inside makes its output with."""
        return self._parted(params)[1]

    @property
    def own_output(self) -> bool:
        """Whether the wrapper or the cell inside has an output of its own."""
        return type(self).output is not Wrapper.output or self.cell.own_output

    @property
    def recurrent_weights(self) -> tuple[str, ...]:
        """Those of the cell inside and the wrapper's own."""
        return (*self.cell.recurrent_weights, *(self.prefix + n for n in self.own_recurrent_weights))

    @property
    def exact(self) -> bool:  # type: ignore[override]
        """Whether the cell inside is."""
        return self.cell.exact

    @property
    def time_step(self) -> float | None:  # type: ignore[override]
        """That of the cell inside."""
        return self.cell.time_step

    @property
    def gates(self) -> Mapping[str, tuple[str, ...]]:
        """Those of the cell inside."""
        return self.cell.gates

    @property
    def paths(self) -> tuple[str, ...]:
        """Those of the cell inside."""
        return self.cell.paths

    @property
    def output_paths(self) -> tuple[str, ...]:
        """Those of the cell inside."""
        return self.cell.output_paths

    @property
    def fixed(self) -> tuple[str, ...]:
        """Those of the cell inside; the wrapper's own are trained."""
        return self.cell.fixed

    @property
    def unused(self) -> Mapping[str, Array]:
        """Those of the cell inside; the wrapper's own are used."""
        return self.cell.unused

    def initial_state(self) -> Array:
        """That of the cell inside."""
        return self.cell.initial_state()

    def init_params(self, rng: np.random.Generator) -> Params:
        """Those of the cell inside, and then the wrapper's own."""
        inside = self.cell.init_params(rng)
        self._refuse("parameter", inside)
        return self._joined(self._drawn_params(rng, inside), inside)

    def _drawn_params(self, rng: np.random.Generator, inside: Params) -> Params:
        """The own ones."""
        with calling(self, "own_params", inside):
            own: Params = call_with(self.own_params, rng=rng, inner=inside)
        refuse(self, params_mistakes(own, "own_params"))
        return own

    def factors(self, params: Params) -> dict[str, str]:
        """Those of the cell inside; the wrapper's own recurrent weights multiply the state."""
        own = dict.fromkeys((self.prefix + n for n in self.own_recurrent_weights), "h")
        return self.cell.factors(self._parted(params)[1]) | own

    def started(self, params: Params, rng: np.random.Generator, start: Start) -> Params:
        """Those of the cell inside, and then the wrapper's own."""
        own, inside = self._parted(params)
        inside = self.cell.started(inside, rng, start)
        return self._joined(
            own | {n: start.parameter(rng, own[n], "h") for n in self.own_recurrent_weights}, inside
        )

    def draw(  # type: ignore[override]
        self, rng: np.random.Generator, inputs: Array, moment: Moment
    ) -> dict[str, Array]:
        """What the cell inside draws, and then the wrapper."""
        inside = drawn(self.cell.draw, rng, inputs, moment)
        return self._joined(drawn(self.own_draw, rng, inputs, moment), inside)

    def step(self, params: Params, state: Any, inputs: Any, xp: Any, **data: Any) -> Any:
        """`mix` of what the cell inside makes."""
        own, inside = self._parted(params)
        new = self.cell.step(inside, state, inputs, xp, **self._inside(data))
        return self._mixed(own, state, inputs, new, xp, data)

    def _mixed(self, own: Params, state: Any, inputs: Any, new: Any, xp: Any, data: StepData) -> Any:
        named = {n: data[in_run] for n, in_run in self.mix_data.items()}
        return self.mix(own, state, inputs, new, xp, **named)

    def evaluated(self, params: Params, step_data: StepData) -> Evaluated:
        """The same around the cell inside, evaluated."""
        own, inside = self._parted(params)
        found = self.cell.evaluated(inside, step_data)
        if found.cell is self.cell:
            return super().evaluated(params, step_data)

        def back(gradient: Params) -> Params:
            mine, inner = self._parted(gradient)
            return self._joined(mine, found.back(inner))

        return Evaluated(replace(self, cell=found.cell), self._joined(own, found.params), back)  # type: ignore[type-var]

    def unroll(
        self, params: Params, state: Array, inputs: Array, step_data: StepData, parallel: Parallel
    ) -> Trajectory:
        """See `Cell.unroll`; what is derived is evaluated once."""
        plain = self.evaluated(params, step_data)
        if plain.cell is self:
            return super().unroll(params, state, inputs, step_data, parallel)
        return plain.unroll(self, params, state, inputs, step_data, parallel)

    # Derivatives: those of mix, by autograd, with those of the cell inside.

    def step_jacobian(self, params: Params, state: Array, inputs: Array, **data: Array) -> Array:
        """By the old state, and by what the cell inside makes of it."""
        own, inside = self._parted(params)
        groups, m, within = self.jacobian_groups, self.state_size, self._inside(data)
        if groups not in (1, self.cell.jacobian_groups):
            return super().step_jacobian(params, state, inputs, **data)
        inner = self.cell.step_jacobian(inside, state, inputs, **within)
        if groups != self.cell.jacobian_groups:
            inner = dense_blocks(inner)[..., None, :, :]
        both, mixing = self._both(inside, state, inputs, within), self._mixing(data)
        scales = self._scales(own, both, inputs, mixing)
        if scales is not None:
            by_state, by_new = (np.moveaxis(x.reshape(*x.shape[:-1], -1, groups), -1, -2) for x in scales)
            unit = np.eye(m // groups, dtype=inner.dtype)
            return np.asarray(by_state[..., None] * unit + by_new[..., None] * inner)
        by_state, by_new = autodiff.provider().step_jacobians(
            self._joint, groups, 2, own, both, inputs, mixing
        )
        return np.asarray(by_state + by_new @ inner)

    def _scales(self, own: Params, both: Array, inputs: Array, mixing: StepData) -> list[Array] | None:
        """The slopes (..., m) of mix by the old state and by the new, if it takes unit by unit.

        Then, and only then, any cotangent is pulled back to itself times the slopes.
        """
        m = self.state_size
        known = np.random.default_rng(0).uniform(1, 2, m).astype(both.dtype)  # no two ways add up to nothing
        ones, other = np.ones_like(both[..., :m]), np.broadcast_to(known, both[..., :m].shape)
        slopes, pulled = (
            autodiff.provider().state_vjp(self._joint, own, both, inputs, u, mixing) for u in (ones, other)
        )
        expected = slopes * np.tile(known, 2)
        alike = np.abs(pulled - expected) <= 8 * np.finfo(both.dtype).eps * np.abs(expected)
        return [slopes[..., :m], slopes[..., m:]] if alike.all() else None

    def state_vjp(
        self, params: Params, state: Array, inputs: Array, cotangent: Array, **data: Array
    ) -> Array:
        """Past the cell inside, and through it."""
        own, inside = self._parted(params)
        within, m = self._inside(data), self.state_size
        both = self._both(inside, state, inputs, within)
        pulled = autodiff.provider().state_vjp(self._joint, own, both, inputs, cotangent, self._mixing(data))
        return pulled[..., :m] + self.cell.state_vjp(inside, state, inputs, pulled[..., m:], **within)

    def params_vjp(
        self, params: Params, state: Array, inputs: Array, cotangent: Array, **data: Array
    ) -> Params:
        """Those of mix, and of the cell inside."""
        own, inside = self._parted(params)
        within, m = self._inside(data), self.state_size
        both, mixing = self._both(inside, state, inputs, within), self._mixing(data)
        pulled = autodiff.provider().state_vjp(self._joint, own, both, inputs, cotangent, mixing)
        added = (
            autodiff.provider().params_vjp(self._joint, own, both, inputs, cotangent, mixing) if own else {}
        )
        found = self.cell.params_vjp(inside, state, inputs, pulled[..., m:], **within)
        return self._joined(added, found)

    def analytic(self, method: str) -> bool:
        """Whether the wrapper overrides this derivative instead of chaining."""
        free = getattr(Cell, method), getattr(Wrapper, method)
        return getattr(type(self), method) not in free

    @property
    def free(self) -> bool:
        """Whether the cell inside is, too."""
        return super().free and self.cell.free

    def _both(self, inside: Params, state: Array, inputs: Array, within: StepData) -> Array:
        """The old state, and beside it what the cell inside makes of it: (..., 2 m)."""
        return np.concatenate((state, self.cell.step(inside, state, inputs, np, **within)), axis=-1)

    def _mixing(self, data: StepData) -> StepData:
        return {n: data[n] for n in self.mix_data.values()}

    def _joint(self, own: Params, both: Any, inputs: Any, xp: Any, **data: Any) -> Any:
        """`mix` as a step from both."""
        m = self.state_size
        return self._mixed(own, both[..., :m], inputs, both[..., m:], xp, data)

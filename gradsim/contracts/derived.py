"""The contract of a wrapper that makes parameters of the cell inside out of others."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, ClassVar, get_args

import numpy as np

from gradsim.contracts.evaluated import Evaluated, each_back
from gradsim.contracts.moment import Moment, Purpose
from gradsim.contracts.plugin import call_with, calling
from gradsim.contracts.promises import kind
from gradsim.contracts.start import Start
from gradsim.contracts.wrapper import Wrapper
from gradsim.errors import PluginError, unknown
from gradsim.numerics import autodiff
from gradsim.types import Array, Params, StepData

_PURPOSES = get_args(Purpose)


class Derived(Wrapper):
    """A cell whose parameters are made of others, such as an orthogonal W = exp(A - A^T).

    A concrete one is a frozen dataclass with a field `cell` that gives `derive`. Parameters inside that
    are not trained any more are named in `replaces`, and `own_params` draws what is trained in their place.
    Those that `derive` only changes, such as W / ||W||, keep their names.

    However long a run is, `derive` is evaluated, and its gradient pulled back, once for all the steps
    that are taken together, and not at each; also inside other wrappers and a stack. Noise on weights is
    drawn once for each pass, by `own_noise`.
    """

    _layer = "parameters"

    replaces: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **options: Any) -> None:
        """Refuse what would be left behind when the parameters are evaluated."""
        super().__init_subclass__(**options)
        for name in ("mix", "step", "output"):
            if getattr(cls, name) is not getattr(Derived, name):
                raise PluginError(
                    f"{cls.__name__}: a Derived makes parameters, and its {name}() would not be asked; let a "
                    "Wrapper around it change the step or the output"
                )

    @abstractmethod
    def derive(self, own: Params, inner: Params, xp: Any) -> Params:
        """Parameters of the cell inside, by name: those that are replaced, and any that are changed.

        `own` are those of `own_params`, `inner` those of the cell inside that are not replaced.
        Keyword-only parameters, or ``**noise``, are what `own_noise` draws.
        """

    def own_noise(self, rng: np.random.Generator, inner: Params) -> dict[str, Array]:
        """Draw what is random in `derive`, once for each pass; to be validated, it names the `moment`."""
        return {}

    @property
    def recurrent_weights(self) -> tuple[str, ...]:
        """Those of the cell inside that are not replaced, and the own."""
        return tuple(n for n in super().recurrent_weights if n not in self.replaces)

    @property
    def gates(self) -> Mapping[str, tuple[str, ...]]:
        """Those of the parameters inside that are not replaced."""
        return {n: gates for n, gates in super().gates.items() if n not in self.replaces}

    @property
    def fixed(self) -> tuple[str, ...]:
        """Those of the cell inside that are not replaced."""
        return tuple(n for n in self.cell.fixed if n not in self.replaces)

    @property
    def unused(self) -> Mapping[str, Array]:
        """Those of the parameters inside that are not replaced."""
        return {n: mask for n, mask in self.cell.unused.items() if n not in self.replaces}

    @property
    def saved_size(self) -> int:
        """That of the cell inside."""
        return self.cell.saved_size

    def factors(self, params: Params) -> dict[str, str]:
        """Those of the cell inside that are not replaced, and the own."""
        found = super().factors(self._completed(params))
        return {n: factor for n, factor in found.items() if n not in self.replaces}

    def started(self, params: Params, rng: np.random.Generator, start: Start) -> Params:
        """Those of the cell inside that are not replaced, and the own."""
        found = super().started(self._completed(params), rng, start)
        return {n: found[n] for n in params}

    def _completed(self, params: Params) -> Params:
        """With those that are replaced, as they are made."""
        made = self._made(params, np, self._silent) if self.replaces else {}
        return {**params, **{n: made[n] for n in self.replaces}}

    @property
    def _silent(self) -> StepData:
        """What noise is drawn from where none has been."""
        return {self._noise: np.zeros(4, dtype=np.int64)}

    def init_params(self, rng: np.random.Generator) -> Params:
        """Those of the cell inside that are not replaced, and the wrapper's own."""
        inside = self.cell.init_params(rng)
        self._refuse("parameter", inside)
        for name in self.replaces:
            if name not in inside:
                raise unknown(f"parameter inside that {self.name} replaces", name, inside)
        kept = {n: p for n, p in inside.items() if n not in self.replaces}
        params = self._joined(self._drawn_params(rng, inside), kept)
        with calling(self, "derive", (*self._parted(params)[0], *kept)):
            made = self._made(params, np, self._silent)
        shapes, needed = ({n: np.shape(p) for n, p in ps.items()} for ps in (made, inside))
        if shapes != needed:
            raise PluginError(f"{self!r}: derive() makes parameters {shapes} where {needed} are needed")
        return params

    # What is random is told by a seed, as step data are of every step and weights are not.

    @property
    def _noise(self) -> str:
        return f"{self.prefix}noise"

    @cached_property
    def step_data(self) -> tuple[str, ...]:
        """What the cell inside asks for, and the seed of what is random in `derive`."""
        noisy = type(self).own_noise is not Derived.own_noise
        return (*super().step_data, self._noise) if noisy else super().step_data

    def draw(  # type: ignore[override]
        self, rng: np.random.Generator, inputs: Array, moment: Moment
    ) -> dict[str, Array]:
        """What the cell inside draws; and a seed, with the moment, for `own_noise`."""
        inside = super().draw(rng, inputs, moment)
        if self._noise not in self.step_data:
            return inside
        told = [rng.integers(2**63), moment.update, moment.updates, _PURPOSES.index(moment.purpose)]
        return inside | {self._noise: np.broadcast_to(np.array(told), (*inputs.shape[:2], 4)).copy()}

    def _drawn_noise(self, inner: Params, xp: Any, data: StepData) -> dict[str, Any]:
        if self._noise not in data:
            return {}
        seed, update, updates, purpose = np.asarray(data[self._noise]).reshape(-1, 4)[0].tolist()
        moment = Moment(update, updates, _PURPOSES[purpose])
        found = call_with(self.own_noise, rng=np.random.default_rng(seed), inner=inner, moment=moment)
        dtype = next(iter(inner.values())).dtype
        return {n: xp.asarray(x, dtype=dtype) for n, x in found.items()}

    def _made(self, params: Params, xp: Any, data: StepData) -> Params:
        """All parameters of the cell inside."""
        own, kept = self._parted(params)
        made = self.derive(own, kept, xp, **self._drawn_noise(kept, xp, data))
        if not isinstance(made, Mapping):
            raise PluginError(f"{self!r}: derive() returns {kind(made)}; it should be a dict of arrays")
        return {**kept, **made}

    def _made_and_back(self, params: Params, data: StepData) -> tuple[Params, Callable[[Params], Params]]:
        """The same, and the way of a gradient back to `params`."""
        return autodiff.named_vjp(lambda given, xp: self._made(given, xp, data), params)

    def evaluated(self, params: Params, step_data: StepData) -> Evaluated:
        """Those of the cell inside, evaluated."""
        made, back = self._made_and_back(params, step_data)
        inside = self.cell.evaluated(made, step_data)
        return Evaluated(inside.cell, inside.params, lambda gradient: back(inside.back(gradient)))

    def _inner(self, params: Params, xp: Any) -> Params:
        """Those that are made; an output sees no step data, and so no noise."""
        if not self.own_output:
            return params
        if self._noise in self.step_data:
            raise PluginError(f"{self!r}: the output of {self.cell!r} cannot see weights with noise")
        return self._made(params, xp, {})

    def step(self, params: Params, state: Any, inputs: Any, xp: Any, **data: Any) -> Any:
        """That of the cell inside."""
        return self.cell.step(self._made(params, xp, data), state, inputs, xp, **self._inside(data))

    def step_jacobian(self, params: Params, state: Array, inputs: Array, **data: Array) -> Array:
        """That of the cell inside."""
        made = self._made(params, np, data)
        return self.cell.step_jacobian(made, state, inputs, **self._inside(data))

    def state_vjp(
        self, params: Params, state: Array, inputs: Array, cotangent: Array, **data: Array
    ) -> Array:
        """That of the cell inside."""
        made = self._made(params, np, data)
        return self.cell.state_vjp(made, state, inputs, cotangent, **self._inside(data))

    def params_vjp(
        self, params: Params, state: Array, inputs: Array, cotangent: Array, **data: Array
    ) -> Params:
        """Those of the cell inside, pulled back."""
        made, back = self._made_and_back(params, data)
        found = self.cell.params_vjp(made, state, inputs, cotangent, **self._inside(data))
        return each_back(back, found, *state.shape[:-2])

    def bilinear_vjp(
        self, params: Params, state: Array, inputs: Array, left: Array, right: Array, **data: Array
    ) -> tuple[Params, Array]:
        """Those of the cell inside, pulled back."""
        made, back = self._made_and_back(params, data)
        found, states = self.cell.bilinear_vjp(made, state, inputs, left, right, **self._inside(data))
        return back(found), states

    def jacobian_vjp(
        self, params: Params, state: Array, inputs: Array, cotangent: Array, **data: Array
    ) -> tuple[Params, Array]:
        """Those of the cell inside, pulled back once for all its pieces."""
        made, back = self._made_and_back(params, data)
        found, states = self.cell.jacobian_vjp(made, state, inputs, cotangent, **self._inside(data))
        return back(found), states

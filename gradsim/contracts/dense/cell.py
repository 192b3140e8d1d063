"""The contract of a cell whose units see each other through dense weights only."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from typing import Any, ClassVar

import numpy as np

from gradsim.contracts.cell import keywords
from gradsim.contracts.dense.bends import SecondDerivative, of_matrices, of_pairs
from gradsim.contracts.dense.slopes import Slopes, slopes_at, steps_at_once
from gradsim.contracts.dense.steps import DenseSteps, compiles
from gradsim.contracts.dense.weights import Term, Weights, add_terms, counted, room, slices, weights_of
from gradsim.contracts.inherited import outlived
from gradsim.contracts.plugin import Passed
from gradsim.contracts.promises import kind
from gradsim.contracts.trajectory import Parallel, Trajectory
from gradsim.contracts.weighted import Weighted
from gradsim.errors import PluginError
from gradsim.numerics import autodiff
from gradsim.types import Array, Params, StepData

_apart = Passed()
"""Cells whose units have been seen to mind their own business."""


@dataclass(frozen=True, eq=False)
class Dense(Weighted):
    """A cell whose units see each other through weights only: a = W x + U h + b, and then unit by unit.

    A concrete one is a frozen dataclass that gives the number of `sums` a of each unit, and in `unit` what a
    unit makes of them and of its own old state. The step, its derivatives and passes over many steps at once
    follow from that. It has `hidden_size` = n units in one block h; one with more gives `blocks`, all of the
    same size.

    A quantity of each unit that is multiplied with neither x nor h, such as a peephole weight, is a sum of
    its own, with a bias for its only term.

    Its terms tell what starts as it is told, see `Weighted`; of biases those of sums that see x or h.
    """

    gate_names: ClassVar[tuple[str, ...]] = ()
    """The gates that the rows of W, U and b belong to, where each sum is one, in order."""

    sums: ClassVar[int] = 1
    """How many sums each unit has, unless there are `gate_names`; each is made of one term at least."""

    kernel: ClassVar[str | None] = None
    """The module of compiled passes, `forward` and `backward`, that are taken in place of those in NumPy.

    It gets no step data. See `gradsim.contracts.dense.kernels`.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        """Leave behind the kernel, slopes and bends of a unit that another one has replaced."""
        super().__init_subclass__(**options)
        nearest = next(c for c in cls.__mro__ if {"gate_names", "sums"} & vars(c).keys())
        if cls.gate_names and "sums" not in vars(nearest):  # or they are those of a class that it extends
            cls.sums = len(cls.gate_names)
        for name, instead in list(outlived(cls, Dense, ("kernel", "slopes", "bends"))):
            setattr(cls, name, instead)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._refuse_idle(t.factor for t in self.terms)

    def factors(self, params: Params) -> dict[str, str]:
        """See `Cell`; what is alone in its sums, such as peephole weights, is no bias."""
        terms = counted(self, params)
        seeing = {i for t in terms if t.factor != "1" for i in t.span}
        return {t.param: t.factor for t in terms if not seeing.isdisjoint(t.span)}

    def parts_of(self, name: str, rows: int) -> int:
        """One for each sum."""
        return rows // self.units

    def keeping(self, name: str, params: Params) -> list[int]:
        """See `Weighted`; a second bias of the same sums has nothing to keep."""
        biases = [t for t in self.counted(params) if t.factor == "1"]
        before = {i for t in takewhile(lambda t: t.param != name, biases) for i in t.span}
        second = any(t.param == name and not before.isdisjoint(t.span) for t in biases)
        keeping = super().keeping(name, params)
        return [0] * len(keeping) if second else keeping

    @property
    def gates(self) -> Mapping[str, tuple[str, ...]]:
        """Those of `gate_names`, for all parameters that belong to all sums."""
        if not self.gate_names:
            return {}
        return {t.param: self.gate_names for t in self.terms if (t.rows, t.column) == (slice(None), 0)}

    @property
    def paths(self) -> tuple[str, ...]:
        """The gates, which are to be tagged with `through` in `unit`."""
        return self.gate_names

    @abstractmethod
    def unit(self, sums: tuple[Any, ...], old: tuple[Any, ...], xp: Any) -> Any:
        """The new blocks of the state, of the sums and the old blocks: arrays (..., n) each, and n units.

        What becomes of a unit depends on no other one; functions of `xp` are taken element by element.
        Of one block its array will do. Keyword-only parameters name step data, as in `Cell.step`.
        """

    @property
    def terms(self) -> tuple[Term, ...]:
        """What the sums are made of; W x + U h + b unless the cell says otherwise."""
        return Term("W", "x"), Term("U", "h"), Term("b", "1")

    def init_params(self, rng: np.random.Generator) -> Params:
        """Draw W ~ N(0, 1 / input_size) and U ~ N(0, recurrent_scale^2 / n); b is 0."""
        rows, n = self.sums * self.units, self.units
        return {
            "W": rng.standard_normal((rows, self.input_size)) / np.sqrt(self.input_size),
            "U": rng.standard_normal((rows, n)) / np.sqrt(n),
            "b": np.zeros(rows),
        }

    @cached_property
    def recurrent_weights(self) -> tuple[str, ...]:
        """The parameters that multiply h."""
        return tuple(dict.fromkeys(t.param for t in self.terms if t.factor == "h"))

    @property
    def jacobian_groups(self) -> int:
        """One for each unit if no sum sees h, so that units do not see each other at all."""
        return 1 if self.recurrent_weights else self.units

    @cached_property
    def units(self) -> int:
        """Their number n, the size of each block."""
        sizes = set(self.blocks.values())
        if len(sizes) != 1:
            raise PluginError(f"{self!r}: the blocks of a dense cell have one size, not {dict(self.blocks)}")
        return sizes.pop()

    @cached_property
    def step_data(self) -> tuple[str, ...]:
        """What `unit` asks for, or a step in place of the one that follows from it."""
        return keywords(self.unit if type(self).step is Dense.step else self.step)

    @property
    def of_units(self) -> bool:
        """Whether its step is that of `unit`, and not one in place of it."""
        return type(self).step is Dense.step

    def written(self, method: str) -> str:
        """All that follows from the unit is written there, or in the slopes, the bends or the kernel."""
        if getattr(type(self), method) is not getattr(Dense, method):
            return method
        if method == "unroll" and compiles(self):
            return "kernel"
        if method in ("bilinear_vjp", "jacobian_vjp"):
            return "unit" if type(self).bends is Dense.bends else "bends"
        return "unit" if type(self).slopes is Dense.slopes else "slopes"

    # What compiled passes need besides.

    @property
    def kernel_saves(self) -> int:
        """The floats that the kernel keeps for each step and batch element, besides the state."""
        return 0

    @property
    def kernel_options(self) -> tuple[int, ...]:
        """What the kernel is told besides arrays."""
        return ()

    @property
    def saved_size(self) -> int:
        """What the kernel keeps, or all sums."""
        return self.kernel_saves if compiles(self) else self.sums * self.units

    # What follows.

    def step(self, params: Params, state: Any, inputs: Any, xp: Any, **data: Any) -> Any:
        """The blocks that the units make, side by side."""
        old = (state,) if len(self.blocks) == 1 else self.split(state)
        new = self.made(self._sums(params, old[0], inputs, xp), old, xp, data)
        return new[0] if len(new) == 1 else xp.concat(new, axis=-1)

    def _sums(self, params: Params, h: Any, inputs: Any, xp: Any) -> tuple[Any, ...]:
        """The sums, term by term: those of what goes to the same ones, at once."""
        spans: dict[tuple[int, int], Any] = {}
        for name, factor, rows, column in self.counted(params):
            param, count = params[name], rows.stop - rows.start
            if param.shape[0] > count:
                param = param[rows, ...]
            added = param if factor == "1" else (inputs if factor == "x" else h) @ param.T
            span = column, column + count
            spans[span] = spans[span] + added if span in spans else added
        if self.sums == 1 and (alone := spans.get((0, self.units))) is not None and alone.shape == h.shape:
            return (alone,)
        n, sums = self.units, list[Any]([None] * self.sums)
        for (first, last), added in spans.items():
            for at in range(0, last - first, n):
                i, part = (first + at) // n, added[..., at : at + n]
                sums[i] = part if sums[i] is None else sums[i] + part
        if all(x.shape == h.shape for x in sums):
            return tuple(sums)
        whole = xp.zeros_like(h)  # for what is the same in all positions
        return tuple(whole + x for x in sums)

    def counted(self, params: Params) -> list[Term]:
        """The terms with the numbers of their rows; their shapes are the same in every run."""
        if "_counted" not in vars(self):
            vars(self)["_counted"] = counted(self, params)
        return vars(self)["_counted"]  # type: ignore[no-any-return]

    def made(self, sums: tuple[Any, ...], old: tuple[Any, ...], xp: Any, data: StepData) -> tuple[Any, ...]:
        """What `unit` makes.

        Raises
        ------
        PluginError
            It is not an array for each block, of the shape of the old one.
        """
        new = self.unit(sums, old, xp, **data)
        new = tuple(new) if isinstance(new, tuple | list) else (new,)
        if [getattr(x, "shape", None) for x in new] != [x.shape for x in old]:
            given = ", ".join(kind(x) + (f" of shape {x.shape}" if hasattr(x, "shape") else "") for x in new)
            raise PluginError(
                f"{self!r}: unit() gives {given}, where an array like each old block is needed: "
                f"{', '.join(f'{n} {x.shape}' for n, x in zip(self.blocks, old, strict=True))}"
            )
        return new

    def slopes(self, sums: Array, old: Array, data: StepData) -> Slopes:
        """Those of the new blocks, of sums (..., G) and states before (..., m), with any leading axes.

        They are traced. A cell may override them with analytic ones, for speed.
        """
        given = np.concatenate((self.parted(sums), self.parted(old)))

        def unit(parts: tuple[Any, ...], xp: Any) -> tuple[Any, ...]:
            return self.made(parts[: self.sums], parts[self.sums :], xp, data)

        by_sums, by_old, made_of = [], [], dict[int, list[tuple[int, Array]]]()
        for k, (slopes, there, made_of[k]) in enumerate(autodiff.slopes(unit, given, self.unit)):
            if first := [i for i in there if i < self.sums]:
                by_sums.append((k, first[0], slopes[first[0] : first[-1] + 1]))
            by_old += [(i - self.sums, k, slopes[i]) for i in there if i >= self.sums]

        def depth(k: int) -> int:
            return 1 + max((depth(j) for j, _ in made_of[k]), default=0)

        order = sorted(made_of, key=depth, reverse=True)
        return Slopes(by_sums, by_old, [(j, k, slope) for k in order for j, slope in made_of[k]])

    def bends(self, sums: Array, old: Array, weights: Array, data: StepData) -> Array:
        """How the sum of weights times slopes changes with each sum, and then with each old block.

        `sums` (..., G), `old` (..., m) and `data` are what `slopes` is given. `weights`, shape (blocks,
        sums + blocks, ..., n), weigh the slopes of each new block by each sum, and then by each old block.
        Shape (sums + blocks, ..., n). They are traced. A cell may override them with analytic ones.
        """

        def unit(parts: tuple[Any, ...], xp: Any) -> tuple[Any, ...]:
            return self.made(parts[: self.sums], parts[self.sums :], xp, data)

        return autodiff.bends(unit, (*self.parted(sums), *self.parted(old)), weights, self.unit)

    def parted(self, x: Array) -> Array:
        """What is side by side (..., blocks * n), one block after the other: (blocks, ..., n), a view."""
        lead = x.ndim - 1
        # As moveaxis would have it, which takes longer than what is done with one step.
        return x.reshape(*x.shape[:-1], -1, self.units).transpose(lead, *range(lead), lead + 1)

    def unroll(
        self, params: Params, state: Array, inputs: Array, step_data: StepData, parallel: Parallel
    ) -> Trajectory:
        """See `Cell.unroll`."""
        steps, batch = inputs.shape[:2]
        states = np.empty((steps + 1, *state.shape), dtype=state.dtype)
        states[0] = state
        saved = np.empty((steps, batch, self.saved_size), dtype=state.dtype)
        taken = DenseSteps(self, params, states, inputs, step_data, saved, parallel)
        if self not in _apart:
            sums = taken.weights.sums(inputs[0], self.split(state)[0])
            self._refuse_mixing(sums, state, {n: x[0] for n, x in step_data.items()})
            _apart.add(self)
        taken.take()
        return taken

    def _refuse_mixing(self, sums: Array, state: Array, data: StepData) -> None:
        """Refuse units that see each other: when some are moved, no others may."""
        # Any two units lie on different sides of a bit of their numbers.
        bits = np.arange((self.units - 1).bit_length())[:, None]
        sides = (np.arange(self.units) >> bits) % 2 == 1
        moved = np.concatenate((sides, ~sides))
        data = {n: np.repeat(x[:1], len(moved), axis=0) for n, x in data.items()}
        # Beside a zero much does not show.
        given = [
            x + np.cos(np.arange(1, x.size + 1) ** 2).reshape(x.shape).astype(x.dtype)
            for x in (self.parted(sums[:1]), self.parted(state[:1]))
        ]
        made = []
        for off in (0, 3):
            parts = [tuple(np.where(moved, x + off, x)) for x in given]
            with np.errstate(all="ignore"):
                made.append(np.stack(self.made(parts[0], parts[1], np, data)))
        expected, new = made
        met = (new != expected) & ~np.isnan(expected) & ~moved
        if met.any():
            block, _, unit = np.argwhere(met)[0].tolist()
            raise PluginError(
                f"{self!r}: unit() mixes units: unit {unit} of {list(self.blocks)[block]!r} moves when "
                "others do; what units see of each other belongs into the sums, or write the step of a `Cell`"
            )

    def step_jacobian(self, params: Params, state: Array, inputs: Array, **data: Array) -> Array:
        """See `Cell.step_jacobian`: slopes times weights."""
        lead, m = state.shape[:-1] or (1,), self.state_size
        w = weights_of(self, params)
        shape = int(np.prod(lead[:-1])), lead[-1]
        flat = {n: x.reshape(*shape, *x.shape[state.ndim - 1 :]) for n, x in data.items()}
        old, x = state.reshape(*shape, m), inputs.reshape(*shape, self.input_size)
        groups = self.jacobian_groups
        found = np.empty((*shape, groups, m // groups, m // groups), dtype=state.dtype)
        for at in slices(len(found), steps_at_once(self, lead[-1], state.dtype)):
            here = {n: d[at] for n, d in flat.items()}
            slopes = slopes_at(self, w.sums(x[at], old[at, :, : self.units]), old[at], here)
            if self.recurrent_weights:
                slopes.fill_jacobian(found[at, :, 0], w)
            else:
                slopes.fill_unit_jacobians(found[at])
        return found.reshape(*state.shape[:-1], *found.shape[2:])

    def state_vjp(
        self, params: Params, state: Array, inputs: Array, cotangent: Array, **data: Array
    ) -> Array:
        """See `Cell.state_vjp`."""
        w = weights_of(self, params)
        d, beside = self._cotangents(w, state, inputs, cotangent, data)
        beside[..., : self.units] += d[..., w.column :] @ w.state
        return beside

    def params_vjp(
        self, params: Params, state: Array, inputs: Array, cotangent: Array, **data: Array
    ) -> Params:
        """See `Cell.params_vjp`."""
        w = weights_of(self, params)
        d, _ = self._cotangents(w, state, inputs, cotangent, data)
        found = room(params, w.terms, d.dtype, *d.shape[:-2])
        add_terms(w.terms, d, {"x": inputs, "h": state[..., : self.units]}, found)
        return found

    def _cotangents(
        self, w: Weights, state: Array, inputs: Array, cotangent: Array, data: StepData
    ) -> tuple[Array, Array]:
        """Those of the sums, and what reaches the old state beside them."""
        d, beside = np.empty((*state.shape[:-1], len(w.bias)), dtype=state.dtype), np.zeros_like(state)
        slopes = slopes_at(self, w.sums(inputs, state[..., : self.units]), state, data)
        slopes.pull(self.parted(cotangent), self.parted(d), self.parted(beside))
        return d, beside

    def bilinear_vjp(
        self, params: Params, state: Array, inputs: Array, left: Array, right: Array, **data: Array
    ) -> tuple[Params, Array]:
        """See `Cell.bilinear_vjp`."""
        return of_pairs(SecondDerivative(self, params, state, inputs, data), left, right)

    def jacobian_vjp(
        self, params: Params, state: Array, inputs: Array, cotangent: Array, **data: Array
    ) -> tuple[Params, Array]:
        """See `Cell.jacobian_vjp`."""
        return of_matrices(SecondDerivative(self, params, state, inputs, data), cotangent)

"""A step that is a module of PyTorch: taken, and derived, by PyTorch.

NumPy arrays come in and go out, and all is in the dtype of what is given.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import torch
from autograd.tracer import isbox
from torch import Tensor, nn

from gradsim.errors import InputError, PluginError
from gradsim.numerics.autodiff.torch_tensors import (
    NOT_SIDE_BY_SIDE,
    Tensors,
    alone,
    as_tensor,
    as_tensors,
    deriving,
    of_arrays,
    way_back,
    ways_back,
)
from gradsim.numerics.scaled import range_end
from gradsim.types import Array, Params

Blocks = tuple[Tensor, ...]

_PIECE_BYTES = 2 * 2**20
"""Derivatives that are made at a time."""

_HELD = 512
"""Steps whose graph is kept, or made at a time on the way back."""


class _Holder(nn.Module):
    """Calls functions with a module inside, whose parameters are replaced for as long as that takes."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, function: Callable[[nn.Module], Any]) -> Any:
        return function(self.module)


class Function(nn.Module):
    """A function ``step(params, x, state)`` as a module; `params` are named tensors or arrays."""

    def __init__(self, step: Callable[..., Any], params: Mapping[str, Any]) -> None:
        super().__init__()
        self.title, self.function = getattr(step, "__name__", type(step).__name__), step
        self._places = {name: name.replace(".", "_") for name in params}
        if len(set(self._places.values())) < len(params):
            raise InputError(f"some of params would have one name, as a dot becomes _: {', '.join(params)}")
        for name, value in params.items():
            given = torch.as_tensor(value).detach().clone().cpu()
            if not given.is_floating_point():
                raise InputError(f"params[{name!r}] is of {given.dtype}; it should hold real numbers")
            self.register_parameter(self._places[name], nn.Parameter(given))

    def state_dict(self, *given: Any, **options: Any) -> Any:
        """The parameters by their own names."""
        return {name: getattr(self, place) for name, place in self._places.items()}

    def forward(self, x: Tensor, state: Any) -> Any:
        """The step."""
        return self.function({n: getattr(self, place) for n, place in self._places.items()}, x, state)


def copied(module: nn.Module) -> nn.Module:
    """A copy on the CPU, which nobody else changes.

    Raises
    ------
    InputError
        It cannot be copied.
    """
    try:
        # Of one that has been compiled, what was there before.
        return copy.deepcopy(getattr(module, "_orig_mod", module)).cpu()
    except Exception as error:  # of many kinds, such as of tensors that it keeps with their graph
        raise InputError(f"{type(module).__name__} cannot be copied: {error}") from error


class TorchStep:
    """The step of a module, ``module(x, state)``, on joint states.

    Parameters
    ----------
    about
        Whose step it is, for errors.
    module
        Its parameters take no part, but for their names.
    names
        Those of the parameters here -> there.
    sizes
        Those of the blocks of the state. One block goes in and out as a tensor, several as a tuple.
    groups
        The number of diagonal blocks of the step Jacobian.
    """

    def __init__(
        self, about: str, module: nn.Module, names: Mapping[str, str], sizes: Sequence[int], groups: int
    ) -> None:
        self._about, self._module, self._names = about, module, names
        self.places = [slice(*ends) for ends in pairwise(accumulate(sizes, initial=0))]
        self._sizes, self._groups = list(sizes), groups
        self._holder = _Holder(module)
        self._buffers: dict[torch.dtype, Tensors] = {}

    def tried(self, params: Params, inputs: int) -> int:
        """The floats that a graph keeps of a step of one batch element.

        Raises
        ------
        PluginError
            The module is no step of these sizes, or draws random numbers.
        """
        kept: dict[int, int] = {}

        def keep(x: Tensor) -> Tensor:
            kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
            return x

        with alone(), torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            own, before = as_tensors(params, derived=True), torch.get_rng_state()
            x, *parts = (torch.zeros(2, n, dtype=torch.float64) for n in (inputs, *self._sizes))
            with torch.no_grad():
                self.take(own, tuple(parts), x[None])
            deriving(self._made, own, x, torch.cat(parts, dim=-1).requires_grad_())
            if not torch.equal(before, torch.get_rng_state()):
                raise PluginError(
                    f"{self._about}: the module draws random numbers when it is called; put it into .eval()"
                )
        weights = {p.untyped_storage().data_ptr() for p in own.values()}
        return sum(size for place, size in kept.items() if place not in weights) // 16

    # Calls of the module.

    def _with(self, params: Tensors, dtype: torch.dtype, function: Callable[[nn.Module], Any]) -> Any:
        """What a function of the module gives with these parameters, and the buffers in their dtype."""
        if dtype not in self._buffers:
            named = self._module.named_buffers()
            self._buffers[dtype] = {
                n: b.clone().to(dtype if b.is_floating_point() else b.dtype) for n, b in named
            }
        held = {self._names[n]: p for n, p in params.items()} | self._buffers[dtype]
        given = {f"module.{n}": x for n, x in held.items()}
        before = [(x, x._version) for x in given.values()]
        found = torch.func.functional_call(self._holder, given, (function,))
        for name, now, (x, version) in zip(held, given.values(), before, strict=True):
            if now is not x or x._version != version:
                raise PluginError(
                    f"{self._about}: the module changes its own {name!r} when it is called; put it into "
                    ".eval(), or keep what changes from step to step in a block of the state"
                )
        return found

    def _step(self, module: nn.Module, x: Tensor, parts: Blocks) -> Blocks:
        """The blocks (n, size) that the module makes of others."""
        versions = [tensor._version for tensor in (x, *parts)]
        new = module(x, parts[0] if len(parts) == 1 else parts)
        if versions != [tensor._version for tensor in (x, *parts)]:
            raise PluginError(
                f"{self._about}: the module changes x or the state in place; let it make new tensors instead"
            )
        made = (new,) if isinstance(new, Tensor) else new
        if not isinstance(made, tuple | list) or len(made) != len(parts) or not all(map(_alike, made, parts)):
            raise PluginError(
                f"{self._about}: of x {_look(x)} and a state {_looks(parts)} the module makes {_looks(new)}, "
                f"where {'one like it' if len(parts) == 1 else 'a tuple like it'} is needed"
            )
        return tuple(made)

    def _made(self, params: Tensors, x: Tensor, state: Tensor) -> Tensor:
        """The new joint state for any leading axes."""
        flat, whole = x.reshape(-1, x.shape[-1]), state.reshape(-1, state.shape[-1])
        parts = tuple(torch.split(whole, self._sizes, dim=-1))
        new: Blocks = self._with(params, state.dtype, lambda module: self._step(module, flat, parts))
        return torch.cat(new, dim=-1).reshape(state.shape)

    # What a cell asks for.

    def step(self, params: Mapping[str, Any], state: Any, inputs: Any, xp: Any) -> Any:
        """The new state, for arrays of any library; autograd can derive it, and its derivatives again."""
        if isinstance(state, Tensor):
            return self._made(dict(params), inputs, state)
        names = tuple(params)

        def made(*given: Tensor) -> Tensor:
            *own, state, x = given
            return self._made(dict(zip(names, own, strict=True)), x, state)

        arrays = (*params.values(), state, inputs)
        found = of_arrays(made, *arrays)
        plain = isbox(found) or all(isinstance(x, np.ndarray) for x in arrays)
        return found if plain else xp.asarray(found)

    def take(self, params: Tensors, state: Blocks, inputs: Tensor) -> list[Blocks]:
        """The states, each made of the one before."""
        derived = state[0].requires_grad

        def take(module: nn.Module) -> list[Blocks]:
            states = [state]
            for x in inputs:
                before = states[-1]
                new = self._step(module, x, before)
                if len(new) > 1 or new[0] is before[0]:
                    # A block may be made of another new one, whose adjoint that is no part of.
                    new = tuple(made.view_as(made) for made in new)
                if derived and not all(made.requires_grad for made in new):  # on nothing does it depend
                    new = tuple(m if m.requires_grad else m.clone().requires_grad_() for m in new)
                states.append(new)
            return states

        found: list[Blocks] = self._with(params, state[0].dtype, take)
        return found

    def step_jacobian(self, params: Params, state: Array, inputs: Array) -> Array:
        """Blocks (..., g, k, k), of one pass forward and k passes back side by side."""
        m, g = state.shape[-1], self._groups
        k = m // g
        states, along = state.reshape(-1, m), inputs.reshape(-1, inputs.shape[-1])
        found = np.empty((len(states), g, k, k), dtype=state.dtype)
        size = max(1, min(len(states), _PIECE_BYTES // (k * m * state.itemsize)))
        with alone():
            own, made, rows = as_tensors(params), torch.from_numpy(found), torch.arange(k)
            unit = torch.zeros((k, size, k, g), dtype=made.dtype)
            unit[rows, :, rows] = 1
            for first in range(0, len(states), size):
                cut = slice(first, first + size)
                s = as_tensor(states[cut]).requires_grad_()
                new = deriving(self._made, own, as_tensor(along[cut]), s)
                pulled = ways_back(new, s, unit[:, : len(s)].reshape(k, len(s), m))
                made[cut] = pulled.reshape(k, len(s), k, g).permute(1, 3, 0, 2)
        return found.reshape(*state.shape[:-1], g, k, k)

    def state_vjp(self, params: Params, state: Array, inputs: Array, cotangent: Array) -> Array:
        """The cotangent of the old state."""
        with alone():
            s = as_tensor(state).requires_grad_()
            new = deriving(self._made, as_tensors(params), as_tensor(inputs), s)
            return way_back(new, [s], as_tensor(cotangent))[0].numpy()

    def params_vjp(self, params: Params, state: Array, inputs: Array, cotangent: Array) -> Params:
        """Those of the parameters, (..., *param), summed over the last leading axis."""
        lead = state.shape[:-2]
        along = (x.reshape(math.prod(lead), *x.shape[len(lead) :]) for x in (state, inputs, cotangent))
        with alone():
            own, given = as_tensors(params, derived=True), tuple(map(as_tensor, along))

            def one(s: Tensor, x: Tensor, u: Tensor) -> Tensors:
                made = torch.func.vjp(lambda p: self._made(p, x, s), own)[1]
                found: Tensors = made(u)[0]
                return found

            size = max(1, _PIECE_BYTES // (sum(p.nbytes for p in params.values()) or 1))
            try:
                found = {n: p.detach() for n, p in torch.func.vmap(one, chunk_size=size)(*given).items()}
            except NOT_SIDE_BY_SIDE:
                each = [
                    way_back(deriving(self._made, own, x, s), list(own.values()), u)
                    for s, x, u in zip(*given, strict=True)
                ]
                found = {n: torch.stack(ps) for n, ps in zip(own, zip(*each, strict=True), strict=True)}
            return {n: p.numpy().reshape(*lead, *params[n].shape) for n, p in found.items()}

    def bilinear_vjp(
        self, params: Params, state: Array, inputs: Array, left: Array, right: Array
    ) -> tuple[Params, Array]:
        """The derivative of the sum of left @ J @ right, by a way back through the way back."""
        with alone(), torch.enable_grad():
            own, s = as_tensors(params, derived=True), as_tensor(state).requires_grad_()
            u, v = as_tensor(left), as_tensor(right)
            copies = s.expand(u.shape)
            new = self._made(own, as_tensor(inputs).expand(*u.shape[:-1], inputs.shape[-1]), copies)
            pulled = way_back(new, [copies], u, create_graph=True)[0]
            *found, states = way_back((pulled * v).sum(), [*own.values(), s], torch.ones((), dtype=s.dtype))
            return {n: p.numpy() for n, p in zip(own, found, strict=True)}, states.numpy()


class Block:
    """Steps that have been taken. The graph of the last ones is kept; the one of others is made again."""

    def __init__(self, step: TorchStep, params: Params, state: Array, inputs: Array) -> None:
        self.compiled, self._params, self._inputs = step, params, inputs
        self._first = max(0, len(inputs) - _HELD)
        self.states: Array = np.empty((len(inputs) + 1, *state.shape), dtype=state.dtype)
        self.states[0] = state
        with alone(), torch.no_grad():
            own, first = as_tensors(params), self._parts(state)
            self._note(0, step.take(own, first, as_tensor(inputs[: self._first])))
        self._held = self._graph(self._first, len(inputs))
        with torch.no_grad():
            self._note(self._first, self._held[0])

    def _parts(self, state: Array) -> Blocks:
        return tuple(torch.from_numpy(state[:, place].copy()) for place in self.compiled.places)

    def _note(self, row: int, states: list[Blocks]) -> None:
        for place, blocks in zip(self.compiled.places, zip(*states, strict=True), strict=True):
            self.states[row : row + len(blocks), :, place] = torch.stack(blocks).numpy()

    def _graph(self, first: int, stop: int) -> tuple[list[Blocks], Tensors]:
        """States and parameters of some steps, which derivatives go through."""
        with alone():
            own = as_tensors(self._params, derived=True)
            parts = tuple(part.requires_grad_() for part in self._parts(self.states[first]))
            return deriving(self.compiled.take, own, parts, as_tensor(self._inputs[first:stop])), own

    def pull(self, row: int, incoming: Array, direct: Array) -> tuple[Array, Params]:
        """See `providers.Block`."""
        adjoints = np.empty((len(direct) + 1, *direct.shape[1:]), dtype=direct.dtype)
        adjoints[-1] = incoming
        total = {n: np.zeros_like(p) for n, p in self._params.items()}
        stop = len(direct)
        while stop:
            first = max(0, stop - _HELD)
            gradient = self._pull(row + first, adjoints[first : stop + 1], direct[first:stop])
            for n, p in gradient.items():
                total[n] += p
            if range_end(adjoints[first : stop + 1]) is not None:
                return adjoints[first:], total
            stop = first
        return adjoints, total

    def _pull(self, row: int, adjoints: Array, direct: Array) -> Params:
        """Fill in adjoints (steps + 1, batch, m) of some steps from the last one; gives the gradient."""
        steps, places, kept = len(direct), self.compiled.places, row == self._first
        states, own = self._held if kept else self._graph(row, row + steps)
        # Where no loss enters, as before one at the end, PyTorch need not be told.
        rows = np.flatnonzero(direct[1:].any(axis=(1, 2))) + 1
        entering = np.concatenate((direct[rows], adjoints[-1:]))
        made = [block for t in (*rows.tolist(), steps) for block in states[t]]
        before = [block for state in states[:steps] for block in state]
        with alone():
            parts = [as_tensor(entering[..., place]).unbind() for place in places]
            cotangents = [part for together in zip(*parts, strict=True) for part in together]
            found = way_back(made, [*before, *own.values()], cotangents, retain_graph=kept)
            for j, place in enumerate(places):
                adjoints[:-1, :, place] = torch.stack(list(found[j : len(before) : len(places)])).numpy()
        adjoints[0] += direct[0]
        return {n: p.numpy() for n, p in zip(own, found[len(before) :], strict=True)}


def _alike(made: Any, old: Tensor) -> bool:
    return isinstance(made, Tensor) and made.shape == old.shape and made.dtype == old.dtype


def _look(x: Any) -> str:
    if not isinstance(x, Tensor):
        return f"a {type(x).__name__}"
    return f"({', '.join(map(str, x.shape))}) {str(x.dtype).removeprefix('torch.')}"


def _looks(many: Any) -> str:
    return " and ".join(map(_look, many)) if isinstance(many, tuple | list) else _look(many)

"""Layers of cells, one on the other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, pairwise

import numpy as np

from gradsim import Cell
from gradsim.contracts.evaluated import Evaluated
from gradsim.contracts.moment import Moment
from gradsim.contracts.plugin import drawn
from gradsim.contracts.trajectory import Pulled, PulledByVjp, Trajectory, shortened
from gradsim.errors import InputError
from gradsim.numerics import autodiff
from gradsim.numerics.blocks import dense_blocks
from gradsim.types import Array, Params, StepData
from gradsim_cells.lstm import LSTM

_LIFT = 50
"""Powers of two by which adjoints of a layer may be small before they are lifted, and to which they are."""


@dataclass(frozen=True, eq=False)
class Stack(Cell):
    """s^l_t = f_l(s^l_{t-1}, o^{l-1}_t), with o^0_t = x_t and o^l_t the output of layer l.

    l: 0 .. L-1 layers in `cells`, from the input up; f_l: their steps. Each takes as many inputs as the one
    below has outputs. State: the blocks of all layers side by side. A block, a parameter or a drawn step
    datum n of layer l is layer{l}_n. The output is that of the last layer.

    A layer sees what the one below has *just* become, so that J_t is block triangular: ds^1_t/ds^0_{t-1} goes
    through s^0_t.

    Schmidhuber (1992), Learning complex, extended sequences using the principle of history compression;
    with these layers as Graves, Mohamed & Hinton (2013), Speech recognition with deep recurrent neural
    networks, eq. 11 without connections from x to the upper layers.
    """

    name = "stack"

    cells: tuple[Cell, ...] = (LSTM(hidden_size=16), LSTM(input_size=16, hidden_size=16))

    def __post_init__(self):
        super().__post_init__()
        if not self.cells:
            raise InputError("Stack: cells should hold at least one cell")
        for i, (below, cell) in enumerate(pairwise(self.cells), 1):
            if cell.input_size != (size := below.output_size):
                raise InputError(
                    f"Stack: cells[{i}] takes input_size={cell.input_size} where the layer below gives {size}"
                )

    @property
    def input_size(self):
        return self.cells[0].input_size

    @property
    def blocks(self):
        return {f"layer{i}_{n}": size for i, c in enumerate(self.cells) for n, size in c.blocks.items()}

    @property
    def output_blocks(self):
        return tuple(f"layer{len(self.cells) - 1}_{n}" for n in self.cells[-1].output_blocks)

    @property
    def output_size(self):
        return self.cells[-1].output_size

    def output(self, params, state, inputs, xp):
        x = inputs
        for i, (cell, own) in enumerate(zip(self.cells, self.parts(state), strict=True)):
            x = cell.output(_own(params, i), own, x, xp)
        return x

    @property
    def own_output(self):
        return type(self).output is not Stack.output or self.cells[-1].own_output

    @property
    def by_blocks(self):
        """Whether layers see blocks of the state below. If not, the derivatives are the free ones."""
        return not any(cell.own_output for cell in self.cells[:-1])

    @property
    def recurrent_weights(self):
        return tuple(f"layer{i}_{n}" for i, c in enumerate(self.cells) for n in c.recurrent_weights)

    @property
    def exact(self):
        return all(c.exact for c in self.cells)

    @property
    def time_step(self):
        """That of all layers, where they have the same one."""
        steps = {c.time_step for c in self.cells}
        return steps.pop() if len(steps) == 1 else None

    @property
    def gates(self):
        return _named(c.gates for c in self.cells)

    @property
    def paths(self):
        """Those of the layers and of outputs below; a path of several layers is opened in all at once."""
        steps, outputs = (path for c in self.cells for path in c.paths), _output_paths(self.cells[:-1])
        return tuple(dict.fromkeys((*steps, *outputs)))

    @property
    def output_paths(self):
        return _output_paths(self.cells)

    @property
    def fixed(self):
        return tuple(f"layer{i}_{n}" for i, c in enumerate(self.cells) for n in c.fixed)

    @property
    def unused(self):
        return _named(c.unused for c in self.cells)

    @property
    def saved_size(self):
        """What the layers keep, and their states once more."""
        return self.state_size + sum(c.saved_size for c in self.cells)

    def initial_state(self):
        return np.concatenate([c.initial_state() for c in self.cells])

    def init_params(self, rng):
        return _named(c.init_params(rng) for c in self.cells)

    def factors(self, params):
        return _named(c.factors(_own(params, i)) for i, c in enumerate(self.cells))

    def started(self, params, rng, start):
        return _named(c.started(_own(params, i), rng, start) for i, c in enumerate(self.cells))

    def draw(self, rng, inputs, moment):
        """A layer that looks at its inputs sees NaN above the first: they are not known before the run."""
        steps, batch = inputs.shape[:2]
        unknown = (np.full((steps, batch, c.input_size), np.nan) for c in self.cells[1:])
        return _named(
            drawn(c.draw, rng, x, moment) for c, x in zip(self.cells, (inputs, *unknown), strict=True)
        )

    @cached_property
    def layer_data(self):
        """For each layer: the step data that it asks for -> their names in the run."""
        own = self.draw(np.random.default_rng(0), np.zeros((2, 1, self.input_size)), Moment())
        return [
            {n: f"layer{i}_{n}" if f"layer{i}_{n}" in own else n for n in c.step_data}
            for i, c in enumerate(self.cells)
        ]

    @cached_property
    def step_data(self):
        return tuple(dict.fromkeys(n for layer in self.layer_data for n in layer.values()))

    def _layers(self, params, data):
        """(cell, its parameters, its step data) of each layer."""
        for i, (cell, asks) in enumerate(zip(self.cells, self.layer_data, strict=True)):
            yield cell, _own(params, i), {n: data[in_run] for n, in_run in asks.items()}

    def parts(self, x):
        """Those of an array (..., m) that belong to each layer."""
        ends = accumulate((c.state_size for c in self.cells), initial=0)
        return [x[..., a:b] for a, b in pairwise(ends)]

    def step(self, params, state, inputs, xp, **data):
        new, x = [], inputs
        for (cell, own, here), old in zip(self._layers(params, data), self.parts(state), strict=True):
            new.append(cell.step(own, old, x, xp, **here))
            if len(new) < len(self.cells):
                x = cell.output(own, new[-1], x, xp)
        return xp.concat(new, axis=-1)

    def step_jacobian(self, params, state, inputs, **data):
        if not self.by_blocks:
            return super().step_jacobian(params, state, inputs, **data)
        m, ends = self.state_size, np.cumsum([0, *(c.state_size for c in self.cells)])
        found = np.zeros((*state.shape[:-1], m, m), dtype=state.dtype)
        for i, layer in enumerate(self._steps(params, state, inputs, data)):
            here = slice(ends[i], ends[i + 1])
            found[..., here, here] = layer.jacobian()
            if i:
                below = found[..., ends[i - 1] : ends[i], : ends[i]]
                seen = [below[..., self.cells[i - 1].block(n), :] for n in self.cells[i - 1].output_blocks]
                found[..., here, : ends[i]] = layer.inputs_jacobian() @ np.concatenate(seen, axis=-2)
        return found[..., None, :, :]

    def state_vjp(self, params, state, inputs, cotangent, **data):
        if not self.by_blocks:
            return super().state_vjp(params, state, inputs, cotangent, **data)
        taken = self._steps(params, state, inputs, data)
        found = [layer.state_vjp(u) for layer, u in _down(taken, self.parts(cotangent))]
        return np.concatenate(found[::-1], axis=-1)

    def params_vjp(self, params, state, inputs, cotangent, **data):
        if not self.by_blocks:
            return super().params_vjp(params, state, inputs, cotangent, **data)
        taken = self._steps(params, state, inputs, data)
        found = [layer.params_vjp(u) for layer, u in _down(taken, self.parts(cotangent))]
        return _named(found[::-1])

    def _steps(self, params, state, inputs, data):
        """What the layers do at some positions."""
        found, x = [], inputs
        for (cell, own, here), old in zip(self._layers(params, data), self.parts(state), strict=True):
            found.append(_Steps(cell, own, old, x, here))
            x = cell.output(own, cell.step(own, old, x, np, **here), x, np)
        return found

    def evaluated(self, params, step_data):
        found = [cell.evaluated(own, here) for cell, own, here in self._layers(params, step_data)]
        if all(e.cell is c for e, c in zip(found, self.cells, strict=True)):
            return super().evaluated(params, step_data)

        def back(gradient):
            return _named(e.back(_own(gradient, i)) for i, e in enumerate(found))

        return Evaluated(
            replace(self, cells=tuple(e.cell for e in found)), _named(e.params for e in found), back
        )

    def unroll(self, params, state, inputs, step_data, parallel):
        plain = self.evaluated(params, step_data)
        if plain.cell is not self:
            return plain.unroll(self, params, state, inputs, step_data, parallel)
        if not self.by_blocks:
            return super().unroll(params, state, inputs, step_data, parallel)
        taken, x = [], inputs
        for (cell, own, here), first in zip(self._layers(params, step_data), self.parts(state), strict=True):
            taken.append(cell.unroll(own, np.ascontiguousarray(first), x, here, parallel))
            x = cell.output(own, taken[-1].states[1:], x, np)
        states = np.concatenate([t.states for t in taken], axis=-1)
        return StackSteps(self, params, states, inputs, step_data, tuple(taken))


@dataclass(frozen=True)
class _Steps:
    """Where a layer takes steps, from states (..., m)."""

    cell: Cell
    params: Params
    state: Array
    inputs: Array
    data: StepData

    def state_vjp(self, cotangent):
        return self.cell.state_vjp(self.params, self.state, self.inputs, cotangent, **self.data)

    def params_vjp(self, cotangent):
        return self.cell.params_vjp(self.params, self.state, self.inputs, cotangent, **self.data)

    def inputs_vjp(self, cotangent):
        given = self.params, self.state, self.inputs
        return autodiff.provider().inputs_vjp(self.cell.step, *given, cotangent, self.data)

    def inputs_jacobian(self):
        """That of the new state by the inputs, (..., m, input)."""
        given = self.params, self.state, self.inputs
        return autodiff.provider().inputs_jacobian(self.cell.step, *given, self.data)

    def jacobian(self):
        """That of the new state by the old, (..., m, m)."""
        return dense_blocks(self.cell.step_jacobian(self.params, self.state, self.inputs, **self.data))


def _down(taken, cotangents):
    """From the last layer down, with the cotangents of their new states, those of what is above included."""
    above = None
    for i in range(len(taken) - 1, -1, -1):
        whole = cotangents[i] if above is None else _onto_output(taken[i].cell, cotangents[i], above)
        yield taken[i], whole
        above = taken[i].inputs_vjp(whole) if i else None


@dataclass(frozen=True, eq=False)
class StackSteps(Trajectory):
    """Steps that the layers have taken, each all of them before the next one."""

    taken: tuple[Trajectory, ...]

    def __getitem__(self, steps):
        """See `Trajectory`."""
        first = self.taken[0].first - self.first
        inside = range(steps.start + first, steps.stop + first)
        return replace(super().__getitem__(steps), taken=tuple(t[inside] for t in self.taken))

    def pull(self, incoming, direct):
        """See `Trajectory.pull`.

        A layer is pulled back with what the one above makes of its output. That is no part of the adjoint of
        its state, which holds the states beside it fixed; one more step back from there leads to it.
        """
        cell, adjoints, pulled, above = self.cell, np.empty_like(self.states), [], None
        parts, first = [cell.parts(x) for x in (incoming, direct, adjoints)], 0
        for taken, last, q, a in list(zip(self.taken, *parts, strict=True))[::-1]:
            entering = np.concatenate((q[first:], last[None]))
            if above is not None:
                entering[1:] = _onto_output(taken.cell, entering[1:], above)
            pulled.append(_lifted(taken[taken.steps[first:]], entering))
            found = pulled[-1].adjoints
            # A layer may stop; the ones below go no further then.
            first = len(a) - len(found)
            here = taken[taken.steps[first:]]
            steps = _Steps(here.cell, here.params, here.before, here.inputs, here.step_data)
            a[first:] = found
            if above is not None:
                a[first:-1] = steps.state_vjp(found[1:]) + q[first:]
                a[-1] = last
            if len(pulled) < len(self.taken):
                above = steps.inputs_vjp(found[1:])
        layers = [shortened(p, t[t.steps[first:]]) for p, t in zip(pulled[::-1], self.taken, strict=True)]
        return PulledStack(adjoints[first:], layers)


def _lifted(taken: Trajectory, entering: Array) -> Pulled:
    """The pull of a layer, each batch element from its own size: it may be small beside the other layers."""
    octaves = np.frexp(np.abs(entering).max(axis=(0, 2)))[1][:, None]
    if octaves.min() > -_LIFT:
        return taken.pull(entering[-1], entering[:-1])
    octaves -= _LIFT  # where it has become small, it will go on to
    own = np.ldexp(entering, -octaves)
    adjoints = np.ldexp(taken.pull(own[-1], own[:-1]).adjoints, octaves)
    return PulledByVjp(taken[taken.steps[1 - len(adjoints) :]], adjoints)


@dataclass(frozen=True, eq=False)
class PulledStack:
    """Adjoints of the joint state (steps + 1, batch, m), and what each layer makes of its own."""

    adjoints: Array
    layers: list[Pulled]

    def contributions(self):
        """See `Pulled`."""
        return _named(pulled.contributions() for pulled in self.layers)

    def gradient(self):
        """See `Pulled`."""
        return _named(pulled.gradient() for pulled in self.layers)


def _output_paths(cells: tuple[Cell, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(path for c in cells for path in c.output_paths))


def _named(layers: Iterable[Mapping[str, Array]]) -> dict[str, Array]:
    return {f"layer{i}_{n}": x for i, layer in enumerate(layers) for n, x in layer.items()}


def _own(params: Params, i: int) -> Params:
    prefix = f"layer{i}_"
    return {n[len(prefix) :]: params[n] for n in params if n.startswith(prefix)}


def _onto_output(cell: Cell, cotangent: Array, output: Array) -> Array:
    """The cotangent (..., m) of a state, with that of its output added."""
    found, start = cotangent.copy(), 0
    for name in cell.output_blocks:
        size = cell.blocks[name]
        found[..., cell.block(name)] += output[..., start : start + size]
        start += size
    return found

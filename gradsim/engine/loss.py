"""The loss of a run: what a readout sees, the loss of the task, and its derivatives at each step."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import autograd.numpy as anp
import numpy as np

from gradsim.contracts.cell import Cell
from gradsim.contracts.episodes import refuse_wrong_loss
from gradsim.contracts.plugin import Passed, calling
from gradsim.contracts.promises import refuse, result_mistakes
from gradsim.contracts.task import Episode, Task
from gradsim.contracts.trajectory import step_rows
from gradsim.errors import InputError, NonFiniteError, PluginError
from gradsim.numerics import autodiff
from gradsim.numerics.scaled import Scaled
from gradsim.types import Array, Params

_CHECKED = 4
"""Steps whose outputs are enough to see whether a loss mixes them."""

_believed = Passed()

READOUT = ("readout_W", "readout_b")


def init_readout(cell: Cell, task: Task, rng: np.random.Generator) -> Params:
    """A readout with weights N(0, 1/features) and zero bias; none for a task without one.

    Raises
    ------
    InputError
        The task looks at the output of the cell itself, and that has another size.
    """
    size, features = task.output_size, cell.output_size
    if not task.readout:
        if size not in (None, features):
            raise InputError(
                f"the task {task.name} looks at {size} outputs itself, without a readout, and {cell!r} has "
                f"{features}; give it a cell with output_size={size}"
            )
        return {}
    if size is None:
        raise PluginError(f"{task!r} has a readout; its output_size should be an int, 1 or more")
    weight = rng.standard_normal((size, features)) / np.sqrt(features)
    return {READOUT[0]: weight, READOUT[1]: np.zeros(size)}


class Loss:
    """The loss at every step, and its derivatives, segment by segment.

    Without a task the loss is the sum of the last outputs, averaged over the batch: its derivative at
    the last time is 1/batch in every component that a readout would see.
    """

    def __init__(
        self,
        cell: Cell,
        params: Params,
        readout: Params,
        inputs: Array,
        task: Task | None,
        episode: Episode | None,
    ) -> None:
        self.cell, self.params, self.readout, self.inputs = cell, params, readout, inputs
        self.task, self.episode = task, episode
        self.steps, self.batch = inputs.shape[:2]
        # Where what a readout sees lies in the state; None if the cell makes something else of it.
        self.place = None if cell.own_output else _place(cell)
        self.total = 0.0
        self.check = False
        """Whether the loss of the task is to be tried on some outputs before it is believed."""
        self._slopes: Array | None = None
        self._counted: dict[range, slice | Array] = {}

    def terms(self, steps: range, states: Array) -> Array:
        """The weighted losses (step, batch) of these steps, from the states after them; once a step."""
        terms, counting = np.zeros(states.shape[:2], dtype=states.dtype), self._counting(steps)
        if self.task is None or self.episode is None:
            with np.errstate(all="ignore"):
                terms[counting] = self._seen(steps, states, counting).sum(axis=-1)
        else:
            if self._slopes is None:
                shape = self.steps, self.batch, self.task.output_size or self.cell.output_size
                self._slopes = np.zeros(shape, dtype=states.dtype)
            if terms[counting].size:
                terms[counting], slopes = self._evaluated(self.task, self.episode, steps, states)
                self._slopes[step_rows(steps)][counting] = slopes / self.batch
        with np.errstate(over="ignore"):
            self.total += float(terms.sum(dtype=np.float64)) / self.batch
        if not math.isfinite(self.total):
            self._refuse_non_finite("the loss", terms[counting], steps)
            raise NonFiniteError(
                f"{self._who}: the losses of steps 1 to {steps[-1]} add up to {self.total}; use smaller "
                "weights or inputs"
            )
        return terms

    @property
    def _who(self) -> str:
        return repr(self.cell if self.task is None else self.task)

    def _refuse_non_finite(self, what: str, values: Array, steps: range) -> None:
        """Name the first step and batch element where values at the steps that count are NaN or infinite."""
        if np.isfinite(values).all():
            return
        if (beyond := np.argwhere(~np.isfinite(values))).size:
            first = tuple(beyond[0])
            step = np.array(steps)[self._counting(steps)][first[0]]
            raise NonFiniteError(
                f"{self._who}: {what} is {values[first]} for the first time at step {step}, batch {first[1]}"
                "; use smaller weights or inputs, or dtype='float64'"
            )

    def direct(self, steps: range, states: Array) -> Array:
        """q_t = dL_t/ds_t, shape (step + 1, batch, m), after these steps; and a row of zeros before."""
        direct = np.zeros((len(states) + 1, *states.shape[1:]), dtype=states.dtype)
        counting = self._counting(steps)
        rows = direct[1:][counting]
        if not len(rows):
            return direct
        with np.errstate(all="ignore"):
            if self.place is not None:
                room = rows[:, :, self.place] if isinstance(self.place, slice) else None
                slopes = self._slopes_of_seen(steps, counting, room)
                if slopes is not room:
                    rows[:, :, self.place] = slopes
            else:
                rows[:] = self._back(autodiff.provider().state_vjp, *self._pulled(steps, states))
        if not isinstance(counting, slice):  # then the rows are a copy
            direct[1:][counting] = rows
        self._refuse_non_finite("the derivative of the loss with respect to the state", rows, steps)
        return direct

    @property
    def errors(self) -> Array | None:
        """The derivative of the loss at each time with respect to what a task looks at; None without one."""
        if self._slopes is None:
            return None
        return np.concatenate((np.zeros_like(self._slopes[:1]), self._slopes))

    def contributions(self, steps: range, states: Array) -> dict[str, Scaled]:
        """What enters the gradient at these steps by the readout and the output, from the states after."""
        counting = self._counting(steps)
        parts: Params = {}
        with np.errstate(all="ignore"):
            if self.place is None and len(states[counting]):
                parts = self._back(autodiff.provider().params_vjp, *self._pulled(steps, states))
            if self.readout:
                slopes = self._slopes_of_outputs(steps, counting)
                weight = slopes.swapaxes(1, 2) @ self._seen(steps, states, counting)
                parts |= zip(READOUT, (weight, slopes.sum(axis=1)), strict=True)
        self._refuse_beyond(parts, steps, states)
        found = {}
        for name, part in parts.items():
            whole = np.zeros((len(steps), *part.shape[1:]), dtype=part.dtype)
            whole[counting] = part
            found[name] = Scaled(whole, np.zeros((len(steps), *(1,) * (part.ndim - 1)), dtype=np.int32))
        return found

    def gradient(self, steps: range, states: Array) -> dict[str, Scaled]:
        """The sum of these contributions."""
        counting = self._counting(steps)
        parts: Params = {}
        with np.errstate(all="ignore"):
            if self.place is None and len(states[counting]):
                parts = self._back(autodiff.provider().params_vjp, *map(_flat, self._pulled(steps, states)))
            if self.readout:
                slopes = _flat(self._slopes_of_outputs(steps, counting))
                weight = slopes.T @ _flat(self._seen(steps, states, counting))
                parts |= zip(READOUT, (weight, slopes.sum(axis=0)), strict=True)
        self._refuse_beyond(parts, steps, states)
        none = np.zeros((), dtype=np.int32)
        return {name: Scaled(part, none) for name, part in parts.items()}

    def apart(self, steps: range, states: Array) -> Params:
        """The same for each batch element, (batch, *param)."""
        counting = self._counting(steps)
        parts: Params = {}
        with np.errstate(all="ignore"):
            if self.place is None and len(states[counting]):
                there = (x.swapaxes(0, 1) for x in self._pulled(steps, states))
                parts = self._back(autodiff.provider().params_vjp, *there)
            if self.readout:
                slopes = self._slopes_of_outputs(steps, counting).swapaxes(0, 1)
                weight = slopes.swapaxes(1, 2) @ self._seen(steps, states, counting).swapaxes(0, 1)
                parts |= zip(READOUT, (weight, slopes.sum(axis=1)), strict=True)
        self._refuse_beyond(parts, steps, states)
        return parts

    def inputs_slopes(self, steps: range, states: Array) -> Array | None:
        """dL_t/dx_t at fixed states, (step, batch, input); None if an output is made of states alone."""
        if self.place is not None:
            return None
        counting = self._counting(steps)
        found = np.zeros((len(steps), *self.inputs.shape[1:]), dtype=states.dtype)
        if len(states[counting]):
            with np.errstate(all="ignore"):
                found[counting] = self._back(autodiff.provider().inputs_vjp, *self._pulled(steps, states))
        return found

    def _refuse_beyond(self, parts: Params, steps: range, states: Array) -> None:
        """Name the parameter whose gradient is NaN or infinite, and where most of that comes from."""
        for name, part in parts.items():
            if not np.isfinite(part).all():
                counting = self._counting(steps)
                slopes, states = self._slopes_of_seen(steps, counting), states[counting]
                sizes = [np.abs(x.astype(np.float64)).max(axis=-1) for x in (slopes, states)]
                t, b = np.unravel_index(np.argmax(sizes[0] * sizes[1]), slopes.shape[:2])
                raise NonFiniteError(
                    f"{self._who}: the gradient of {name} leaves the range of {part.dtype}, most at step "
                    f"{np.array(steps)[counting][t]}, batch {b}; use smaller weights or inputs, or "
                    "dtype='float64'"
                )

    def outputs(self, steps: range, states: Array) -> Array:
        """What the loss looks at, (step, batch, output): what the readout says, or what it would see."""
        return self._said(self._seen(steps, states, slice(None)))

    def _said(self, seen: Array) -> Array:
        if not self.readout:
            return seen
        weight, bias = (self.readout[n] for n in READOUT)
        said: Array = _flat(seen) @ weight.T + bias
        return said.reshape(*seen.shape[:2], said.shape[1])

    def _seen(self, steps: range, states: Array, chosen: slice | Array) -> Array:
        """What a readout sees at chosen ones of these steps, (step, batch, feature)."""
        states = states[chosen]
        if self.place is not None:
            return states[:, :, self.place]
        with np.errstate(all="ignore"), calling(self.cell, "output", self.params):
            seen = self.cell.output(self.params, states, self.inputs[step_rows(steps)][chosen], np)
        refuse(self.cell, result_mistakes(self.cell, "output", seen, states))
        return np.asarray(seen)

    def _back(self, vjp: Callable[..., Any], *place: Array) -> Any:
        """Through the output of the cell, from states, inputs and slopes of what it gives."""
        with calling(self.cell, "output", self.params):
            return vjp(self.cell.output, self.params, *place, {})

    def _pulled(self, steps: range, states: Array) -> tuple[Array, Array, Array]:
        """States, inputs and slopes of what the cell makes of them, at the steps that count."""
        counting = self._counting(steps)
        inputs = self.inputs[step_rows(steps)][counting]
        return states[counting], inputs, self._slopes_of_seen(steps, counting)

    def _slopes_of_seen(self, steps: range, counting: slice | Array, room: Array | None = None) -> Array:
        """(step, batch, feature); in `room`, if that saves a copy."""
        if self.task is None:
            return np.full((1, self.batch, self.cell.output_size), 1 / self.batch, dtype=self.inputs.dtype)
        slopes = self._slopes_of_outputs(steps, counting)
        if not self.readout:
            return slopes
        weight = self.readout[READOUT[0]]
        if len(weight) == 1:  # nothing to sum: quicker than a product of matrices
            found: Array = np.multiply(slopes, weight[0], out=room)
            return found
        flat = _flat(slopes) @ weight  # as one matrix: quicker
        return flat.reshape(*slopes.shape[:2], weight.shape[1])

    def _slopes_of_outputs(self, steps: range, counting: slice | Array) -> Array:
        """(step, batch, output)."""
        assert self._slopes is not None
        return np.asarray(self._slopes[step_rows(steps)][counting])

    def _counting(self, steps: range) -> slice | Array:
        """The rows of these steps at which some loss counts; a slice, which copies nothing, if it can."""
        if steps not in self._counted:
            self._counted[steps] = self._found_counting(steps)
        return self._counted[steps]

    def _found_counting(self, steps: range) -> slice | Array:
        if self.episode is None:
            return slice(len(steps) - (steps.stop > self.steps), len(steps))
        rows = np.flatnonzero(self.episode.weights[step_rows(steps)].any(axis=1))
        if len(rows) and rows[-1] - rows[0] == len(rows) - 1:
            return slice(int(rows[0]), int(rows[-1]) + 1)
        return rows

    def _evaluated(self, task: Task, episode: Episode, steps: range, states: Array) -> tuple[Array, Array]:
        """Losses and their slopes at the steps that count."""
        counting = self._counting(steps)
        targets, weights = (x[step_rows(steps)][counting] for x in (episode.targets, episode.weights))
        weights = weights.astype(states.dtype)

        with np.errstate(all="ignore"):
            said = self._said(self._seen(steps, states, counting))
        if self.check and task not in _believed:
            refuse_wrong_loss(task, said[:_CHECKED], targets[:_CHECKED])
            _believed.add(task)
        self.check = False

        def weighted(said: Array) -> Array:
            value: Array = task.loss(said, targets, anp)
            if np.shape(value) != weights.shape or np.iscomplexobj(value):
                raise ValueError(f"loss() should be real, of shape {weights.shape}")
            return weights * value

        try:
            with np.errstate(all="ignore"):  # what is not finite is found, with its place
                slopes, terms = autodiff.gradient(weighted, said)
        except Exception as error:
            refuse_wrong_loss(task, said, targets)  # which says more
            raise PluginError(f"{task!r}: {error}") from error
        with np.errstate(over="ignore"):
            return terms.astype(states.dtype, copy=False), slopes.astype(states.dtype, copy=False)


def _flat(x: Array) -> Array:
    return x.reshape(-1, x.shape[-1])


def _place(cell: Cell) -> slice | Array:
    """Where the output blocks lie in the state; a slice, which copies nothing, if they lie in a row."""
    blocks = [cell.block(n) for n in cell.output_blocks]
    if all(one.stop == other.start for one, other in pairwise(blocks)):
        return slice(blocks[0].start, blocks[-1].stop)
    return np.concatenate([np.arange(block.start, block.stop) for block in blocks])

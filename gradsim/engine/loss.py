"""The loss of a run: a linear readout, the loss of the task, and its derivatives at each step."""

from __future__ import annotations

import autograd.numpy as anp
import numpy as np

from gradsim.contracts.cell import Cell
from gradsim.contracts.task import Episode, Task
from gradsim.errors import InputError, NonFiniteError
from gradsim.numerics import autodiff
from gradsim.numerics.scaled import Scaled
from gradsim.types import Array, Params

READOUT = ("readout_W", "readout_b")


def init_readout(cell: Cell, task: Task, rng: np.random.Generator) -> Params:
    """A readout with weights N(0, 1/features) and zero bias."""
    features = _features(cell)
    weight = rng.standard_normal((task.output_size, features)) / np.sqrt(features)
    return {READOUT[0]: weight, READOUT[1]: np.zeros(task.output_size)}


class Loss:
    """The loss at every step, and q_t = dL_t/ds_t, stretch by stretch.

    Without a task the loss is the sum of the last outputs, averaged over the batch: its adjoint at
    the last time is 1/batch in every component that a readout would see.
    """

    def __init__(
        self, cell: Cell, task: Task | None, episode: Episode | None, readout: Params, steps: int
    ) -> None:
        self.task, self.episode, self.readout, self.steps = task, episode, readout, steps
        self.seen = _seen(cell)
        self.total = 0.0
        self._slopes: Array | None = None

    def terms(self, steps: range, states: Array) -> Array:
        """The weighted losses (step, batch) of these steps, from the states after them; once a step."""
        terms = np.zeros(states.shape[:2], dtype=states.dtype)
        if self.task is None or self.episode is None:
            if steps.stop > self.steps:
                terms[-1] = states[-1][:, self.seen].sum(axis=-1)
        else:
            counting = self._counting(steps)
            if self._slopes is None:
                shape = self.steps, states.shape[1], self.task.output_size
                self._slopes = np.zeros(shape, dtype=states.dtype)
            if terms[counting].size:
                terms[counting], slopes = self._evaluated(self.task, self.episode, steps, states)
                self._slopes[_rows(steps)][counting] = slopes / states.shape[1]
        self.total += float(terms.sum(dtype=np.float64)) / states.shape[1]
        return terms

    def direct(self, steps: range, states: Array) -> Array:
        """q, shape (step + 1, batch, m), at the states after these steps; and a row of zeros before."""
        direct = np.zeros((len(states) + 1, *states.shape[1:]), dtype=states.dtype)
        if self._slopes is not None:
            counting = self._counting(steps)
            rows = direct[1:][counting]
            rows[:, :, self.seen] = self._through_readout(self._slopes[_rows(steps)][counting])
            if not isinstance(counting, slice):  # then the rows are a copy
                direct[1:][counting] = rows
        elif steps.stop > self.steps:
            direct[-1][:, self.seen] = 1 / states.shape[1]
        return direct

    def _through_readout(self, slopes: Array) -> Array:
        """From slopes (step, batch, output) to slopes of what the readout sees, (step, batch, feature)."""
        weight = self.readout[READOUT[0]]
        if len(weight) == 1:  # nothing to sum: quicker than a product of matrices
            return np.asarray(slopes * weight[0])
        flat = slopes.reshape(-1, len(weight)) @ weight  # as one matrix: quicker
        return flat.reshape(*slopes.shape[:2], weight.shape[1])

    def readout_contributions(self, steps: range, states: Array) -> dict[str, Scaled]:
        """What enters the gradient of the readout at these steps, from the states after them."""
        if self._slopes is None:
            return {}
        slopes, none = self._slopes[_rows(steps)], np.zeros(len(steps), dtype=np.int32)
        weight = slopes.swapaxes(1, 2) @ states[:, :, self.seen]
        parts = (Scaled(weight, none[:, None, None]), Scaled(slopes.sum(axis=1), none[:, None]))
        return dict(zip(READOUT, parts, strict=True))

    def readout_gradient(self, steps: range, states: Array) -> dict[str, Scaled]:
        """The sum of these contributions."""
        if self._slopes is None:
            return {}
        counting, none = self._counting(steps), np.zeros((), dtype=np.int32)
        slopes = self._slopes[_rows(steps)][counting]
        flat, seen = slopes.reshape(-1, slopes.shape[-1]), states[counting][:, :, self.seen]
        weight = flat.T @ seen.reshape(-1, seen.shape[-1])
        return dict(zip(READOUT, (Scaled(weight, none), Scaled(flat.sum(axis=0), none)), strict=True))

    def outputs(self, states: Array) -> Array:
        """What the readout says of states (step, batch, m): (step, batch, output)."""
        weight, bias = (self.readout[n] for n in READOUT)
        seen = states[:, :, self.seen]
        said: Array = seen.reshape(-1, seen.shape[-1]) @ weight.T + bias
        return said.reshape(*states.shape[:2], said.shape[1])

    def _counting(self, steps: range) -> slice | Array:
        """The rows of these steps at which some loss counts; a slice, which copies nothing, if it can."""
        assert self.episode is not None
        rows = np.flatnonzero(self.episode.weights[_rows(steps)].any(axis=1))
        if len(rows) and rows[-1] - rows[0] == len(rows) - 1:
            return slice(int(rows[0]), int(rows[-1]) + 1)
        return rows

    def _evaluated(self, task: Task, episode: Episode, steps: range, states: Array) -> tuple[Array, Array]:
        """Losses and their slopes at the steps that count."""
        counting = self._counting(steps)
        targets, weights = (x[_rows(steps)][counting] for x in (episode.targets, episode.weights))
        weights = weights.astype(states.dtype)

        def weighted(said: Array) -> Array:
            try:
                value: Array = task.loss(said, targets, anp)
            except InputError as error:
                raise InputError(f"{task!r}: {error}") from error
            if value.shape != weights.shape:
                raise InputError(
                    f"{task!r}: loss() has shape {value.shape} where (step, batch) = {weights.shape} is "
                    f"needed; targets have shape {targets.shape}, outputs {said.shape}"
                )
            return weights * value

        slopes, terms = autodiff.gradient(weighted, self.outputs(states[counting]))
        if not np.isfinite(terms).all():
            t, b = (int(i) for i in np.argwhere(~np.isfinite(terms))[0])
            step = np.array(steps)[counting][t]
            raise NonFiniteError(
                f"{task!r}: the loss is {terms[t, b]} for the first time at step {step}, batch {b}"
            )
        return terms, slopes


def _rows(steps: range) -> slice:
    return slice(steps.start - 1, steps.stop - 1)


def _features(cell: Cell) -> int:
    return sum(cell.blocks[n] for n in cell.output_blocks)


def _seen(cell: Cell) -> slice | Array:
    """Where the output blocks lie in the state; a slice, which copies nothing, if they are one."""
    if len(cell.output_blocks) == 1:
        return cell.block(cell.output_blocks[0])
    return np.concatenate([np.arange(cell.state_size)[cell.block(n)] for n in cell.output_blocks])

"""The loss of a run: a linear readout, the loss of the task, and its derivatives at each step."""

from __future__ import annotations

from dataclasses import dataclass

import autograd.numpy as anp
import numpy as np

from gradsim import autodiff
from gradsim.cell import Cell
from gradsim.errors import InputError, NonFiniteError
from gradsim.recorder import Contributions
from gradsim.scaled import Scaled
from gradsim.task import Episode, Task
from gradsim.types import Array, Params

READOUT = ("readout_W", "readout_b")


@dataclass(frozen=True)
class Evaluation:
    """`terms` (step, batch): weighted losses. `direct` (time, batch, m): q_t = dL_t/ds_t.

    `outputs` (step, batch, features) are what the readout sees and `slopes` (step, batch, output)
    the derivative of L with respect to what it says; both None without a task.
    """

    terms: Array
    direct: Array
    outputs: Array | None = None
    slopes: Array | None = None

    def readout_contributions(self, steps: range) -> Contributions:
        """What enters the gradient of the readout in a range of steps."""
        if self.outputs is None or self.slopes is None:
            return Contributions(steps, {})
        rows = slice(steps.start - 1, steps.stop - 1)
        weight = self.slopes[rows].swapaxes(1, 2) @ self.outputs[rows]
        bias = self.slopes[rows].sum(axis=1)
        zero = np.zeros(len(steps), dtype=np.int32)
        return Contributions(
            steps,
            {
                READOUT[0]: Scaled(weight, zero[:, None, None]),
                READOUT[1]: Scaled(bias, zero[:, None]),
            },
        )


def init_readout(cell: Cell, task: Task, rng: np.random.Generator) -> Params:
    """A readout with weights N(0, 1/features) and zero bias."""
    features = len(_seen(cell))
    weight = rng.standard_normal((task.output_size, features)) / np.sqrt(features)
    return {READOUT[0]: weight, READOUT[1]: np.zeros(task.output_size)}


def evaluate(
    cell: Cell, states: Array, task: Task | None, episode: Episode | None, readout: Params
) -> Evaluation:
    """The loss and its direct derivatives.

    Without a task the loss is the sum of the last outputs, averaged over the batch: its adjoint at
    the last time is 1/batch in every component that a readout would see.
    """
    seen = _seen(cell)
    outputs = states[1:, :, seen]
    direct = np.zeros_like(states)
    if task is None or episode is None:
        terms = np.zeros(outputs.shape[:2], dtype=states.dtype)
        terms[-1] = outputs[-1].sum(axis=-1)
        direct[-1][:, seen] = 1 / states.shape[1]
        return Evaluation(terms, direct)
    weight, bias = (readout[n] for n in READOUT)
    said = outputs @ weight.T + bias
    weights = episode.weights.astype(states.dtype)
    slopes, terms = autodiff.gradient(lambda y: weights * _loss(task, y, episode), said)
    if not np.isfinite(terms).all():
        t, b = (int(i) for i in np.argwhere(~np.isfinite(terms))[0])
        raise NonFiniteError(
            f"{task!r}: the loss is {terms[t, b]} for the first time at step {t + 1}, batch {b}"
        )
    slopes = (slopes / states.shape[1]).astype(states.dtype)
    direct[1:, :, seen] = slopes @ weight
    return Evaluation(terms, direct, outputs, slopes)


def _loss(task: Task, outputs: Array, episode: Episode) -> Array:
    value: Array = task.loss(outputs, episode.targets, anp)
    if value.shape != episode.weights.shape:
        raise InputError(
            f"{task!r}: loss() has shape {value.shape} where (step, batch) = {episode.weights.shape} is "
            f"needed; targets have shape {episode.targets.shape}, outputs {outputs.shape}"
        )
    return value


def _seen(cell: Cell) -> Array:
    return np.concatenate([np.arange(cell.state_size)[cell.block(n)] for n in cell.output_blocks])

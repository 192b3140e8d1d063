"""The contract of a task: inputs, targets and loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from autograd.extend import defvjp, primitive

from gradsim.contracts.plugin import Plugin
from gradsim.errors import InputError, PluginError, unknown
from gradsim.numerics.locked import all_locked, locked
from gradsim.types import Array, StepData


@dataclass(frozen=True)
class Episode:
    """One batch of a task.

    `inputs` has shape (time, batch, input). `targets` has leading axes (time, batch) and whatever
    shape the loss of the task takes. `weights`, shape (time, batch), says how much the loss at each
    step counts; zero where there is none, as behind the end of a short sequence. `step_data` is what a
    cell may ask for by name, besides `targets` and `weights`: something that a network may know in every
    pass, as it knows its inputs.
    """

    inputs: Array
    targets: Array
    weights: Array
    step_data: StepData = field(default_factory=dict)

    @property
    def arrays(self) -> dict[str, Array]:
        """All that it holds, by name."""
        return {"inputs": self.inputs, **self.offered}

    @property
    def locked(self) -> Episode:
        """The same, to be read only."""
        inputs, targets, weights = (locked(x) for x in (self.inputs, self.targets, self.weights))
        return Episode(inputs, targets, weights, all_locked(self.step_data))

    @property
    def offered(self) -> dict[str, Array]:
        """What a cell may ask for by name."""
        return {"targets": self.targets, "weights": self.weights, **self.step_data}

    @property
    def otherwise(self) -> Episode:
        """The same, with other answers of the same range and type."""
        return replace(self, targets=mirrored(self.targets))


def mirrored(targets: Array) -> Array:
    """The same values as far below the greatest one as they were above the least."""
    targets = np.asarray(targets)
    if targets.dtype.kind not in "fiu" or not targets.size:
        return targets[::-1, ::-1]
    with np.errstate(all="ignore"):
        return np.asarray(targets.max() - targets + targets.min(), targets.dtype)


@dataclass(frozen=True)
class Baseline:
    """What an answer that needs no memory of the sequence gets: its loss, and its score if there is one."""

    name: str
    loss: float
    score: float | None = None


class Task(Plugin, ABC):
    """What a network should do: draws episodes and says how wrong an output is.

    The loss of a run is L = (1/batch) * sum over t, b of weights[t, b] * loss[t, b], with outputs
    y_t = R o_t + r of a linear readout of what the cell gives, o_t; see `Cell.output`. With ``readout =
    False`` the loss looks at o_t itself, and `output_size` is that of the cell, or None for any.

    `metric` names what `score` measures, such as "accuracy"; None where the loss says it all.
    """

    metric: ClassVar[str | None] = None
    readout: ClassVar[bool] = True

    @property
    @abstractmethod
    def input_size(self) -> int:
        """The number of input features."""

    @property
    @abstractmethod
    def output_size(self) -> int | None:
        """The number of outputs that the loss looks at; None, without a readout, for as many as there are."""

    @abstractmethod
    def sample(self, rng: np.random.Generator, batch: int) -> Episode:
        """Draw an episode of `batch` sequences."""

    @abstractmethod
    def loss(self, outputs: Any, targets: Array, xp: Any) -> Any:
        """The loss of each output (..., output_size), shape (...); its derivative comes for free."""

    def score(self, outputs: Array, targets: Array) -> Array:
        """How good each output (..., output_size) is, shape (...): more is better.

        The score of a run is the mean over all outputs, weighted by `Episode.weights`.
        """
        raise PluginError(f"{self!r} has metric {self.metric!r}, but no score()")

    @property
    def baseline(self) -> Baseline | None:
        """What a trivial answer gets: guessing, the most frequent class, the value before."""
        return None


class FiniteTask(Task):
    """A task with a limited number of sequences, in parts such as "train", "validation" and "test".

    Parts other than "train" are for measuring. All sequences are padded to one length, with weights of
    zero behind their ends. With `consecutive`, sequence i + 1 of a part goes on where i ends, so that a
    state can be carried from one to the next.
    """

    consecutive: ClassVar[bool] = False

    @property
    @abstractmethod
    def sequences(self) -> Mapping[str, int]:
        """The number of sequences in each part; "train" is one of them."""

    @abstractmethod
    def take(self, part: str, chosen: Array) -> Episode:
        """The episode of the chosen sequences of a part, in this order; 0 is the first."""

    def sample(self, rng: np.random.Generator, batch: int) -> Episode:
        """Draw `batch` different sequences for training."""
        return self.take("train", rng.choice(self.available("train", batch), batch, replace=False))

    def available(self, part: str, batch: int) -> int:
        """The number of sequences in a part.

        Raises
        ------
        InputError
            A batch is larger than that.
        """
        if part not in self.sequences:
            raise unknown(f"part of {self.name}", part, self.sequences)
        count = self.sequences[part]
        if batch > count:
            raise InputError(
                f"batch should be at most {count}, the number of {part} sequences of {self.name} "
                f"(got {batch})"
            )
        return count


# Losses. As primitives: their derivatives take one pass over the outputs.


def squared_error(outputs: Any, targets: Array, xp: Any) -> Any:
    """Mean over the output units of (y - target)^2; targets have the shape of the outputs."""
    if outputs.shape != np.shape(targets):
        raise InputError(
            f"squared_error: targets should have the shape {outputs.shape} of the outputs, got "
            f"{np.shape(targets)}"
        )
    return _squared_error(outputs, targets)


@primitive  # type: ignore[untyped-decorator]
def _squared_error(outputs: Array, targets: Array) -> Array:
    return np.asarray(np.mean((outputs - targets) ** 2, axis=-1))


def _squared_error_slopes(value: Array, outputs: Array, targets: Array) -> Any:
    return lambda cotangent: (2 / outputs.shape[-1]) * cotangent[..., None] * (outputs - targets)


defvjp(_squared_error, _squared_error_slopes, argnums=(0,))


def cross_entropy(outputs: Any, targets: Array, xp: Any) -> Any:
    """-log softmax(y)[target] in nats; `targets` holds class numbers from 0, shape (...)."""
    targets, classes = np.asarray(targets), outputs.shape[-1]
    if targets.dtype.kind not in "iu" or targets.shape != outputs.shape[:-1]:
        raise InputError(
            f"cross_entropy: targets should be class numbers (int) of shape {outputs.shape[:-1]}, got "
            f"{targets.dtype} of shape {targets.shape}; for real-valued targets use squared_error"
        )
    if targets.size and not 0 <= targets.min() <= targets.max() < classes:
        wrong = int(targets.min()) if targets.min() < 0 else int(targets.max())
        raise InputError(
            f"cross_entropy: the outputs have {classes} classes, 0..{classes - 1}, and a target is {wrong}"
        )
    return _cross_entropy(outputs, targets)


@primitive  # type: ignore[untyped-decorator]
def _cross_entropy(outputs: Array, targets: Array) -> Array:
    top = outputs.max(axis=-1, keepdims=True)
    total = np.exp(outputs - top).sum(axis=-1)
    return np.asarray(np.log(total) + top[..., 0] - _chosen(outputs, targets))


def _chosen(outputs: Array, targets: Array) -> Array:
    return np.asarray(np.take_along_axis(outputs, targets[..., None], axis=-1)[..., 0])


def _cross_entropy_slopes(value: Array, outputs: Array, targets: Array) -> Any:
    def pull(cotangent: Array) -> Array:
        log_probability = outputs - (value + _chosen(outputs, targets))[..., None]
        slopes = np.exp(log_probability)
        chosen = targets[..., None]
        np.put_along_axis(slopes, chosen, np.take_along_axis(slopes, chosen, -1) - 1, axis=-1)
        return np.asarray(cotangent[..., None] * slopes)

    return pull


defvjp(_cross_entropy, _cross_entropy_slopes, argnums=(0,))


def accuracy(outputs: Array, targets: Array) -> Array:
    """1 where the greatest output is that of the class, else 0; `targets` as in `cross_entropy`."""
    return np.asarray(np.argmax(outputs, axis=-1) == targets, dtype=np.float64)

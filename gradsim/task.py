"""The contract of a task: inputs, targets and loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gradsim.plugin import Plugin
from gradsim.types import Array, StepData


@dataclass(frozen=True)
class Episode:
    """One batch of a task.

    `inputs` has shape (time, batch, input). `targets` has leading axes (time, batch) and whatever
    shape the loss of the task takes. `weights`, shape (time, batch), says how much the loss at each
    step counts; zero where there is none. `step_data` is what a cell may ask for by name.
    """

    inputs: Array
    targets: Array
    weights: Array
    step_data: StepData = field(default_factory=dict)


class Task(Plugin, ABC):
    """What a network should do: draws episodes and says how wrong an output is.

    The loss of a run is L = (1/batch) * sum over t, b of weights[t, b] * loss[t, b], with outputs
    y_t = R o_t + r of a linear readout of the cell's output blocks o_t.
    """

    @property
    @abstractmethod
    def input_size(self) -> int:
        """The number of input features."""

    @property
    @abstractmethod
    def output_size(self) -> int:
        """The number of readout units."""

    @abstractmethod
    def sample(self, rng: np.random.Generator, batch: int) -> Episode:
        """Draw an episode of `batch` sequences."""

    @abstractmethod
    def loss(self, outputs: Any, targets: Array, xp: Any) -> Any:
        """The loss of each output (..., output_size), shape (...); its derivative comes for free."""


def squared_error(outputs: Any, targets: Array, xp: Any) -> Any:
    """Mean over the output units of (y - target)^2."""
    return xp.mean((outputs - targets) ** 2, axis=-1)


def cross_entropy(outputs: Any, targets: Array, xp: Any) -> Any:
    """-log softmax(y)[target] in nats; `targets` holds class numbers, shape (...)."""
    shifted = outputs - np.max(getattr(outputs, "_value", outputs), axis=-1, keepdims=True)
    chosen = targets[..., None] == np.arange(outputs.shape[-1])
    log_sum = xp.log(xp.sum(xp.exp(shifted), axis=-1))
    return log_sum - xp.sum(xp.where(chosen, shifted, 0.0 * shifted), axis=-1)

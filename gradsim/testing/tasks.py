"""The checks of a task: its episodes and its loss."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import autograd.numpy as anp
import numpy as np

from gradsim import autodiff
from gradsim.errors import PluginError
from gradsim.recorder import Adjoints, LossTerms
from gradsim.simulation import prepare
from gradsim.task import Episode, Task
from gradsim.testing import common, differences
from gradsim.testing.kit import Bench, Checks, copied, no_global_randomness, same
from gradsim.testing.specimen import BATCH, Plain, witness
from gradsim.types import Array

CHECKS = Checks(common.CHECKS)


class TaskBench(Bench):
    """A task with one episode and random outputs."""

    family = "tasks"

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.task = task

    @functools.cached_property
    def _episode(self) -> Episode:
        return self.task.sample(self.rng("episode"), BATCH)

    @property
    def episode(self) -> Episode:
        """The same every time, in arrays of its own."""
        return copied(self._episode)  # type: ignore[no-any-return]

    @property
    def outputs(self) -> Array:
        """What a readout might say, (time, batch, output)."""
        shape = (*self.episode.inputs.shape[:2], self.task.output_size)
        return self.rng("outputs").standard_normal(shape)

    def loss(self, outputs: Array) -> Array:
        """The loss of the task for the targets of the episode."""
        return np.asarray(self.task.loss(outputs, self.episode.targets, np))


@CHECKS()
def sizes(bench: TaskBench) -> None:
    """The numbers of input features and readout units are ints, 1 or more."""
    for name in ("input_size", "output_size"):
        value = getattr(bench.task, name)
        bench.expect(
            isinstance(value, int) and not isinstance(value, bool) and value >= 1,
            f"{name} is {value!r}; it should be an int, 1 or more",
        )


@CHECKS()
def sample_from_rng(bench: TaskBench) -> None:
    """The rng alone decides the episode."""
    with no_global_randomness(bench, "sample()"):
        one, again = (bench.task.sample(bench.rng("same"), BATCH) for _ in range(2))
    bench.expect(
        isinstance(one, Episode), f"sample() returns a {type(one).__name__}; it should be a gradsim.Episode"
    )
    bench.expect(
        same(vars(one), vars(again)),
        "sample() draws another episode from the same rng; take all randomness from the rng that it is given",
    )


@CHECKS("sizes", "sample_from_rng")
def episode_shapes(bench: TaskBench) -> None:
    """Inputs, targets, weights and step data have leading axes (time, batch) and are finite."""
    for batch in (BATCH, 1):
        episode = bench.task.sample(bench.rng("episode"), batch)
        inputs = np.asarray(episode.inputs)
        bench.expect(
            inputs.ndim == 3 and inputs.shape[1:] == (batch, bench.task.input_size) and len(inputs) > 0,
            f"inputs have shape {inputs.shape} for batch {batch}; they should have (time, {batch}, "
            f"{bench.task.input_size})",
        )
        lead = inputs.shape[:2]
        bench.expect(
            np.shape(episode.weights) == lead,
            f"weights have shape {np.shape(episode.weights)}; they should have (time, batch) = {lead}",
        )
        for name, value in {"targets": episode.targets, **episode.step_data}.items():
            bench.expect(
                np.shape(value)[:2] == lead,
                f"{name} has shape {np.shape(value)}; its leading axes should be (time, batch) = {lead}",
            )
        for name, value in {"inputs": inputs, "targets": episode.targets, "weights": episode.weights}.items():
            bench.expect(np.isfinite(value).all(), f"{name} hold NaN or infinity")
        bench.expect(np.any(episode.weights), "all weights are zero: there is no loss")


@CHECKS("episode_shapes")
def loss_shape(bench: TaskBench) -> None:
    """There is one finite loss for each output (time, batch)."""
    outputs = bench.outputs
    value = bench.task.loss(outputs, bench.episode.targets, np)
    bench.expect(
        np.shape(value) == outputs.shape[:2],
        f"loss() has shape {np.shape(value)} for outputs of shape {outputs.shape}; it should be "
        f"{outputs.shape[:2]}, "
        "reduced over the last axis only",
    )
    bench.expect(np.isfinite(value).all(), "loss() is NaN or infinite for outputs drawn from N(0, 1)")


@CHECKS("loss_shape")
def loss_is_pure(bench: TaskBench) -> None:
    """The loss changes none of its arguments, and gives the same again."""
    outputs, targets = bench.outputs, bench.episode.targets
    results = [np.array(bench.task.loss(outputs, targets, np)) for _ in range(2)]
    for name, now, then in (("outputs", outputs, bench.outputs), ("targets", targets, bench.episode.targets)):
        bench.expect(same(now, then), f"loss() changes its argument {name}; compute a new array instead")
    bench.expect(same(*results), "loss() gives two results for the same arguments")


@CHECKS("loss_is_pure")
def loss_by_output(bench: TaskBench) -> None:
    """The loss of one output does not depend on the others."""
    whole = bench.loss(bench.outputs)
    rng = bench.rng("others")
    for _ in range(4):
        t, b = (int(rng.integers(n)) for n in whole.shape)
        moved = rng.standard_normal(bench.outputs.shape)
        moved[t, b] = bench.outputs[t, b]
        bench.expect(
            np.isclose(bench.loss(moved)[t, b], whole[t, b], rtol=1e-9, atol=1e-12),
            f"the loss at time {t}, batch {b} changes with the outputs at other places; reduce over the "
            "last axis only",
        )


@CHECKS("loss_by_output")
def loss_gradient(bench: TaskBench) -> None:
    """The derivative of the loss by autograd is that of central differences."""
    outputs = bench.outputs
    try:
        ours, _ = autodiff.gradient(lambda y: bench.task.loss(y, bench.episode.targets, anp), outputs.copy())
    except (TypeError, AttributeError, ValueError, PluginError) as error:
        bench.fail(
            f"loss() cannot be differentiated ({error}); use xp functions, such as xp.log, instead of numpy"
        )
    theirs, smooth = _slopes(bench, outputs)
    bench.expect(smooth.mean() > 0.5, "loss() has a kink or a jump at most of the random outputs")
    excess, where = differences.worst(
        ours, theirs, smooth, float(np.abs(bench.loss(outputs)).max()), 1e-6, 3e-8
    )
    bench.expect(
        excess <= 1,
        f"the derivative of loss() by autograd is {ours[where]:.6g} at (time, batch, output) {where} where "
        "differences give "
        f"{theirs[where]:.6g}; an xp function that it uses has another derivative",
    )


def _slopes(bench: TaskBench, outputs: Array) -> tuple[Array, Array]:
    """The derivative of every loss by each of its outputs: one output at a time, all places at once."""
    each = [
        differences.slopes(lambda h, i=i: bench.loss(outputs + h * np.eye(outputs.shape[-1])[i]))  # type: ignore[misc]
        for i in range(outputs.shape[-1])
    ]
    slope, smooth = (np.stack(x, axis=-1) for x in zip(*each, strict=True))
    return slope, smooth


@CHECKS("loss_is_pure")
def loss_finite_at_extremes(bench: TaskBench) -> None:
    """For outputs of +-1000 the loss is finite, without a warning."""
    signs = np.sign(bench.outputs)
    for outputs in (1e3 * signs, -1e3 * signs):
        with warnings.catch_warnings(), np.errstate(over="warn", divide="warn", invalid="warn"):
            warnings.simplefilter("error")
            try:
                value: Any = bench.loss(outputs)
            except Warning as warning:
                bench.fail(f"for outputs of +-1000: {warning}; gradsim.cross_entropy does not overflow")
        bench.expect(np.isfinite(value).all(), "the loss is NaN or infinite for outputs of +-1000")


@CHECKS("loss_gradient")
def runs(bench: TaskBench) -> None:
    """A small network runs on it, and its losses and adjoints are finite."""
    seen = [witness(LossTerms), witness(Adjoints)]
    cell = Plain(input_size=bench.task.input_size)
    prepare(cell, task=bench.task, batch=BATCH, record=seen).run(threads=1, progress=False)
    terms, adjoints = (w.kept[0] for w in seen)
    bench.expect(np.isfinite(terms.values).all(), "a run on it has losses that are not finite")
    bench.expect(np.isfinite(adjoints.adjoint.mantissa).all(), "a run on it has adjoints that are not finite")

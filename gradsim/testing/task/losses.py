"""The checks of a task: its loss, its score and its baseline."""

from __future__ import annotations

import warnings
from typing import Any

import autograd.numpy as anp
import numpy as np

from gradsim.contracts.episodes import baseline_mistakes, metric_mistakes
from gradsim.contracts.pieces import Adjoints, LossTerms
from gradsim.contracts.task import Task
from gradsim.errors import PluginError
from gradsim.numerics import autodiff
from gradsim.simulation import prepare
from gradsim.testing import differences
from gradsim.testing.kit import Checks, same
from gradsim.testing.specimen import Plain, witness
from gradsim.testing.task.bench import Measure, TaskBench
from gradsim.types import Array

CHECKS = Checks()


@CHECKS("episode_shapes")
def loss_shape(bench: TaskBench) -> None:
    """There is one finite loss for each output (time, batch)."""
    _one_each(bench, "loss")


@CHECKS("loss_shape")
def loss_is_pure(bench: TaskBench) -> None:
    """The loss changes none of its arguments, and gives the same again."""
    _pure(bench, "loss")


@CHECKS("loss_is_pure")
def loss_by_output(bench: TaskBench) -> None:
    """The loss of one output does not depend on the others."""
    _by_output(bench, "loss")


def _scored(bench: TaskBench) -> bool:
    cls = type(bench.task)
    return bench.task.metric is not None or (cls.metric is None and cls.score is not Task.score)


@CHECKS("episode_shapes", applies=_scored)
def score_shape(bench: TaskBench) -> None:
    """There is a metric, and one finite score for each output (time, batch)."""
    metric = bench.task.metric
    bench.expect(
        metric is not None, "there is a score(), but metric is None; it should name what that measures"
    )
    bench.refuse(metric_mistakes(bench.task))
    _one_each(bench, "score")


@CHECKS("score_shape", applies=_scored)
def score_is_pure(bench: TaskBench) -> None:
    """The score changes none of its arguments, and gives the same again."""
    _pure(bench, "score")


@CHECKS("score_is_pure", applies=_scored)
def score_by_output(bench: TaskBench) -> None:
    """The score of one output does not depend on the others."""
    _by_output(bench, "score")


def _one_each(bench: TaskBench, what: Measure) -> None:
    outputs = bench.outputs
    value = bench.measure(what, outputs, bench.episode.targets)
    bench.expect(
        value.shape == outputs.shape[:2],
        f"{what}() has shape {value.shape} for outputs of shape {outputs.shape}; it should be "
        f"{outputs.shape[:2]}, reduced over the last axis only",
    )
    bench.expect(np.isfinite(value).all(), f"{what}() is NaN or infinite for outputs drawn from N(0, 1)")


def _pure(bench: TaskBench, what: Measure) -> None:
    outputs, targets = bench.outputs, bench.episode.targets
    results = [np.array(bench.measure(what, outputs, targets)) for _ in range(2)]
    for name, now, then in (("outputs", outputs, bench.outputs), ("targets", targets, bench.episode.targets)):
        bench.expect(same(now, then), f"{what}() changes its argument {name}; compute a new array instead")
    bench.expect(same(*results), f"{what}() gives two results for the same arguments")


def _by_output(bench: TaskBench, what: Measure) -> None:
    whole = bench.measure(what, bench.outputs, bench.episode.targets)
    rng = bench.rng("others")
    for _ in range(4):
        t, b = (int(rng.integers(n)) for n in whole.shape)
        moved = rng.standard_normal(bench.outputs.shape)
        moved[t, b] = bench.outputs[t, b]
        bench.expect(
            np.isclose(
                bench.measure(what, moved, bench.episode.targets)[t, b], whole[t, b], rtol=1e-9, atol=1e-12
            ),
            f"the {what} at time {t}, batch {b} changes with the outputs at other places; reduce over the "
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
        f"differences give {theirs[where]:.6g}; an xp function that it uses has another derivative",
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


@CHECKS()
def baseline_is_stated(bench: TaskBench) -> None:
    """The baseline is None, or has a name, a finite loss and a score where there is a metric."""
    bench.refuse(baseline_mistakes(bench.task, bench.task.baseline))


@CHECKS("loss_gradient", "score_shape")
def runs(bench: TaskBench) -> None:
    """A small network runs on it, and its losses and adjoints are finite."""
    seen = [witness(LossTerms), witness(Adjoints)]
    cell = Plain(bench.task.input_size)
    if not bench.task.readout:
        cell = Plain(bench.task.input_size, bench.output_size)
    prepare(cell, task=bench.task, batch=bench.batch, record=seen).run(threads=1, progress=False)
    terms, adjoints = (w.kept[0] for w in seen)
    bench.expect(np.isfinite(terms.values).all(), "a run on it has losses that are not finite")
    bench.expect(np.isfinite(adjoints.adjoint.mantissa).all(), "a run on it has adjoints that are not finite")

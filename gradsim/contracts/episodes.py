"""What a task promises, and what breaks it, in words for its author: the same in a run and in the kit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from gradsim.contracts.plugin import Passed, calling
from gradsim.contracts.promises import ALONE, CHANGED, is_count, kind
from gradsim.contracts.task import Baseline, Episode, FiniteTask, Task
from gradsim.errors import BudgetError, GradsimError, NonFiniteError, PluginError, shown
from gradsim.types import Array

_CLOSE = 1e-9


def refuse_wrong_task(task: Task) -> None:
    """Raise PluginError unless a task says rightly what it is."""
    _refuse(task, declaration_mistakes(task))


_repeated = Passed()


def repeatable(task: Task, draw: Callable[[], Episode]) -> Episode:
    """An episode that is the same when it is drawn again: once a process, of tasks that look the same."""
    one = draw()
    if task not in _repeated:
        if not _alike(one.arrays, draw().arrays):
            raise PluginError(f"{shown(task)}: {DRAWS_OTHERS}")
        _repeated.add(task)
    return one


DRAWS_OTHERS = (
    "sample() draws another episode from the same rng; take all randomness from the rng that it is given"
)


def sampled(task: Task, rng: np.random.Generator, batch: int) -> Episode:
    """An episode of `batch` sequences, drawn; its arrays are read-only."""
    try:
        with calling(task, "sample"):
            episode = task.sample(rng, batch)
    except MemoryError as error:
        raise BudgetError(
            f"{batch} sequences of {shown(task)} do not fit into memory ({error}); use a smaller batch or "
            "shorter sequences"
        ) from None
    return _checked(task, "sample", episode, batch)


def taken(task: FiniteTask, part: str, chosen: Array) -> Episode:
    """An episode of chosen sequences of a part; its arrays are read-only."""
    with calling(task, "take", task.sequences):
        episode = task.take(part, chosen)
    return _checked(task, "take", episode, len(chosen))


def scores(task: Task, outputs: Array, targets: Array) -> Array:
    """How good each output (step, batch, output) is, (step, batch)."""
    with calling(task, "score"):
        found = task.score(outputs, targets)
    _refuse(task, _result_mistakes("score", found, outputs))
    if not np.isfinite(found).all():
        raise NonFiniteError(f"{shown(task)}: score() is NaN or infinite")
    return np.asarray(found)


def baseline(task: Task) -> Baseline | None:
    """What a trivial answer gets."""
    with calling(task, "baseline"):
        found = task.baseline
    _refuse(task, baseline_mistakes(task, found))
    return found


def refuse_wrong_loss(task: Task, outputs: Array, targets: Array) -> None:
    """Raise unless the loss of a task is one number for each output, by this output alone."""
    _refuse(task, loss_mistakes(task, outputs.astype(np.float64), targets))


# Mistakes.


def declaration_mistakes(task: Task) -> Iterator[str]:
    """What is wrong with what a task says about itself."""
    yield from size_mistakes(task)
    yield from metric_mistakes(task)
    if isinstance(task, FiniteTask):
        yield from part_mistakes(task)


def size_mistakes(task: Task) -> Iterator[str]:
    """What is wrong with the numbers of inputs and outputs."""
    if not isinstance(task.readout, bool):
        yield f"readout is {task.readout!r}; it should be True or False"
    for name in ("input_size", "output_size"):
        value = _told(task, name)
        free = name == "output_size" and not task.readout
        least = int(name == "output_size")  # a network may run without inputs
        nothing = (free and value is None) or (not least and type(value) is int and value == 0)
        if not (is_count(value) or nothing):
            if callable(value):
                yield f"{name} is a method; put @property above it"
            none = ", or None" if free else ""
            yield f"{name} is {shown(value)}; it should be an int, {least} or more{none}"


def metric_mistakes(task: Task) -> Iterator[str]:
    """What is wrong with what its score measures."""
    if not (task.metric is None or (isinstance(task.metric, str) and task.metric)):
        yield f"metric is {task.metric!r}; it should name what score() measures, such as 'accuracy'"
    if task.metric is not None and type(task).score is Task.score:
        yield f"metric is {task.metric!r}, but there is no score()"


def part_mistakes(task: FiniteTask) -> Iterator[str]:
    """What is wrong with the parts of a finite task."""
    sequences = _told(task, "sequences")
    if not isinstance(sequences, Mapping):
        yield f"sequences is {shown(sequences)}; it should map parts to numbers, such as {{'train': 100}}"
    if "train" not in sequences:
        yield f'the parts are {", ".join(map(str, sequences)) or "none"}; there should be "train"'
    for part, count in sequences.items():
        if not is_count(count):
            yield f"the part {part!r} has {shown(count)} sequences; it should be an int, 1 or more"
    if not isinstance(task.consecutive, bool):
        yield f"consecutive is {task.consecutive!r}; it should be True or False"


def episode_mistakes(task: Task, episode: Any, batch: int) -> Iterator[str]:
    """What is wrong with the arrays of an episode."""
    inputs, size = np.asarray(episode.inputs), task.input_size
    if inputs.ndim != 3 or inputs.shape[1:] != (batch, size) or not len(inputs):
        yield f"inputs have shape {inputs.shape} for batch {batch}; they should have (time, {batch}, {size})"
    lead = inputs.shape[:2]
    if np.shape(episode.weights) != lead:
        yield f"weights have shape {np.shape(episode.weights)}; they should have (time, batch) = {lead}"
    if not isinstance(episode.step_data, Mapping):
        yield f"step_data is {shown(episode.step_data)}; it should be a dict of arrays"
    for name, value in {"targets": episode.targets, **episode.step_data}.items():
        if np.shape(value)[:2] != lead:
            yield (f"{name} has shape {np.shape(value)}; its leading axes should be (time, batch) = {lead}")
    for name in ("inputs", "targets", "weights"):
        array = np.asarray(getattr(episode, name))
        if array.dtype.kind not in ("fiu" if name != "targets" else "fiub"):
            yield f"{name} should hold real numbers, not {array.dtype}"
    if np.min(episode.weights) < 0:
        yield "some weights are negative: then a greater loss would be better; they should be 0 or more"


def non_finite(episode: Episode) -> Iterator[str]:
    """Where an array of an episode is NaN or infinite."""
    for name in ("inputs", "targets", "weights"):
        array = np.asarray(getattr(episode, name))
        good = np.isfinite(array)
        if not good.all():
            bad = np.argwhere(~good)
            t, b, *_ = bad[0]
            yield (
                f"{name} is {array[tuple(bad[0])]} for the first time at time {t}, batch {b} ({len(bad)} in "
                "all); fill or cut such values first"
            )


def loss_mistakes(task: Task, outputs: Array, targets: Array) -> Iterator[str]:
    """What is wrong with the loss of outputs (step, batch, output); float64, and drawn at random."""
    given = outputs.copy(), np.array(targets)
    value, again = (_loss(task, *given) for _ in range(2))
    yield from _result_mistakes("loss", value, outputs)
    for name, now, then in zip(("outputs", "targets"), given, (outputs, targets), strict=True):
        if not _same(now, then):
            yield f"loss() {CHANGED.format(name)}"
    if not np.array_equal(value, again, equal_nan=True):
        yield "loss() gives two results for the same arguments; draw what is random in sample()"
    alone, among = _loss(task, outputs[:1, :1], targets[:1, :1]), np.asarray(value)[:1, :1]
    if not np.allclose(alone, among, rtol=_CLOSE, atol=_CLOSE, equal_nan=True):
        yield f"the loss {ALONE.format(float(np.abs(alone - among).max()))}"


def baseline_mistakes(task: Task, found: Any) -> Iterator[str]:
    """What is wrong with the baseline of a task."""
    if found is None:
        return
    if not (isinstance(found, Baseline) and isinstance(found.name, str) and found.name):
        yield f"baseline is {shown(found)}; it should be a gradsim.Baseline with a name, or None"
    if not _is_finite(found.loss):
        yield f"the loss of the baseline is {shown(found.loss)}"
    if not (found.score is None if task.metric is None else _is_finite(found.score)):
        yield (
            f"the score of the baseline is {found.score!r} and the metric {task.metric!r}; there should be "
            "both or neither"
        )


def _result_mistakes(what: str, found: Any, outputs: Array) -> Iterator[str]:
    """What is wrong with the losses or scores of outputs."""
    lead = outputs.shape[:-1]
    if np.shape(found) != lead or not isinstance(found, np.ndarray | np.generic):
        given = f"shape {found.shape}" if isinstance(found, np.ndarray) else kind(found)
        yield (
            f"{what}() gives {given} for outputs of shape {outputs.shape}; it should be an array of shape "
            f"{lead}, reduced over the last axis only"
        )
    elif found.dtype.kind not in "fiub":
        yield f"{what}() gives {found.dtype}, where real numbers are needed"


def _loss(task: Task, outputs: Array, targets: Array) -> Any:
    with calling(task, "loss"), np.errstate(all="ignore"):
        try:
            return task.loss(outputs, targets, np)
        except GradsimError as error:  # of a loss that several tasks share
            raise type(error)(f"{shown(task)}: {error}") from error


# Parts.


def _refuse(task: Task, mistakes: Iterator[str]) -> None:
    for mistake in mistakes:
        raise PluginError(f"{shown(task)}: {mistake}")


def _told(task: Task, name: str) -> Any:
    with calling(task, name):
        return getattr(task, name)


def _checked(task: Task, method: str, episode: Any, batch: int) -> Episode:
    if not isinstance(episode, Episode):
        raise PluginError(
            f"{shown(task)}: {method}() returns {kind(episode)}; it should be a gradsim.Episode"
        )
    with calling(task, method):
        _refuse(task, (f"{method}(): {mistake}" for mistake in episode_mistakes(task, episode, batch)))
    for mistake in non_finite(episode):
        raise NonFiniteError(f"{shown(task)}: {mistake}")
    return episode.locked


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and bool(np.isfinite(value))


def _alike(one: Mapping[str, Array], other: Mapping[str, Array]) -> bool:
    return one.keys() == other.keys() and all(_same(x, other[n]) for n, x in one.items())


def _same(one: Array, other: Array) -> bool:
    return np.array_equal(one, other, equal_nan=one.dtype.kind == "f")

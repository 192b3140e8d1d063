"""The checks of a task: its episodes, and the parts of a finite one."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradsim.contracts.episodes import DRAWS_OTHERS, part_mistakes, size_mistakes
from gradsim.contracts.task import Episode, FiniteTask
from gradsim.errors import InputError
from gradsim.testing.kit import Checks, names, no_global_randomness, same
from gradsim.testing.task.bench import TaskBench
from gradsim.types import Array

CHECKS = Checks()


@CHECKS()
def sizes(bench: TaskBench) -> None:
    """The numbers of input features and outputs are ints, 1 or more; None for any, without a readout."""
    bench.refuse(size_mistakes(bench.task))


def _is_finite_task(bench: TaskBench) -> bool:
    return isinstance(bench.task, FiniteTask)


@CHECKS(applies=_is_finite_task)
def parts(bench: TaskBench) -> None:
    """There are parts with one sequence or more each, "train" among them; `consecutive` is a bool."""
    task: Any = bench.task
    bench.refuse(part_mistakes(task))


@CHECKS("parts")
def sample_from_rng(bench: TaskBench) -> None:
    """The rng alone decides the episode."""
    with no_global_randomness(bench, "sample()"):
        one, again = (bench.task.sample(bench.rng("same"), bench.batch) for _ in range(2))
    bench.expect(
        isinstance(one, Episode), f"sample() returns a {type(one).__name__}; it should be a gradsim.Episode"
    )
    bench.expect(
        same(vars(one), vars(again)),
        DRAWS_OTHERS,
    )


@CHECKS("sizes", "sample_from_rng")
def episode_shapes(bench: TaskBench) -> None:
    """Inputs, targets, weights and step data have leading axes (time, batch) and are finite."""
    for batch in (bench.batch, 1):
        bench.well_formed(bench.task.sample(bench.rng("episode"), batch), batch)


@CHECKS("parts", "sizes", applies=_is_finite_task)
def takes_sequences(bench: TaskBench) -> None:
    """An episode holds the chosen sequences in their order, each as when taken alone, all of one length."""
    task: Any = bench.task
    lengths = set()
    for part, count in task.sequences.items():
        chosen = np.array([count - 1, 0])
        with no_global_randomness(bench, "take()"):
            pair, *alone = (task.take(part, c) for c in (chosen, chosen[:1], chosen[1:]))
        bench.well_formed(pair, 2)
        for i, (place, one) in enumerate(zip(chosen, alone, strict=True)):
            bench.well_formed(one, 1)
            bench.expect(
                same(_columns(pair, [i]), _columns(one, [0])),
                f"sequence {place} of the part {part!r} is another one in {chosen.tolist()} than alone",
            )
        lengths.add(len(pair.inputs))
    bench.expect(
        len(lengths) == 1,
        f"sequences have {names(map(str, lengths))} steps; pad them to one length, with weights of zero",
    )


@CHECKS("takes_sequences", "sample_from_rng", applies=_is_finite_task)
def samples_the_training_part(bench: TaskBench) -> None:
    """`sample` draws different sequences of the part "train", and no more than there are."""
    task: Any = bench.task
    count = task.sequences["train"]
    try:
        task.sample(bench.rng("sample"), count + 1)
    except InputError:
        pass
    else:
        bench.fail(f"sample() draws a batch of {count + 1} from {count} training sequences; see available()")
    if count * task.take("train", np.array([0])).inputs[:, 0].size <= _FEW_VALUES:
        whole, drawn = task.take("train", np.arange(count)), task.sample(bench.rng("sample"), count)
        bench.expect(
            _sorted(whole) == _sorted(drawn),
            f'a sample of {count} sequences is not the part "train", which has {count}, in another order',
        )


_FEW_VALUES = 100_000


def _sorted(episode: Episode) -> list[tuple[bytes, ...]]:
    """The sequences of an episode, in an order that only they decide."""
    each = (_columns(episode, [i]) for i in range(episode.inputs.shape[1]))
    return sorted(tuple(value.tobytes() for value in one.values()) for one in each)


def _columns(episode: Episode, chosen: list[int]) -> dict[str, Array]:
    """Some sequences of an episode: its arrays by name."""
    whole = {n: getattr(episode, n) for n in ("inputs", "targets", "weights")} | dict(episode.step_data)
    return {n: np.asarray(value)[:, chosen] for n, value in whole.items()}

"""Which sequences each update sees: by its number and the seed alone, so that it can be done again."""

from __future__ import annotations

import numpy as np

from gradsim.contracts.episodes import sampled, taken
from gradsim.contracts.task import Episode, FiniteTask, Task
from gradsim.errors import InputError
from gradsim.run.budget import refuse_large
from gradsim.run.seeds import Seeds
from gradsim.types import Array


class Batches:
    """The batches of a training.

    A task without end draws each. A finite one is gone through in an order of its own in every epoch;
    a batch may take the last sequences of one epoch and the first of the next, so that all are of one
    size. `stateful`: the part is cut into `batch` streams of sequences that follow each other, which are
    read side by side; what does not fill all streams is left out.

    Raises
    ------
    InputError
        The batch is larger than the data, or sequences do not follow each other where they should.
    """

    def __init__(self, task: Task, batch: int, seeds: Seeds, stateful: bool) -> None:
        self.task, self.batch, self.seeds, self.stateful = task, batch, seeds, stateful
        self.count = task.available("train", batch) if isinstance(task, FiniteTask) else None
        refuse_large(task, batch)
        self._orders: dict[int, Array] = {}
        if stateful and not (isinstance(task, FiniteTask) and task.consecutive):
            raise InputError(
                f"stateful: the sequences of {task.name} do not follow each other, so that no state can be "
                "carried from one to the next; leave it out"
            )

    def episode(self, update: int) -> Episode:
        """The batch of an update, 1, 2, ..."""
        if not isinstance(self.task, FiniteTask):
            return sampled(self.task, self.seeds.generator("task", update), self.batch)
        return taken(self.task, "train", self._chosen(update))

    def epoch(self, update: int) -> int:
        """The epoch, 1, 2, ..., that the first sequence of an update belongs to."""
        assert self.count is not None
        if self.stateful:
            return 1 + (update - 1) // self._stream_length
        return 1 + (update - 1) * self.batch // self.count

    def updates(self, epochs: int) -> int:
        """The updates that some epochs take."""
        if self.count is None:
            raise InputError(
                f"epochs: the task {self.task.name} draws sequences without end; give updates instead"
            )
        return epochs * self._stream_length if self.stateful else -(-epochs * self.count // self.batch)

    def starts(self, update: int) -> bool:
        """Whether the sequences of an update follow no earlier ones."""
        return not self.stateful or (update - 1) % self._stream_length == 0

    @property
    def _stream_length(self) -> int:
        assert self.count is not None
        return self.count // self.batch

    def _chosen(self, update: int) -> Array:
        assert self.count is not None
        if self.stateful:
            step = (update - 1) % self._stream_length
            return np.arange(self.batch) * self._stream_length + step
        places = np.arange((update - 1) * self.batch, update * self.batch)
        epochs, within = np.divmod(places, self.count)
        return np.concatenate([self._order(int(e))[within[epochs == e]] for e in np.unique(epochs)])

    def _order(self, epoch: int) -> Array:
        if epoch not in self._orders:
            assert self.count is not None
            self._orders = {e: order for e, order in self._orders.items() if e == epoch - 1}
            self._orders[epoch] = self.seeds.generator("order", epoch).permutation(self.count)
        return self._orders[epoch]

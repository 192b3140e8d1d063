"""Loss and gradient of one batch, through the engine and all mitigations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from gradsim.contracts.pieces import Adjoints, Gradient, Piece
from gradsim.contracts.problem import Problem
from gradsim.contracts.recorder import Recorder, Variable
from gradsim.data.schema import frame
from gradsim.data.sink import MemorySink
from gradsim.engine.revolve import Snapshots
from gradsim.machine.progress import unseen
from gradsim.numerics.scaled import Scaled, combine, norm
from gradsim.plan.plan import Plan
from gradsim.run.recording import Recording
from gradsim.run.run import Run
from gradsim.run.setup import Model, Setup
from gradsim.types import Array


@dataclass(frozen=True)
class BatchResult:
    """What one batch gives.

    `gradient`: after the mitigations. `adjoint_norm`: of dL/ds_t at the lags in `Backpropagation.lags`
    before the last step of a sequence that has a loss, root of the mean square over the sequences that
    reach so far back; NaN if none does. `last_state`: shape (batch, m).
    """

    loss: float
    penalty: float
    gradient: Gradient
    adjoint_norm: Scaled
    last_state: Array


@dataclass(frozen=True, eq=False)
class _GradientTaker(Recorder):
    name = "gradient_taker"
    stream = Gradient

    kept: list[Any] = field(default_factory=list)

    def variables(self, problem: Problem) -> tuple[Variable, ...]:
        return ()

    def compute(self, piece: Piece) -> Mapping[str, Array | Scaled]:
        self.kept[:] = [piece]
        return {}


@dataclass(frozen=True, eq=False, kw_only=True)
class _AdjointTaker(Recorder):
    """The norms of the adjoint at some times (lag, batch)."""

    name = "adjoint_taker"
    stream = Adjoints

    times: Any
    norms: Scaled

    def variables(self, problem: Problem) -> tuple[Variable, ...]:
        return ()

    def compute(self, piece: Piece) -> Mapping[str, Array | Scaled]:
        assert isinstance(piece, Adjoints)
        bounds = cast(slice, piece.region["time"])
        here = np.nonzero((self.times >= bounds.start) & (self.times < bounds.stop))
        rows = self.times[here] - bounds.start, here[1]
        size = norm(piece.adjoint[rows], (-1,))
        self.norms[here] = size
        return {}

    def over_batch(self) -> Scaled:
        """The root of the mean square, (lag,)."""
        there = self.times >= 0
        total = combine(Scaled(np.where(there, self.norms.mantissa, 0), self.norms.exponent), 1)
        count = there.sum(axis=1)
        mean = np.divide(total.mantissa, np.sqrt(count), out=np.full(len(count), np.nan), where=count > 0)
        return Scaled(mean, total.exponent)


def spread_lags(steps: int) -> Array:
    """0, 1, 2, ... `steps`, about two to an octave."""
    return np.unique(np.append(0, np.round(np.geomspace(1, steps, 2 * int(np.log2(steps)) + 2)))).astype(int)


class Backpropagation:
    """The backward pass of every update of a training. All batches have the sizes of the first one."""

    def __init__(
        self,
        model: Model,
        problem: Problem,
        threads: int,
        memory: float | None,
        watched: bool,
        snapshots: Snapshots | None,
    ) -> None:
        self.threads, self.memory = threads, memory
        self.lags = spread_lags(problem.steps)
        self._gradient = _GradientTaker(effective=True)
        shape = len(self.lags), problem.batch
        norms = Scaled(np.zeros(shape), np.zeros(shape, dtype=np.int64))
        self._adjoint = _AdjointTaker(effective=True, times=np.zeros(shape, dtype=int), norms=norms)
        watching = [self._adjoint]
        if model.hooks.uses("gradsim_rule") or not watched:  # under a rule there is no adjoint
            watching, norms.mantissa[:] = [], np.nan
        recorders = [self._gradient, *watching]
        self.plan = Plan(problem, recorders, model.hooks, True, snapshots=snapshots)
        self.plan.refuse_beyond(memory, None)
        self._sink = MemorySink(frame(problem), [v for _, v in self.plan.variables()])
        self._recording = Recording(self.plan, self._sink, threads)

    @property
    def recomputing(self) -> dict[str, int]:
        """How many states are kept for the way back of an update, and how many steps it takes again."""
        kept = self.plan.schedule(self.memory).snapshots()
        return {"snapshots": kept, "recomputed_steps": self.plan.recomputed_steps(self.memory)}

    def __call__(self, setup: Setup, check: bool = False) -> BatchResult:
        """Go through one batch.

        Raises
        ------
        NonFiniteError
            A state, a loss or a Jacobian is NaN or infinite; names the first place.
        """
        self._adjoint.times[:] = _last_losses(setup) - self.lags[:, None]
        run = Run(setup, self.plan, self._recording, self._sink, unseen, self.memory)
        if check:
            run.check()
        run.execute()
        found: Gradient = self._gradient.kept.pop()
        return BatchResult(run.loss, run.penalty, found, self._adjoint.over_batch(), run.last_state)


def _last_losses(setup: Setup) -> Array:
    """The last step of each sequence that has a loss; the last of all for a sequence without."""
    assert setup.episode is not None
    counts = setup.episode.weights != 0
    return np.asarray(len(counts) - np.argmax(counts[::-1], axis=0))

"""The checks of a cell's own way of taking blocks of steps, each proven by a plugin that it alone catches."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import partial

from examples import Tanh
from proofs import WRONG, failures, proven

from gradsim.contracts.trajectory import Trajectory, shortened
from gradsim.testing import check_cell
from gradsim.testing.cell.unrolls import CHECKS


@dataclass(frozen=True, eq=False)
class TakesBlocks(Tanh):
    """Takes blocks of steps in its own way; good unless something is `wrong`."""

    wrong: str = ""

    def unroll(self, params, state, inputs, step_data, parallel):
        order = []
        parallel([partial(order.append, job) for job in ("first", "second")])
        taken = super().unroll(params, state, inputs, step_data, parallel)
        if self.wrong == "states" or (self.wrong == "jobs" and order[0] == "second"):
            taken.states[1:] *= WRONG
        return TakenBlock(self, params, taken.states, inputs, step_data)


class TakenBlock(Trajectory):
    def __getitem__(self, steps):
        shorter = super().__getitem__(steps)
        if self.cell.wrong != "shorter":
            return shorter
        given = {f.name: getattr(shorter, f.name) for f in fields(shorter)}
        return WrongWhenShorter(**given)

    def pull(self, incoming, direct):
        return PulledBlock(super().pull(incoming, direct), self.cell.wrong, len(self.steps))


class WrongWhenShorter(TakenBlock):
    def pull_one(self, row, adjoint):
        return WRONG * super().pull_one(row, adjoint)


@dataclass(frozen=True, eq=False)
class PulledBlock:
    honest: object
    wrong: str
    steps: int

    @property
    def adjoints(self):
        adjoints = self.honest.adjoints * self._factor("adjoints")
        return adjoints[:-1] if self.wrong == "stopped rows" and self.stopped else adjoints

    @property
    def stopped(self):
        return len(self.honest.adjoints) < self.steps + 1

    def contributions(self):
        return {n: self._factor("contributions") * p for n, p in self.honest.contributions().items()}

    def gradient(self):
        return {n: self._factor("gradient") * p for n, p in self.honest.gradient().items()}

    def _factor(self, what):
        return WRONG if self.wrong == what or (self.wrong == f"stopped {what}" and self.stopped) else 1


PROOFS = [
    ("unroll_states", TakesBlocks(wrong="states")),
    ("unroll_adjoints", TakesBlocks(wrong="adjoints")),
    ("unroll_contributions", TakesBlocks(wrong="contributions")),
    ("unroll_gradient", TakesBlocks(wrong="gradient")),
    ("unroll_shorter", TakesBlocks(wrong="shorter")),
    ("unroll_stops", TakesBlocks(wrong="stopped adjoints")),
    ("unroll_stops", TakesBlocks(wrong="stopped rows")),
    ("unroll_stops", TakesBlocks(wrong="stopped contributions")),
    ("unroll_stops", TakesBlocks(wrong="stopped gradient")),
    ("unroll_jobs", TakesBlocks(wrong="jobs")),
]


test_fails_this_check_and_no_other, test_every_check_has_a_proof = proven(PROOFS, CHECKS)


def test_a_good_cell_passes():
    assert failures(TakesBlocks()) == {}
    check_cell(TakesBlocks())


class StopsEarly(TakesBlocks):
    """Its pull gives no more than three steps at a time, whatever their size."""

    def unroll(self, params, state, inputs, step_data, parallel):
        taken = super().unroll(params, state, inputs, step_data, parallel)
        return ThreeAtMost(self, params, taken.states, inputs, step_data)


class ThreeAtMost(Trajectory):
    def pull(self, incoming, direct):
        pulled = super().pull(incoming, direct)
        return shortened(pulled, self[self.steps[-min(3, len(pulled.adjoints) - 1) :]])


def test_a_pull_may_stop_wherever_it_likes():
    check_cell(StopsEarly())


class PullsNothing(ThreeAtMost):
    def pull(self, incoming, direct):
        return incoming, direct


def test_what_is_no_pull_is_named():
    class Nothing(StopsEarly):
        def unroll(self, *given):
            taken = super().unroll(*given)
            return PullsNothing(self, taken.params, taken.states, taken.inputs, taken.step_data)

    assert "gives a tuple, where an object with `adjoints`" in failures(Nothing())["unroll_adjoints"]

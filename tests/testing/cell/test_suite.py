"""What every cell has to be, and all checks of good cells."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from examples import Diagonal, Forced, ForcingTask, Noisy, StepOnly, Tanh
from proofs import failures, proven

from gradsim import Cell, Wrapper
from gradsim.testing import check_cell, checks_of, common
from gradsim.testing.cell import derivatives, outputs, paths, second_derivatives, steps, suite, unrolls


class CapitalName(Tanh):
    name = "ProofTanh"


class TakenName(Tanh):
    name = "gru"


class ReprHides(Tanh):
    def __repr__(self):
        return "ReprHides(a cell)"


class Undecorated(Tanh):
    gain: float = 1.0


@dataclass(frozen=True, eq=False)
class NoDefault(Tanh):
    gain: float = field(kw_only=True)


PROOFS = [
    ("name_and_repr", CapitalName()),
    ("name_and_repr", TakenName()),
    ("name_and_repr", ReprHides()),
    ("frozen_dataclass", Undecorated()),
    ("constructs_with_defaults", NoDefault(gain=1.0)),
]


test_fails_this_check_and_no_other, test_every_check_has_a_proof = proven(PROOFS, common.CHECKS)


def test_the_suite_is_the_checks_of_all_modules():
    modules = (common, steps, outputs, unrolls, derivatives, second_derivatives, paths)
    assert [*suite.CHECKS] == [check for module in modules for check in module.CHECKS]
    assert len(suite.CHECKS) > 20


class WithMax(StepOnly):
    def step(self, params, state, inputs, xp):
        a = state @ params["U"].T + inputs @ params["W"].T
        return xp.maximum(a, 0.1 * a) - 0.3 * xp.max(a, axis=-1, keepdims=True)


@pytest.mark.parametrize("cell", [Tanh(), StepOnly(), Noisy(), Diagonal(), WithMax(), Forced()], ids=repr)
def test_good_cells_pass(cell):
    assert failures(cell) == {}
    check_cell(cell)


@dataclass(frozen=True, eq=False)
class Fed(Cell):
    """Keeps what it is fed with, one number, beside h."""

    name = "proof_fed"
    input_size: int = 2

    @property
    def blocks(self):
        return {"h": 4, "last": 1}

    def init_params(self, rng):
        return {"U": rng.standard_normal((4, 5))}

    def step(self, params, state, inputs, xp, *, fed):
        return xp.concat([xp.tanh(state @ params["U"].T), fed], axis=-1)


@dataclass(frozen=True, eq=False)
class Halved(Wrapper):
    """Reads the new state by its blocks, and so hides how long it is."""

    name = "proof_halved"
    cell: Cell = field(default_factory=Fed)

    def mix(self, own, state, inputs, new, xp):
        return 0.5 * xp.concat(self.split(new), axis=-1)


def test_data_are_made_up_in_the_size_of_the_cell_inside():
    assert failures(Halved()) == {}


def test_a_task_draws_what_a_cell_asks_for():
    check_cell(Forced(), task=ForcingTask())


class OwnDiagonal(Diagonal):
    def unroll(self, *arguments):
        return super().unroll(*arguments)

    def bilinear_vjp(self, *arguments):
        return super().bilinear_vjp(*arguments)

    def output(self, *arguments):
        return super().output(*arguments)


def test_all_checks_of_a_good_cell_are_made():
    names = [name for name, call in checks_of(OwnDiagonal()) if call() is None]
    assert names == [check.name for check in suite.CHECKS]

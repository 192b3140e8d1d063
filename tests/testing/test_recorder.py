"""The checks of a recorder, each proven by a plugin that it alone catches."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from proofs import WRONG, proven

from gradsim import Recorder, Variable
from gradsim.contracts.pieces import Adjoints
from gradsim.testing import check_recorder
from gradsim.testing.recorder import CHECKS


@dataclass(frozen=True, eq=False)
class Largest(Recorder):
    """The largest component of the adjoint; good."""

    name = "proof_largest"
    stream = Adjoints

    def variables(self, problem):
        return (Variable("proof_largest", ("time", "batch"), "largest component of the adjoint"),)

    def compute(self, piece):
        return {"proof_largest": np.abs(piece.adjoint.value).max(axis=-1)}


class CapitalLargest(Largest):
    name = "Largest"


class UndecoratedLargest(Largest):
    more: int = 1


@dataclass(frozen=True, eq=False)
class NeedsMore(Largest):
    more: int = field(kw_only=True)


class UnknownDim(Largest):
    def variables(self, problem):
        return (Variable("proof_largest", ("time", "sequence"), "largest component of the adjoint"),)


class NoCost(Largest):
    def flops(self, problem):
        return float("nan")


class OtherName(Largest):
    def compute(self, piece):
        return {"largest": np.abs(piece.adjoint.value).max(axis=-1)}


class KeepsCount(Largest):
    calls = []  # noqa: RUF012

    def compute(self, piece):
        self.calls.append(1)
        return {n: v * (1 + 0.001 * (len(self.calls) % 2)) for n, v in super().compute(piece).items()}


class OnlyMantissa(Largest):
    def compute(self, piece):
        return {"proof_largest": np.abs(piece.adjoint.mantissa).max(axis=-1)}


class AllZero(Largest):
    def compute(self, piece):
        return {n: 0 * v for n, v in super().compute(piece).items()}


class OtherTwin(Largest):
    def compute(self, piece):
        return {n: v * (WRONG if self.effective else 1) for n, v in super().compute(piece).items()}


PROOFS = [
    ("name_and_repr", CapitalLargest()),
    ("frozen_dataclass", UndecoratedLargest()),
    ("constructs_with_defaults", NeedsMore(more=1)),
    ("declares_variables", UnknownDim()),
    ("declares_cost", NoCost()),
    ("computes_what_it_declares", OtherName()),
    ("compute_is_pure", KeepsCount()),
    ("minds_exponents", OnlyMantissa()),
    ("fills_its_variables", AllZero()),
    ("twin_is_raw_without_mitigations", OtherTwin()),
]


test_fails_this_check_and_no_other, test_every_check_has_a_proof = proven(PROOFS, CHECKS)


def test_a_good_recorder_passes():
    check_recorder(Largest())

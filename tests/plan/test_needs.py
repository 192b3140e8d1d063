"""What a run needs, by what is recorded and what its mitigations do."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

import gradsim
from gradsim import Mitigation, hookimpl
from gradsim.contracts.pieces import Adjoints, Forward, Gradient, Products
from gradsim_cells import Elman
from gradsim_mitigations import ClipNorm, JacobianPenalty, Truncate, WeightDecay


@dataclass(frozen=True, eq=False)
class Spread(Mitigation):
    """A penalty on the sizes of step Jacobians, which asks for them."""

    name = "spread"

    @hookimpl(wrapper=True)
    def gradsim_penalty(self, jacobians):
        penalty = yield
        return replace(penalty, value=penalty.value + float(np.sum(jacobians.blocks**2)))


def needs_of(record, mitigations=(), steps=20):
    inputs = np.ones((steps, 2, 1))
    return gradsim.prepare(Elman(1, 3), inputs, record=record, mitigations=list(mitigations)).plan


@pytest.mark.parametrize(
    ("record", "mitigations", "made", "kept"),
    [
        (["state"], [], False, 0),
        (["gradient"], [], False, 0),
        (["effective_gradient"], [ClipNorm(1.0, where="adjoint")], False, 0),
        (["effective_gradient"], [Truncate(2, 5)], True, 0),
        (["gradient"], [Truncate(2, 5)], False, 0),
        (["lyapunov"], [], True, 0),
        (["product_norm"], [], True, 1),
        (["effective_product_norm"], [Truncate(2, 5)], True, 1),
        (["product_norm", "effective_product_norm"], [WeightDecay(0.1)], True, 1),
        (["product_norm", "effective_product_norm"], [Truncate(2, 5)], True, 2),
        (["effective_gradient"], [Spread()], True, 1),
        (["gradient"], [Spread()], False, 0),
    ],
)
def test_step_jacobians_are_made_and_kept_only_for_somebody(record, mitigations, made, kept):
    needs = needs_of(record, mitigations)
    assert needs.makes_jacobians == made
    assert needs.kept_jacobians == kept


def test_a_penalty_needs_what_it_reads_where_somebody_asks_for_its_gradient():
    asked = needs_of(["effective_gradient"], [Spread()])
    assert asked.penalty_needs_jacobians
    assert not asked.penalty_needs_adjoint
    of_adjoint = needs_of(["effective_gradient"], [JacobianPenalty()])
    assert of_adjoint.penalty_needs_adjoint
    assert not of_adjoint.penalty_needs_jacobians
    assert not needs_of(["gradient"], [JacobianPenalty()]).penalty_needs_adjoint
    assert not needs_of(["effective_gradient"], [Truncate(2, 5)]).penalty_needs_jacobians


def test_streams_are_asked_for_raw_and_effective_apart():
    needs = needs_of(["state", "adjoint", "effective_adjoint", "gradient"], [Truncate(2, 5)])
    assert needs.asks(Forward)
    assert needs.asks(Gradient, effective=False)
    assert not needs.asks(Gradient, effective=True)
    assert not needs.asks(Products)
    assert needs.runs_of(Adjoints) == 2
    assert needs.runs_of(Gradient) == 1


def test_norms_are_halved_unless_products_are_walked_for_them():
    assert needs_of(["product_norm"]).halved
    assert needs_of(["product_norm"]).walked == []
    both = needs_of(["product_norm", "jacobian_product", "effective_jacobian_product"], [Truncate(2, 5)])
    assert both.walked == [False, True]
    assert not needs_of(["gradient"]).halved

"""What rules and penalties say that they cost, beside the operations that are done."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from rules import ruled, taken

import gradsim
from gradsim.contracts.hooks import RunHooks
from gradsim.contracts.moment import Moment
from gradsim.contracts.plugin import drawn
from gradsim.contracts.problem import Problem
from gradsim.contracts.trajectory import Trajectory
from gradsim_cells import GRU, LRU, LSTM, Elman
from gradsim_mitigations import (
    DNI,
    KFRTRL,
    RFLO,
    RTRL,
    UORO,
    EProp,
    Flossing,
    ForwardErrors,
    Immediate,
    JacobianPenalty,
    JacobianRegulariser,
    SnAp,
    SparseRTRL,
    TargetPropagation,
    TruncateForward,
)

RULES = [
    *(RTRL(), SnAp(), SnAp(n=2), SparseRTRL(6), TruncateForward(4, 8), EProp(), RFLO(), RFLO(leak=0.3)),
    *(UORO(), KFRTRL(), Immediate(), ForwardErrors(), DNI(k=4)),
    *(TargetPropagation(), TargetPropagation(noise=0.1)),
]
PENALTIES = [
    *(JacobianPenalty(), JacobianRegulariser(), JacobianRegulariser(projections=3)),
    *(Flossing(), Flossing(exponents=2)),
]
PENALISED = ("cell", "params", "episode", "jacobians", "measured", "moment")
"""What such a penalty does not ask for."""

DENSE = [Elman, GRU, LSTM]
CASES = [
    *((r, c) for r in RULES for c in (*DENSE, LRU) if (r.name, c) != ("kf_rtrl", LRU)),  # which it refuses
    *((p, c) for p in PENALTIES for c in DENSE),
]
BATCH = 2


class Counted(np.ndarray):
    """Arrays that count the operations on them and on all that is made of them."""

    operations = 0.0

    def __array_ufunc__(self, ufunc, method, *inputs, out=(), **options):
        given, options = plain(inputs), plain(options)
        if out:
            options["out"] = plain(out)
        found = getattr(ufunc, method)(*given, **options)
        size = np.size(found if method == "__call__" else given[0])
        Counted.operations += 2 * size * given[0].shape[-1] if ufunc is np.matmul else size
        return counted(found)

    def __array_function__(self, function, types, args, options):
        if function in COSTS:
            Counted.operations += COSTS[function](*args)
        else:  # what only moves numbers
            assert function.__module__ == "numpy", function
            assert function not in (np.dot, np.tensordot, np.vecdot)
        return counted(function(*plain(args), **plain(options)))


def contracted(subscripts, *arrays):
    """Two for each product of numbers."""
    sizes = {}
    for term, x in zip(subscripts.split("->")[0].split(","), arrays, strict=True):
        before, dots, behind = term.partition("...")
        sizes |= zip(before, x.shape, strict=False)
        sizes |= zip(behind[::-1], x.shape[::-1], strict=False)
        between = math.prod(x.shape[len(before) : x.ndim - len(behind)])
        sizes["..."] = max(sizes.get("...", 1), between if dots else 1)
    return 2 * math.prod(sizes.values())


COSTS = {
    np.einsum: contracted,
    np.linalg.inv: lambda x: 2 * x.size * x.shape[-1],
    np.linalg.qr: lambda x: 4 * x.size * x.shape[-1],
    np.linalg.solve: lambda matrix, x: 2 * x.size * matrix.shape[-1],
    np.linalg.norm: lambda x: 2 * x.size,
}
"""Operations by function."""


def plain(x):
    match x:
        case Counted():
            return x.view(np.ndarray)
        case list() | tuple():
            return type(x)(map(plain, x))
        case dict():
            return {name: plain(value) for name, value in x.items()}
    return x


def counted(x):
    return np.asarray(x).view(Counted) if isinstance(x, np.ndarray | np.generic) else x


def counting(cell):
    """The same cell, whose derivatives count."""

    class Counting(type(cell)):
        def step_jacobian(self, *place, **data):
            return counted(super().step_jacobian(*place, **data))

        def state_vjp(self, *place, **data):
            return counted(super().state_vjp(*place, **data))

        def params_vjp(self, *place, **data):
            return {n: counted(x) for n, x in super().params_vjp(*place, **data).items()}

    return Counting(**{f.name: getattr(cell, f.name) for f in dataclasses.fields(cell)})


def operations(mitigation, cell, steps):
    """Of a rule or a penalty over so many steps, with a loss at each, as they are counted."""
    rng = np.random.default_rng(0)
    trajectory, direct = taken(counting(cell), rng, steps, BATCH)
    shapes = {n: p.shape for n, p in trajectory.params.items()}
    draws = drawn(mitigation.draw, rng, trajectory.inputs, Moment(), cell=cell, shapes=shapes)
    t, params = trajectory, {n: counted(p) for n, p in trajectory.params.items()}
    here = Trajectory(t.cell, params, counted(t.states), counted(t.inputs), t.step_data)
    Counted.operations = 0.0
    if mitigation in PENALTIES:
        given = {"trajectory": here, "adjoint": counted(direct), "draws": {mitigation: draws}}
        RunHooks([mitigation])("gradsim_penalty", **dict.fromkeys(PENALISED), **given)
    else:
        ruled(mitigation, here, counted(direct), draws=draws)
    return Counted.operations


def said(mitigation, cell, steps):
    shapes = {n: p.shape for n, p in cell.init_params(np.random.default_rng(0)).items()}
    return mitigation.flops(Problem(cell, steps, BATCH, np.dtype(float), shapes))


def more(count, mitigation, cell):
    """What eight more steps cost: the search for zeros is done once, whatever the steps."""
    return count(mitigation, cell, 16) - count(mitigation, cell, 8)


@pytest.mark.parametrize(
    ("mitigation", "make"), CASES, ids=lambda x: x.name if isinstance(x, type) else repr(x)
)
def test_what_is_said_is_what_is_done_within_a_factor_of_two(mitigation, make, monkeypatch):
    monkeypatch.setenv("GRADSIM_COMPILED", "0")  # kernels count nothing
    sizes = [make(3, n) for n in (6, 12)]
    done = [more(operations, mitigation, cell) for cell in sizes]
    told = [more(said, mitigation, cell) for cell in sizes]
    np.testing.assert_allclose(np.log2(np.divide(told, done)), 0, atol=1)
    # And what it says grows as what is done.
    assert np.log2(told[1] / told[0]) == pytest.approx(np.log2(done[1] / done[0]), abs=0.3)


ORDERS = {
    "rtrl": 4,
    "sparse_rtrl": 3,  # along so many paths, whatever the number of units
    "truncate_forward": 4,
    "kf_rtrl": 3,
    "forward_errors": 3,
    "snap": 2,
    "e_prop": 2,
    "rflo": 2,
    "uoro": 2,
    "immediate": 2,
    "dni": 2,
    "target_propagation": 2,
}
"""By which power of the number of units they grow in dense cells."""


@pytest.mark.parametrize("make", DENSE, ids=lambda c: c.name)
@pytest.mark.parametrize("name", ORDERS)
def test_operations_grow_with_a_power_of_the_units(name, make):
    rule = {r.name: r for r in RULES[::-1]}[name]  # the first of each name
    small, large = (said(rule, make(3, n), 8) for n in (512, 1024))
    assert np.log2(large / small) == pytest.approx(ORDERS[name], abs=0.05)


def test_the_plan_has_the_rule_in_place_of_the_way_back():
    def planned(*mitigations, record=("effective_gradient",)):
        return gradsim.prepare(Elman(2, 8), np.zeros((20, 3, 2)), record=record, mitigations=mitigations).plan

    none, rule = planned(), planned(rtrl := RTRL())
    assert rule.flops()["mitigations"] == rtrl.flops(rule.problem)
    assert rule.flops()["backward"] == 0
    assert none.flops()["mitigations"] == 0
    beside = planned(rtrl, record=("gradient", "effective_gradient")).flops()
    assert beside["backward"] == none.flops()["backward"]  # the exact one goes back
    assert planned(rtrl, record=("gradient",)).flops()["mitigations"] == 0

"""Dense cells of somebody else, against the same mathematics as nothing but a step."""

from __future__ import annotations

import json

import numpy as np
import pytest
from helpers import Stripped, refused
from probes.cells import Chained, Coupled, Dropped, Peephole, Sized

import gradsim
from gradsim import Term, detach
from gradsim.contracts.dense import Slopes
from gradsim.errors import DerivativeError, PluginError
from gradsim.numerics import autodiff
from gradsim.testing import check_cell
from gradsim_cells import GRU, LSTM, Elman

CELLS = [Coupled(), Peephole(), Chained(), Dropped(), Coupled(hidden_size=1), Coupled(hidden_size=23)]
CELLS += [Elman(2, 5, activation="relu"), GRU(2, 5), LSTM(2, 5)]
each_cell = pytest.mark.parametrize("cell", CELLS, ids=repr)


class Plain(Stripped):
    """The step of a cell, with its step data."""

    def draw(self, rng, steps, batch, moment):
        return self.cell.draw(rng, steps, batch, moment) if isinstance(self.cell, Dropped) else {}

    @property
    def step_data(self):
        return self.cell.step_data

    def step(self, params, state, inputs, xp, **data):
        return self.cell.step(params, state, inputs, xp, **data)


@each_cell
def test_cells_with_nothing_but_a_unit_pass_the_kit(cell, monkeypatch):
    monkeypatch.setenv("GRADSIM_COMPILED", "0")
    check_cell(cell)


@pytest.mark.parametrize(("steps", "batch"), [(1, 1), (30, 1), (7, 20)])
@each_cell
def test_a_run_is_that_of_the_step_alone(cell, steps, batch, rng, monkeypatch):
    monkeypatch.setenv("GRADSIM_COMPILED", "0")
    setting = {
        "rng": 0,
        "derivatives": "autograd",
        "inputs": rng.standard_normal((steps, batch, 2)),
        "params": cell.init_params(rng),
        "record": ["state", "adjoint", "gradient", "contribution", "product_norm"],
    }
    ours, theirs = (gradsim.simulate(c, **setting) for c in (cell, Plain(cell)))
    assert set(ours) == set(theirs)
    for name, values in theirs.data_vars.items():
        atol = 1e-12 * np.abs(values.values[np.isfinite(values)]).max()
        np.testing.assert_allclose(ours[name], values, rtol=1e-10, atol=atol, err_msg=name)


@pytest.mark.parametrize("lead", [(3,), (4, 3), (2, 4, 3)])
@each_cell
def test_derivatives_are_those_of_the_step(cell, lead, rng):
    params, state, inputs, u = (
        cell.init_params(rng),
        rng.standard_normal((*lead, cell.state_size)),
        rng.standard_normal((*lead, 2)),
        rng.standard_normal((*lead, cell.state_size)),
    )
    data = {}
    if isinstance(cell, Dropped):
        data = {"kept": rng.random((*lead, 4)), "step_index": np.ones(lead, dtype=int)}
    jacobian = autodiff.step_jacobian(cell.step, 1, params, state, inputs, data)
    np.testing.assert_allclose(cell.step_jacobian(params, state, inputs, **data), jacobian, atol=1e-13)
    pulled = autodiff.state_vjp(cell.step, params, state, inputs, u, data)
    np.testing.assert_allclose(cell.state_vjp(params, state, inputs, u, **data), pulled, atol=1e-13)
    found = cell.params_vjp(params, state, inputs, u, **data)
    for name, value in autodiff.params_vjp(cell.step, params, state, inputs, u, data).items():
        np.testing.assert_allclose(found[name], value, atol=1e-13)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("batch", [1, 3, 16])
def test_no_bit_of_a_step_jacobian_depends_on_the_steps_around_it(batch, dtype, rng):
    cell = Coupled(hidden_size=17)
    params = {n: p.astype(dtype) for n, p in cell.init_params(rng).items()}
    state, inputs = (rng.standard_normal((40, batch, n)).astype(dtype) for n in (34, 2))
    whole = cell.step_jacobian(params, state, inputs)
    for i in (0, 7, 39):
        found = cell.step_jacobian(params, state[i : i + 3], inputs[i : i + 3])
        np.testing.assert_array_equal(found, whole[i : i + 3])


def test_what_is_in_no_sum_has_no_gradient(rng):
    class Read(Coupled):
        """Parameters that only an output would see."""

        name = "read"

        def init_params(self, rng):
            return {**super().init_params(rng), "more": np.ones(3)}

    ds = gradsim.simulate(Read(), rng.standard_normal((5, 2, 2)), record=["gradient", "contribution"])
    assert not ds.gradient_more.any()
    assert not ds.contribution_more.any()


def test_the_dataset_says_where_its_derivatives_come_from(inputs):
    for cell, by in ((Coupled(), "autograd"), (LSTM(2, 3), "analytic")):
        ds = gradsim.simulate(cell, inputs)
        assert set(json.loads(ds.provenance)["derivatives_of"].values()) == {by}


# Mistakes.


class Summed(Sized):
    name = "summed"

    def unit(self, sums, old, xp):
        return xp.tanh(sums[0]) / (1 + xp.sum(old[0] ** 2, axis=-1, keepdims=True))


class Shifted(Sized):
    name = "shifted"

    def unit(self, sums, old, xp):
        return xp.tanh(sums[0]) + xp.cumulative_sum(xp.flip(old[0], axis=-1), axis=-1)


class Between(Sized):
    """One unit sees another, and neither is the first or the last."""

    name = "between"

    def unit(self, sums, old, xp):
        h = xp.tanh(sums[0])
        return xp.concat((h[..., :2], h[..., 2:3] + 0.3 * old[0][..., 1:2], h[..., 3:]), axis=-1)


class Joint(Sized):
    """No unit is seen where another one is zero."""

    name = "joint"

    def unit(self, sums, old, xp):
        return xp.tanh(sums[0]) + xp.prod(old[0], axis=-1, keepdims=True)


class Many(Sized):
    """Units are seen where two are large at once."""

    name = "many"

    def unit(self, sums, old, xp):
        first, other = (xp.maximum(sums[0][..., i : i + 1] - 1, 0.0) for i in (0, 2))
        return xp.tanh(sums[0]) + first * other


class InPlace(Sized):
    name = "in_place"

    def unit(self, sums, old, xp):
        a = sums[0]
        a += old[0]
        return xp.tanh(a)


class Plainly(Coupled):
    name = "plainly"

    def unit(self, sums, old, xp):
        return super().unit(sums, old, xp)[0], 0.5


class TooMany(Sized):
    name = "too_many"

    def unit(self, sums, old, xp):
        return old[0], xp.tanh(sums[0])


class Wide(Sized):
    name = "wide"

    def unit(self, sums, old, xp):
        return xp.concat((sums[0], old[0]), axis=-1)


class Few(Sized):
    name = "few"

    def unit(self, sums, old, xp):
        kept, new = sums
        return kept * new


class Outside(Sized):
    name = "outside"

    def unit(self, sums, old, xp):
        return np.asarray([float(x) for x in np.tanh(sums[0]).ravel()]).reshape(sums[0].shape)


class Cut(Sized):
    name = "cut"

    def unit(self, sums, old, xp):
        return xp.tanh(sums[0]) + 0.5 * detach(old[0])


class WrongSlopes(Sized):
    name = "wrong_slopes"

    def unit(self, sums, old, xp):
        return xp.tanh(sums[0])

    def slopes(self, sums, old, data):
        return Slopes([(0, 0, np.ones_like(sums)[None])], [], [])


class Uneven(Sized):
    name = "uneven"

    @property
    def blocks(self):
        return {"h": 4, "c": 3}

    def unit(self, sums, old, xp):
        return old


def of_terms(*terms):
    return type("Other", (Coupled,), {"name": "other", "terms": terms, "paths": ()})()


MISTAKES = [
    (Summed(), ["unit() mixes units: unit", "of 'h' moves when others do"]),
    (Shifted(), ["unit() mixes units"]),
    (Between(), ["unit() mixes units: unit 2 of 'h' moves when others do"]),
    (Joint(), ["unit() mixes units"]),
    (Many(), ["unit() mixes units"]),
    (InPlace(), ["is read-only; what it is given must not be changed: compute a new array instead"]),
    (Plainly(), ["unit() gives an array of float64 of shape (2, 4), a float, where an array like each old"]),
    (TooMany(), ["unit() gives an array of float64 of shape (2, 4), an array of float64 of", "h (2, 4)"]),
    (Wide(), ["unit() gives", "where an array like each old block is needed: h ("]),
    (Few(), ["not enough values to unpack", "a unit gets as many sums as its cell has in `sums`"]),
    (Outside(), ["unit() cannot be traced"]),
    (Cut(), ["step_jacobian differs from central differences of step()", "its step is cut by detach()"]),
    (WrongSlopes(), ["step_jacobian differs", "mend WrongSlopes.slopes, or delete it"]),
    (Uneven(), ["the blocks of a dense cell have one size, not {'h': 4, 'c': 3}"]),
    (of_terms(Term("V", "x")), ["terms: unknown parameter 'V'"]),
    (of_terms(Term("W", "y")), ["terms: unknown factor 'y'"]),
    (
        of_terms(Term("W", "h")),
        ["'W' has shape (12, 2), where a term with 'h' needs (rows, 4)"],
    ),
    (of_terms(Term("W", "x", slice(0, 3))), ["rows 0 to 3 of 'W' should be those of some of the 3 sums"]),
    (of_terms(Term("W", "x", column=4)), ["rows 0 to 12 of 'W' should be", "from row 4 of all sums on"]),
    (of_terms(Term("W", "x", slice(4, 12))), ["each row of 'W' should be in one of the terms"]),
    (
        of_terms(Term("W", "x"), Term("W", "x")),
        ["each row of 'W' should be in one of the terms, and in no other"],
    ),
]


@pytest.mark.parametrize(("cell", "parts"), MISTAKES, ids=[f"{c.name} {p[0][-40:]}" for c, p in MISTAKES])
def test_mistakes_are_named(cell, parts, inputs):
    with refused(PluginError, *parts):
        gradsim.simulate(cell, inputs, record=["gradient"])


class ByNumber(Sized):
    """Another unit where there are many numbers."""

    name = "by_number"

    def unit(self, sums, old, xp):
        return (0.5 if sums[0].size > 100 else 1.0) * xp.tanh(sums[0])


class WrongAtOnce(Sized):
    """Its derivatives are right at many steps and wrong at a single one."""

    name = "wrong_at_once"

    def unit(self, sums, old, xp):
        return xp.tanh(sums[0])

    def params_vjp(self, params, state, inputs, cotangent):
        found = super().params_vjp(params, state, inputs, cotangent)
        return {n: g * 1.01 if state.ndim == 2 else g for n, g in found.items()}


@pytest.mark.parametrize(
    ("cell", "part"),
    [
        (
            ByNumber(),
            "mend ByNumber.unit, which should make the same of a unit however many others there are",
        ),
        (WrongAtOnce(), "mend WrongAtOnce.params_vjp, or delete it to get the free derivative"),
    ],
    ids=lambda x: getattr(x, "name", ""),
)
def test_what_differs_from_single_steps_is_mended_where_somebody_wrote_it(cell, part, inputs):
    with refused(DerivativeError, "differ by", "from those of single steps", part):
        gradsim.simulate(cell, inputs, record=["gradient"])


def test_a_list_of_blocks_will_do(inputs):
    class Listed(Elman):
        name = "listed"

        def unit(self, sums, old, xp):
            return [super().unit(sums, old, xp)]

    ours, theirs = (
        gradsim.simulate(c, inputs, rng=0, record=["state"]).state for c in (Listed(2, 4), Elman(2, 4))
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_slopes_are_not_inherited_by_another_unit():
    class Rectified(Elman):
        name = "rectified"

        def unit(self, sums, old, xp):
            return xp.where(sums[0] > 0, sums[0], 0.1 * sums[0])

    assert Rectified.kernel is None
    check_cell(Rectified(2, 5))

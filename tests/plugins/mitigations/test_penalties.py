"""Penalties, against closed forms and differences."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import refused
from stepping import moved

import gradsim
from gradsim.contracts.hooks import RunHooks
from gradsim.contracts.moment import Moment
from gradsim.contracts.trajectory import Trajectory
from gradsim.errors import InputError, UnknownNameError
from gradsim.testing import conformance
from gradsim_cells import GRU, LRU, LSTM, Elman, Linear, MinGRU
from gradsim_mitigations import (
    Activity,
    Flossing,
    GradientNoise,
    JacobianPenalty,
    JacobianRegulariser,
    NormStabiliser,
    SoftOrthogonality,
    WeightDecay,
)
from gradsim_optimizers import Adam
from gradsim_tasks import Adding

test_kit = conformance(
    Activity(2.0, 1.0),
    Flossing(exponents=2, transient=3, target=0.1),
    JacobianRegulariser(projections=2),
    NormStabiliser(3.0),
)
test_kit_of_a_gru = conformance(Flossing(), JacobianRegulariser(), cell=GRU(input_size=2, hidden_size=3))

CELLS = [Elman(2, 4), GRU(2, 3), LSTM(2, 2)]
BOTH = ["gradient", "effective_gradient"]


def started(cell, seed=1):
    rng = np.random.default_rng(seed)
    return moved(cell, rng, 0.2), rng.standard_normal(cell.state_size)


def penalised(cell, params, inputs, mitigation, **setting):
    """The value of a penalty, and the gradient that it adds."""
    ds = gradsim.simulate(cell, inputs, params=params, mitigations=[mitigation], record=BOTH, **setting)
    added = {n: (ds[f"effective_gradient_{n}"] - ds[f"gradient_{n}"]).values for n in params}
    return ds.attrs["penalty"], added


@pytest.mark.parametrize(
    "mitigation",
    [
        Flossing(0.7),
        Flossing(0.7, exponents=2, transient=2, target=-0.1),
        JacobianRegulariser(0.6),
        JacobianRegulariser(0.6, projections=2),
        SoftOrthogonality(0.4),
        NormStabiliser(2.0),
        Activity(1.5, 0.5),
    ],
    ids=repr,
)
@pytest.mark.parametrize("cell", CELLS, ids=lambda c: c.name)
def test_penalties_have_the_gradient_of_their_value(mitigation, cell, rng):
    """Along a random direction, through states and all: differences of the fourth order."""
    params, state = started(cell)
    inputs = rng.standard_normal((6, 3, 2))
    way = {n: rng.standard_normal(p.shape) for n, p in params.items()}

    def value(h):
        moved = {n: p + h * way[n] for n, p in params.items()}
        return penalised(cell, moved, inputs, mitigation, initial_state=state)[0]

    _, gradient = penalised(cell, params, inputs, mitigation, initial_state=state)
    h = 1e-4
    slope = (8 * (value(h) - value(-h)) - (value(2 * h) - value(-2 * h))) / (12 * h)
    found = sum(np.sum(gradient[n] * way[n]) for n in params)
    assert found == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize("form", ["ratio", "squared_ratio"])
@pytest.mark.parametrize("cell", CELLS, ids=lambda c: c.name)
def test_omega_has_its_immediate_gradient(cell, form, rng):
    """Along a random direction, at fixed states and adjoints."""
    params, _ = started(cell)
    states, adjoint = rng.standard_normal((2, 7, 3, cell.state_size))
    inputs, way = rng.standard_normal((6, 3, 2)), {n: rng.standard_normal(p.shape) for n, p in params.items()}

    def omega(h):
        moved = {n: p + h * way[n] for n, p in params.items()}
        given = {"trajectory": Trajectory(cell, moved, states, inputs, {}), "adjoint": adjoint, "cell": cell}
        others = {"params": moved, "episode": None, "jacobians": None, "measured": {}, "draws": {}}
        hooks = RunHooks([JacobianPenalty(0.7, form)])
        return hooks("gradsim_penalty", **given, **others, moment=Moment())

    h, penalty = 1e-4, omega(0)
    value = {k: omega(k * h).value for k in (-2, -1, 1, 2)}
    slope = (8 * (value[1] - value[-1]) - (value[2] - value[-2])) / (12 * h)
    assert sum(np.sum(penalty.gradient[n] * way[n]) for n in params) == pytest.approx(slope, rel=1e-6)


def test_flossing_of_a_rotation(rng):
    """All exponents are log c: the loss is (log c)^2, its gradient 2 log c / n U / c^2; none at c = 1."""
    n, x = 5, np.zeros((30, 2, 1))
    q, _ = np.linalg.qr(rng.standard_normal((n, n)))
    for c in (0.9, 1.0, 1.2):
        params = {"U": c * q, "W": np.zeros((n, 1))}
        value, gradient = penalised(Linear(1, n), params, x, Flossing())
        assert value == pytest.approx(np.log(c) ** 2, abs=1e-15)
        np.testing.assert_allclose(gradient["U"], 2 * np.log(c) / n * q / c, atol=1e-14)


@pytest.mark.parametrize("cell", CELLS, ids=lambda c: c.name)
def test_leading_exponents_are_the_growth_of_volumes(cell, rng):
    """That of one direction v is log ||P v|| / T; those of k add up to the volume of P V."""
    params, _ = started(cell)
    states, inputs = 0.3 * rng.standard_normal((4, 2, cell.state_size)), rng.standard_normal((3, 2, 2))
    trajectory = Trajectory(cell, params, states, inputs, {})
    product = np.eye(cell.state_size)
    for jacobian in trajectory.jacobian():
        product = jacobian @ product
    m, target = cell.state_size, 0.2
    for k in (1, 2, m):
        start = np.linalg.qr(rng.standard_normal((2, m, k)))[0]
        values = []
        for aim in (target, -target):
            flossing = Flossing(exponents=k, target=aim)
            given = {"trajectory": trajectory, "params": params, "cell": cell, "moment": Moment()}
            others = {"episode": None, "adjoint": None, "jacobians": None, "measured": {}}
            draws = {flossing: {"start": start}}
            values.append(RunHooks([flossing])("gradsim_penalty", **given, **others, draws=draws).value)
        # (lambda - target)^2 - (lambda + target)^2 = -4 lambda target, averaged over batch and exponents.
        found = (values[1] - values[0]) / (4 * target) * k
        volume = np.log(np.linalg.svd(product @ start, compute_uv=False)).sum(axis=-1)
        assert found == pytest.approx(volume.mean() / 3, rel=1e-9)


def test_all_exponents_add_up_to_the_determinant(rng):
    """Of a linear network to log |det U|, whose derivative is U^-T, whatever the start."""
    n, x = 4, np.zeros((40, 1, 1))
    params = {"U": rng.standard_normal((n, n)), "W": np.zeros((n, 1))}
    target = 0.3
    both = (penalised(Linear(1, n), params, x, Flossing(target=t), rng=1) for t in (target, -target))
    values, gradients = zip(*both, strict=True)
    total = n * (values[1] - values[0]) / (4 * target)
    assert total == pytest.approx(np.log(np.abs(np.linalg.det(params["U"]))), rel=1e-12)
    slope = n * (gradients[1]["U"] - gradients[0]["U"]) / (4 * target)
    np.testing.assert_allclose(slope, np.linalg.inv(params["U"]).T, rtol=1e-10, atol=1e-11)


def test_flossing_draws_exponents_to_zero():
    """Of a random network at its edge the loss falls a hundredfold in a few dozen updates."""
    cell, mitigation = Elman(1, 16, recurrent_scale=1.5), Flossing(exponents=3, transient=5)
    rng = np.random.default_rng(0)
    params, inputs = cell.init_params(rng), 0.3 * rng.standard_normal((30, 1, 1))
    slots, flat, values = {n: np.zeros(sum(p.size for p in params.values())) for n in Adam().slots}, None, []
    for update in range(1, 101):
        value, gradient = penalised(cell, params, inputs, mitigation, rng=3)
        values.append(value)
        flat = np.concatenate([p.ravel() for p in params.values()])
        given = np.concatenate([gradient[n].ravel() for n in params])
        flat = flat + Adam(1e-2).change(flat, given, slots, 1e-2, update)
        parts = np.split(flat, np.cumsum([p.size for p in params.values()])[:-1])
        params = {n: x.reshape(p.shape) for (n, p), x in zip(params.items(), parts, strict=True)}
    assert values[-1] < 1e-2 * values[0]


def test_a_lost_direction_does_not_count(rng):
    """U of rank 2: two exponents are finite; the others are -infinity, and leave the gradient finite."""
    u = rng.standard_normal((4, 2)) @ rng.standard_normal((2, 4))
    value, gradient = penalised(Linear(1, 4), {"U": u, "W": np.ones((4, 1))}, np.zeros((9, 2, 1)), Flossing())
    assert np.isfinite(value)
    assert value > 0
    assert np.isfinite(gradient["U"]).all()
    none, still = penalised(
        Linear(1, 4), {"U": np.zeros((4, 4)), "W": np.ones((4, 1))}, np.zeros((9, 2, 1)), Flossing()
    )
    assert none == 0
    assert not still["U"].any()


@pytest.mark.parametrize("cell", [*CELLS, LRU(2, 3), MinGRU(2, 3)], ids=lambda c: c.name)
def test_jacobian_regulariser_is_the_mean_square(cell, rng):
    params, state = started(cell)
    inputs = rng.standard_normal((6, 3, 2))
    ds = gradsim.simulate(cell, inputs, params=params, initial_state=state, record=["step_jacobian"])
    whole = 0.25 * np.sum(ds.step_jacobian.values**2) / (6 * 3)
    value, gradient = penalised(cell, params, inputs, JacobianRegulariser(0.5), initial_state=state)
    assert value == pytest.approx(whole, rel=1e-12)
    # As many orthogonal directions as there are tell everything; random ones do on average.
    many = [
        penalised(cell, params, inputs, JacobianRegulariser(0.5, projections=40), initial_state=state, rng=i)
        for i in range(20)
    ]
    values = np.array([v for v, _ in many])
    assert abs(values.mean() - whole) < 4 * values.std(ddof=1) / np.sqrt(20)
    for name in params:
        each = np.stack([g[name] for _, g in many])
        error = each.std(axis=0, ddof=1) / np.sqrt(20)
        assert (np.abs(each.mean(axis=0) - gradient[name]) <= 5 * error + 1e-12).all()


def test_soft_orthogonality_of_scaled_rotations(rng):
    """n (c^2 - 1)^2 for each block, and 4 (c^3 - c) Q: nothing for c = 1."""
    q = np.linalg.qr(rng.standard_normal((4, 3, 3)))[0]
    for c in (1.0, 0.8, 1.3):
        params = LSTM(1, 3).init_params(rng) | {"U": c * q.reshape(12, 3)}
        value, gradient = penalised(LSTM(1, 3), params, np.zeros((2, 1, 1)), SoftOrthogonality(0.5))
        assert value == pytest.approx(0.5 * 4 * 3 * (c**2 - 1) ** 2, abs=1e-14)
        np.testing.assert_allclose(gradient["U"], 0.5 * 4 * (c**3 - c) * q.reshape(12, 3), atol=1e-13)


def test_norms_and_activities_in_plain_loops(rng):
    states, inputs = [], rng.standard_normal((5, 2, 2))
    cell = LSTM(2, 3)
    params, start = started(cell)
    ds = gradsim.simulate(cell, inputs, params=params, initial_state=start, record=["state"])
    states = ds.state.values
    for blocks, of in ((None, slice(0, 3)), (("c",), slice(3, 6)), (("h", "c"), slice(0, 6))):
        change, size, moved = 0.0, 0.0, 0.0
        for t in range(1, 6):
            for b in range(2):
                new, old = states[t, b, of], states[t - 1, b, of]
                change += (np.sqrt(np.sum(new**2)) - np.sqrt(np.sum(old**2))) ** 2 / (5 * 2)
                size += np.sum(new**2) / (5 * 2 * len(new))
                moved += np.sum((new - old) ** 2) / (5 * 2 * len(new))
        setting = {"initial_state": start}
        value, _ = penalised(cell, params, inputs, NormStabiliser(3.0, blocks=blocks), **setting)
        assert value == pytest.approx(3 * change, rel=1e-12)
        value, _ = penalised(cell, params, inputs, Activity(2.0, 0.5, blocks=blocks), **setting)
        assert value == pytest.approx(2 * size + 0.5 * moved, rel=1e-12)


@pytest.mark.parametrize(
    "mitigation",
    [
        *(m(0.0) for m in (Flossing, JacobianRegulariser, SoftOrthogonality, NormStabiliser)),
        JacobianPenalty(0.0),
        Activity(0.0),
        WeightDecay(0.0),
        GradientNoise(0.0),
    ],
    ids=lambda m: m.name,
)
def test_zero_strength_changes_no_bit(mitigation):
    ds = gradsim.simulate(LSTM(2, 3), task=Adding(length=20), mitigations=[mitigation], record=BOTH)
    for name in (n for n in ds if n.startswith("gradient_")):
        np.testing.assert_array_equal(ds[f"effective_{name}"].values, ds[name].values)


@pytest.mark.parametrize("made", [NormStabiliser, Activity])
def test_blocks_that_are_not_there_are_refused(made):
    with refused(UnknownNameError, "unknown block of lstm 'C'; did you mean 'c'?"):
        prepared(made(blocks=("C",)))
    with refused(InputError, f"{made.name}: blocks are empty; name some, or leave them out"):
        prepared(made(blocks=()))


def test_exponents_that_are_not_there_are_refused():
    with refused(InputError, "flossing: exponents=9, where lstm has 6 in all"):
        prepared(Flossing(exponents=9))
    with refused(InputError, "flossing: transient=20 leaves none of 20 steps"):
        prepared(Flossing(transient=20))


def prepared(mitigation):
    return gradsim.prepare(LSTM(2, 3), task=Adding(length=20), mitigations=[mitigation])

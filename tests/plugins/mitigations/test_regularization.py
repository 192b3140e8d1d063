"""Penalties, constraints of weights and changes of the gradient, against closed forms and differences."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import numpy as np
import pytest
from helpers import numerical_gradient, refused

import gradsim
from gradsim import Mitigation, hookimpl, train
from gradsim.contracts.hooks import RunHooks
from gradsim.contracts.moment import Moment
from gradsim.contracts.trajectory import Trajectory
from gradsim.errors import InputError, UnknownNameError
from gradsim.testing import conformance
from gradsim_cells import GRU, LRU, LSTM, MLSTM, SLSTM, EchoState, Elman, Linear, MinGRU
from gradsim_mitigations import (
    Activity,
    Flossing,
    Gate,
    GradientCentralisation,
    GradientNoise,
    JacobianPenalty,
    JacobianRegulariser,
    NormStabiliser,
    OrthogonalInit,
    OrthogonalWeights,
    SoftCap,
    SoftOrthogonality,
    SpectralNorm,
    SpectralProjection,
    Stiefel,
    WeightDecay,
)
from gradsim_optimizers import SGD, Adam
from gradsim_tasks import Adding

test_kit = conformance(
    Activity(2.0, 1.0),
    Flossing(exponents=2, transient=3, target=0.1),
    GradientCentralisation(names=("U",)),
    JacobianRegulariser(projections=2),
    NormStabiliser(3.0),
    OrthogonalWeights(margin=0.2),
    SpectralProjection(limit=1.1, least=0.9),
)
test_kit_of_a_gru = conformance(
    Flossing(),
    JacobianRegulariser(),
    SoftCap(2.0, gates=("reset", "candidate")),
    SpectralNorm(),
    OrthogonalWeights(margin=0.2),
    cell=GRU(input_size=2, hidden_size=3),
)

CELLS = [Elman(2, 4), GRU(2, 3), LSTM(2, 2)]
BOTH = ["gradient", "effective_gradient"]


def started(cell, seed=1):
    rng = np.random.default_rng(seed)
    params = {n: p + 0.2 * rng.standard_normal(p.shape) for n, p in cell.init_params(rng).items()}
    return params, rng.standard_normal(cell.state_size)


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


# What is changed of the gradient.


def test_gradient_noise_has_the_variance_of_its_schedule():
    """eta / (1 + u)^gamma, with updates from 0; 2,000 draws of each."""
    noise, rng = GradientNoise(eta=0.3, gamma=0.7), np.random.default_rng(0)
    for update in (1, 2, 50):
        drawn = noise.draw(rng, {"U": (2000,)}, Moment(update, 50, "learn"))["U"]
        assert np.mean(drawn**2) == pytest.approx(0.3 / update**0.7, rel=0.15)  # its error is 3 %
    again = noise.draw(np.random.default_rng(0), {"U": (2000,)}, Moment())["U"]
    first = noise.draw(np.random.default_rng(0), {"U": (2000,)}, Moment(1, 50, "learn"))["U"]
    np.testing.assert_array_equal(again, first)  # a simulation has that of the first update


def test_gradient_noise_is_added_and_reproducible():
    run = {"task": Adding(length=20), "record": BOTH, "rng": 7}
    found = [gradsim.simulate(Elman(2, 3), mitigations=[GradientNoise()], **run) for _ in range(2)]
    for name in ("U", "W", "b", "readout_W"):
        one, again = (ds[f"effective_gradient_{name}"] - ds[f"gradient_{name}"] for ds in found)
        assert one.values.any()
        np.testing.assert_array_equal(one, again)


def test_gradient_centralisation_takes_the_mean_of_each_row():
    params = LSTM(1, 3).init_params(np.random.default_rng(0))
    setting = {"task": Adding(length=20), "record": BOTH}
    ds = gradsim.simulate(LSTM(2, 3), mitigations=[GradientCentralisation()], **setting)
    for name in ("U", "W", "readout_W"):
        raw, found = (ds[f"{x}gradient_{name}"].values for x in ("", "effective_"))
        np.testing.assert_allclose(found, raw - raw.mean(axis=1)[:, None], atol=1e-16)
        np.testing.assert_allclose(found.sum(axis=1), 0, atol=1e-15)
    np.testing.assert_array_equal(ds.effective_gradient_b, ds.gradient_b)
    only = gradsim.simulate(LSTM(2, 3), mitigations=[GradientCentralisation(names=("W",))], **setting)
    np.testing.assert_array_equal(only.effective_gradient_U, only.gradient_U)
    one = gradsim.simulate(
        LSTM(1, 3),
        np.ones((4, 1, 1)),
        params=params,
        mitigations=[GradientCentralisation()],
        record=BOTH,
    )
    np.testing.assert_array_equal(one.effective_gradient_W, one.gradient_W)


# What weights are held to.


TRAINING = {"task": Adding(length=20), "batch": 4, "rng": 2}


@dataclass(frozen=True, eq=False)
class Watch(Mitigation):
    """Keeps a weight that the cell is about to see, at the end of every update."""

    name = "watch"
    seen: list = field(default_factory=list)

    @hookimpl(wrapper=True)
    def gradsim_update(self, cell):
        params = yield
        own = {n: np.array(params[n]) for n in cell.init_params(np.random.default_rng(0))}
        u = cell.evaluated(own, {}).params["U"]
        self.seen.append(u.reshape(-1, *2 * u.shape[1:]))
        return params


def weights_seen(cell, mitigation, updates=25, **more):
    """The blocks of the recurrent weight that the cell sees, after each update."""
    watch = Watch()
    setting = TRAINING | {"optimizer": Adam(0.05), "updates": updates} | more
    train(cell, mitigations=[mitigation, watch], **setting)
    return np.stack(watch.seen)


def apart(w):
    """How far blocks are from orthogonal."""
    return np.abs(w @ w.swapaxes(-1, -2) - np.eye(w.shape[-1])).max()


@pytest.mark.parametrize("cell", [Elman(2, 4), GRU(2, 3), LSTM(2, 3)], ids=lambda c: c.name)
@pytest.mark.parametrize("mitigation", [Stiefel(), OrthogonalWeights()], ids=lambda m: m.name)
@pytest.mark.parametrize("optimizer", [SGD(0.3), Adam(0.05)], ids=lambda o: o.name)
def test_weights_stay_orthogonal_after_every_update(cell, mitigation, optimizer):
    seen = weights_seen(cell, mitigation, optimizer=optimizer)
    assert apart(seen) < 1e-12
    assert np.abs(seen[-1] - seen[0]).max() > 1e-3  # and they do learn


@pytest.mark.parametrize("margin", [0.1, 0.5])
def test_singular_values_stay_within_the_margin(margin):
    """And products of 40 steps of a linear network: within 0.01478 and 45.259 at a margin of 0.1."""
    seen = weights_seen(Linear(2, 4), OrthogonalWeights(margin=margin), optimizer=Adam(0.3))
    for w in (seen, weights_seen(Linear(2, 4), SpectralProjection(limit=1 + margin, least=1 - margin))):
        sizes = np.linalg.svd(w, compute_uv=False)
        assert sizes.min() >= 1 - margin - 1e-12
        assert sizes.max() <= 1 + margin + 1e-12
        assert sizes.max() - sizes.min() > 0.2 * margin  # it makes use of it
        ends = np.linalg.svd(np.linalg.matrix_power(w, 40), compute_uv=False)
        assert ends.min() >= (1 - margin) ** 40 * (1 - 1e-9)
        assert ends.max() <= (1 + margin) ** 40 * (1 + 1e-9)
    if margin == 0.1:
        assert pytest.approx(0.01478, abs=5e-6) == 0.9**40
        assert pytest.approx(45.259, abs=5e-4) == 1.1**40


def test_the_margin_is_that_of_a_sigmoid(rng):
    """s_i = 2 m (sigmoid(p_i) - 1/2) + 1, between two orthogonal factors."""
    cell = RunHooks([OrthogonalWeights(margin=0.2)])("gradsim_cell", cell=GRU(2, 3))
    params = {n: rng.standard_normal(p.shape) for n, p in cell.init_params(rng).items()}
    u, turn, p = (params[n] for n in ("U", "turning1_U_turn", "turning1_U_stretch"))
    found = cell.evaluated(params, {}).params["U"]
    for i in range(0, 9, 3):
        left, right = (expm(w[i : i + 3] - w[i : i + 3].T) for w in (u, turn))
        sizes = 0.4 * (1 / (1 + np.exp(-p[i : i + 3])) - 0.5) + 1
        np.testing.assert_allclose(found[i : i + 3], left @ np.diag(sizes) @ right, rtol=1e-12, atol=1e-13)


def expm(x, terms=60):
    """A plain series."""
    found = term = np.eye(len(x))
    for i in range(1, terms):
        term = term @ x / i
        found = found + term
    return found


def test_stiefel_steps_are_cayley_transforms(rng):
    """(I + A / 2)^-1 (I - A / 2) W with A = rate (G W^T - W G^T), for plain gradient descent."""
    q = np.linalg.qr(rng.standard_normal((4, 4)))[0]
    params = Elman(2, 4).init_params(rng) | {"U": q}
    given = {}

    @dataclass(frozen=True, eq=False)
    class Look(Mitigation):
        name = "look"

        @hookimpl(wrapper=True)
        def gradsim_gradient(self):
            given.update((yield))
            return dict(given)

    run = {"params": params, "mitigations": [Stiefel(), Look()], "optimizer": SGD(0.3), "updates": 1}
    ds = train(Elman(2, 4), **run, **TRAINING)
    g = given["U"]
    a, unit = 0.3 * (g @ q.T - q @ g.T), np.eye(4)
    np.testing.assert_allclose(
        ds.trained_U, np.linalg.inv(unit + a / 2) @ (unit - a / 2) @ q, rtol=1e-12, atol=1e-14
    )


def test_stiefel_starts_at_the_nearest_orthogonal_matrix():
    cell = LSTM(2, 3)
    params = RunHooks([Stiefel()])("gradsim_params", cell=cell, rng=np.random.default_rng(0))
    drawn = cell.init_params(np.random.default_rng(0))["U"]
    for w, d in zip(params["U"].reshape(4, 3, 3), drawn.reshape(4, 3, 3), strict=True):
        assert apart(w) < 1e-14
        scaled = w.T @ d  # symmetric and positive: the polar factor
        np.testing.assert_allclose(scaled, scaled.T, atol=1e-14)
        assert (np.linalg.eigvalsh(scaled) > 0).all()


def test_spectral_norm_divides_by_the_largest_singular_value(rng):
    cell = GRU(2, 3)
    mitigated = RunHooks([SpectralNorm(limit=0.7)])("gradsim_cell", cell=cell)
    params = started(cell)[0]
    seen = mitigated.evaluated(params, {}).params["U"].reshape(3, 3, 3)
    for w, given in zip(seen, params["U"].reshape(3, 3, 3), strict=True):
        np.testing.assert_allclose(w, 0.7 * given / np.linalg.norm(given, 2), rtol=1e-13)
    inputs = rng.standard_normal((6, 3, 2))
    setting = {"params": params, "mitigations": [SpectralNorm(limit=0.7)]}
    ds = gradsim.simulate(cell, inputs, record=["gradient"], **setting)

    def loss(p):
        return gradsim.simulate(
            cell, inputs, params=p, mitigations=[SpectralNorm(limit=0.7)], record=["loss"]
        ).attrs["loss"]

    expected = numerical_gradient(loss, params, "U")
    np.testing.assert_allclose(ds.gradient_U, expected, rtol=1e-6, atol=1e-8)
    # Along itself no block has a slope: W and c W are the same.
    blocks = (params["U"] * ds.gradient_U.values).reshape(3, -1).sum(axis=1)
    np.testing.assert_allclose(blocks, 0, atol=1e-13)


@pytest.mark.parametrize("start", [np.eye(4), np.zeros((4, 4))], ids=["identity", "zero"])
def test_spectral_norm_where_no_direction_is_the_largest(start):
    params = Elman(2, 4).init_params(np.random.default_rng(0)) | {"U": start}
    run = {"params": params, "mitigations": [SpectralNorm()], "record": ["gradient"]}
    ds = gradsim.simulate(Elman(2, 4), np.ones((5, 2, 2)), **run)
    assert np.isfinite(ds.gradient_U).all()


def test_a_projection_is_the_nearest_matrix_and_leaves_what_fits(rng):
    cell = Elman(2, 4)
    params = started(cell)[0]
    cut = RunHooks([SpectralProjection(limit=0.6, least=0.3)])
    given = {"cell": cell, "before": params, "gradient": params, "draws": {}, "moment": Moment()}
    found = cut("gradsim_update", params=params, **given)
    u, s, v = np.linalg.svd(params["U"])
    np.testing.assert_allclose(found["U"], u @ np.diag(np.clip(s, 0.3, 0.6)) @ v, atol=1e-14)
    assert found["W"] is params["W"]
    fits = params | {"U": 0.6 / 1.0001 * np.linalg.qr(params["U"])[0]}
    np.testing.assert_array_equal(cut("gradsim_update", params=fits, **given)["U"], fits["U"])
    in_float32 = {n: p.astype("float32") for n, p in params.items()}
    assert cut("gradsim_update", params=in_float32, **given)["U"].dtype == np.float32


def test_soft_caps_are_tanh_of_the_sums(rng):
    """Of an LSTM in plain NumPy, with the input and forget gates capped at 0.5."""
    cell, inputs = LSTM(2, 3), rng.standard_normal((5, 2, 2))
    params, start = started(cell)
    ds = gradsim.simulate(
        cell,
        inputs,
        params=params,
        initial_state=start,
        mitigations=[SoftCap(0.5, gates=("input", "forget"))],
        record=["state"],
    )
    h, c = (np.tile(x, (2, 1)) for x in np.split(start, 2))
    for t in range(5):
        a = inputs[t] @ params["W"].T + h @ params["U"].T + params["b"]
        i, f, g, o = np.split(a, 4, axis=1)
        i, f, o = (1 / (1 + np.exp(-x)) for x in (0.5 * np.tanh(i / 0.5), 0.5 * np.tanh(f / 0.5), o))
        c = f * c + i * np.tanh(g)
        h = o * np.tanh(c)
        np.testing.assert_allclose(ds.state[t + 1], np.concatenate((h, c), axis=1), rtol=1e-12, atol=1e-14)


def test_soft_caps_know_the_sums_of_gates():
    """The candidate of a GRU has two; a cap far out changes nothing to speak of."""
    cell, old = GRU(2, 3), (np.zeros(1),)
    capped = RunHooks([SoftCap(2.0, gates=("candidate", "update"))])("gradsim_cell", cell=cell)
    sums = np.random.default_rng(0).standard_normal((4, 1))
    cut = np.where([[True], [False], [True], [True]], 2 * np.tanh(sums / 2), sums)
    np.testing.assert_array_equal(capped.unit(tuple(sums), old, np), cell.unit(tuple(cut), old, np))
    assert repr(capped) == "SoftCappedGRU(input_size=2, hidden_size=3, reset_after=True)"
    x = np.random.default_rng(0).standard_normal((6, 2, 2))
    plain, far = (
        gradsim.simulate(GRU(2, 3), x, mitigations=m, record=["state", "gradient"], rng=3)
        for m in ([], [SoftCap(1e9)])
    )
    for name in plain.data_vars:
        np.testing.assert_allclose(far[name], plain[name], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("cell", [SLSTM(2, 3), MLSTM(2, 3, key_size=2)], ids=lambda c: c.name)
def test_the_extended_lstms_are_capped_at_their_gates(cell):
    """Of sums of 30 and more no gate sees more than the cap: steps are those with weights of nothing."""
    rng = np.random.default_rng(0)
    x, params = rng.standard_normal((4, 2, 2)), cell.init_params(rng)
    for name in params:
        if name in ("U", "W", "W_i", "W_f"):
            params[name] = 0 * params[name]
    sums = {"b": np.repeat([30.0, -40.0, 0.5, 0.0], 3)} if "b" in params else {"b_i": [30.0], "b_f": [-40.0]}
    at = {"b": np.repeat([2.0, -2.0, 0.5, 0.0], 3)} if "b" in params else {"b_i": [2.0], "b_f": [-2.0]}
    far = gradsim.simulate(
        cell,
        x,
        params=params | {n: np.array(b) for n, b in sums.items()},
        mitigations=[SoftCap(2.0)],
        record=["state"],
    )
    free = gradsim.simulate(
        cell, x, params=params | {n: np.array(b) for n, b in at.items()}, record=["state"]
    )
    np.testing.assert_allclose(far.state, free.state, rtol=1e-11, atol=1e-12)


# Trainings.

ALL = [
    Activity(0.1, 0.1),
    Flossing(0.1, exponents=2),
    GradientCentralisation(),
    GradientNoise(),
    JacobianRegulariser(projections=1),
    NormStabiliser(),
    OrthogonalWeights(margin=0.1),
    SoftCap(),
    SoftOrthogonality(),
    SpectralNorm(),
    SpectralProjection(),
    Stiefel(),
]


@pytest.mark.parametrize("mitigation", ALL, ids=lambda m: m.name)
def test_a_training_goes_on_to_the_same_bits(mitigation, tmp_path):
    """Also with probes, and with validations, in between."""

    def training(**more):
        made = [type(mitigation)(**{f.name: getattr(mitigation, f.name) for f in fields(mitigation)})]
        setting = TRAINING | {"optimizer": Adam(0.02), "updates": 5, "mitigations": made}
        return train(Elman(2, 4), **setting, **more)

    def stop(event):
        if event["event"] == "update" and event["update"] == 3:
            raise KeyboardInterrupt

    whole, store = training(), tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        training(store=store, report=stop, checkpoint_seconds=0)
    resumed = training(store=store, resume=True)
    watched = training(record={"every": 2}, validate={"every": 2, "sequences": 4})
    for name in (n for n in whole if n.startswith("trained_")):
        np.testing.assert_array_equal(resumed[name], whole[name])
        np.testing.assert_array_equal(watched[name], whole[name])


# What is refused, before anything runs.


@pytest.mark.parametrize(
    "made",
    [SoftOrthogonality, SpectralProjection, SpectralNorm, OrthogonalWeights, Stiefel],
)
def test_weights_that_are_not_there_are_refused(made):
    task = {"task": Adding(length=20)}
    with pytest.raises(UnknownNameError, match=rf"parameter in {made.name} 'u'; did you mean 'U'\?"):
        gradsim.prepare(Elman(2, 4), mitigations=[made(names=("u",))], **task)
    with pytest.raises(InputError, match=f"{made.name}: min_gru has no recurrent weights that train"):
        gradsim.prepare(MinGRU(2, 4), mitigations=[made()], **task)
    with pytest.raises(InputError, match=rf"{made.name}: W should have shape \(r n, n\), not \(5, 2\)"):
        gradsim.prepare(Elman(2, 5), mitigations=[made(names=("W",))], **task)
    with pytest.raises(InputError, match=f"{made.name}: U is fixed, and no training changes it"):
        gradsim.prepare(EchoState(2, 4), mitigations=[made(names=("U",))], **task)


@pytest.mark.parametrize("made", [WeightDecay, GradientCentralisation])
def test_parameters_that_are_not_there_are_refused(made):
    with refused(UnknownNameError, f"parameter in {made.name} 'readout_w'; did you mean 'readout_W'?"):
        gradsim.prepare(Elman(2, 4), task=Adding(length=20), mitigations=[made(names=("readout_w",))])


def test_blocks_gates_and_exponents_that_are_not_there_are_refused():
    def prepared(cell, mitigation):
        return gradsim.prepare(cell, task=Adding(length=20), mitigations=[mitigation])

    for made in (NormStabiliser, Activity):
        with refused(UnknownNameError, "unknown block of lstm 'C'; did you mean 'c'?"):
            prepared(LSTM(2, 3), made(blocks=("C",)))
        with refused(InputError, f"{made.name}: blocks are empty; name some, or leave them out"):
            prepared(LSTM(2, 3), made(blocks=()))
    with refused(UnknownNameError, "unknown gate of lstm 'forgot'; did you mean 'forget'?"):
        prepared(LSTM(2, 3), SoftCap(gates=("forgot",)))
    for cell in (LRU(2, 3), GRU(2, 3, reset_after=False)):
        with refused(InputError, f"soft_cap: {cell!r} has no units whose sums it could cap"):
            prepared(cell, SoftCap())
    with refused(InputError, "flossing: exponents=9, where lstm has 6 in all"):
        prepared(LSTM(2, 3), Flossing(exponents=9))
    with refused(InputError, "flossing: transient=20 leaves none of 20 steps"):
        prepared(LSTM(2, 3), Flossing(transient=20))
    with refused(InputError, "SpectralProjection: least <= limit is needed (got least=2.0, limit=1.0)"):
        SpectralProjection(least=2.0)


def test_they_act_on_what_other_mitigations_make():
    """A gate around a cell has recurrent weights of its own; all of them are orthogonal."""
    chosen = [Gate(), OrthogonalInit(), SoftOrthogonality(1.0)]
    run = {"task": Adding(length=20), "record": ["effective_gradient"]}
    ds = gradsim.simulate(Elman(2, 4), mitigations=chosen, **run)
    assert ds.attrs["penalty"] == pytest.approx(0, abs=1e-25)
    chosen = [SpectralNorm(), OrthogonalWeights(), JacobianRegulariser(), Stiefel()]
    ds = gradsim.simulate(GRU(2, 4), mitigations=chosen, **run)
    assert np.isfinite(ds.effective_gradient_U).all()

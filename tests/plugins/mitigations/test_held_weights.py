"""Weights that are held orthogonal, or within bounds of their singular values."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from helpers import exponential, numerical_gradient, refused
from stepping import moved, sigmoid

import gradsim
from gradsim import Mitigation, hookimpl, train
from gradsim.contracts.hooks import RunHooks
from gradsim.contracts.moment import Moment
from gradsim.errors import InputError, UnknownNameError
from gradsim.testing import conformance
from gradsim_cells import GRU, LSTM, EchoState, Elman, Linear, MinGRU
from gradsim_mitigations import (
    Gate,
    JacobianRegulariser,
    OrthogonalInit,
    OrthogonalWeights,
    SoftOrthogonality,
    SpectralNorm,
    SpectralProjection,
    Stiefel,
)
from gradsim_optimizers import SGD, Adam
from gradsim_tasks import Adding

test_kit = conformance(OrthogonalWeights(margin=0.2), SpectralProjection(limit=1.1, least=0.9))
test_kit_of_a_gru = conformance(
    SpectralNorm(), OrthogonalWeights(margin=0.2), cell=GRU(input_size=2, hidden_size=3)
)

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
        left, right = (exponential(w[i : i + 3] - w[i : i + 3].T) for w in (u, turn))
        sizes = 0.4 * (sigmoid(p[i : i + 3]) - 0.5) + 1
        np.testing.assert_allclose(found[i : i + 3], left @ np.diag(sizes) @ right, rtol=1e-12, atol=1e-13)


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
    arguments = {"cell": cell, "inputs": None, "rng": np.random.default_rng(0)}
    params = RunHooks([Stiefel()])("gradsim_params", **arguments)
    drawn = cell.init_params(np.random.default_rng(0))["U"]
    for w, d in zip(params["U"].reshape(4, 3, 3), drawn.reshape(4, 3, 3), strict=True):
        assert apart(w) < 1e-14
        scaled = w.T @ d  # symmetric and positive: the polar factor
        np.testing.assert_allclose(scaled, scaled.T, atol=1e-14)
        assert (np.linalg.eigvalsh(scaled) > 0).all()


def test_spectral_norm_divides_by_the_largest_singular_value(rng):
    cell = GRU(2, 3)
    mitigated = RunHooks([SpectralNorm(limit=0.7)])("gradsim_cell", cell=cell)
    params = moved(cell, rng)
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
    params = moved(cell, rng)
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


def test_bounds_that_leave_nothing_are_refused():
    with refused(InputError, "SpectralProjection: least <= limit is needed (got least=2.0, limit=1.0)"):
        SpectralProjection(least=2.0)


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


def test_they_act_on_what_other_mitigations_make():
    """A gate around a cell has recurrent weights of its own; all of them are orthogonal."""
    chosen = [Gate(), OrthogonalInit(), SoftOrthogonality(1.0)]
    run = {"task": Adding(length=20), "record": ["effective_gradient"]}
    ds = gradsim.simulate(Elman(2, 4), mitigations=chosen, **run)
    assert ds.attrs["penalty"] == pytest.approx(0, abs=1e-25)
    chosen = [SpectralNorm(), OrthogonalWeights(), JacobianRegulariser(), Stiefel()]
    ds = gradsim.simulate(GRU(2, 4), mitigations=chosen, **run)
    assert np.isfinite(ds.effective_gradient_U).all()

"""Truncation against its definitions, its bias against bounds, and what is unbiased by enumeration."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest
from helpers import flat

import gradsim
from gradsim.contracts import registry
from gradsim.contracts.hooks import RunHooks
from gradsim.contracts.jacobians import Jacobians
from gradsim.contracts.moment import Moment
from gradsim.contracts.trajectory import Trajectory
from gradsim.errors import InputError
from gradsim.testing import conformance
from gradsim_cells import GRU, LRU, LSTM, Elman, Linear
from gradsim_mitigations import ARTBP, HDetach, Truncate, TruncateAdaptive, TruncateAnnealed
from gradsim_optimizers import SGD
from gradsim_tasks import Adding, FlipFlop, Sunspots

OPTIONS = [
    TruncateAnnealed(first=3, last=3),
    TruncateAdaptive(delta=0.5, longest=3),
    ARTBP(length=2.0, alpha=None),
    HDetach(probability=0.5),
]
test_truncation_keeps_the_contract = conformance(*OPTIONS)
test_truncation_of_an_lstm_keeps_the_contract = conformance(*OPTIONS, cell=LSTM(2, 3))

GRADIENTS = ["gradient", "effective_gradient"]


def params_of(cell, scale=1.0, seed=0):
    params = cell.init_params(np.random.default_rng(seed))
    return params | {n: scale * params[n] for n in cell.recurrent_weights}


def direct_of(ds):
    """q_s = dL_s/ds_s, from all adjoints and Jacobians."""
    a, j = ds.adjoint.values, ds.step_jacobian.values
    return a - np.concatenate([np.einsum("tbi,tbij->tbj", a[1:], j), np.zeros_like(a[:1])])


def linear(mitigation):
    """Whether it changes what carries the adjoint, and not the adjoint itself."""
    phases = RunHooks([mitigation]).phases
    return "jacobians" in phases and "adjoint" not in phases


SHIPPED = [cls() for cls in registry.catalogue().plugins["mitigations"].values()]
LINEAR = [m for m in [*SHIPPED, *OPTIONS, Truncate(3, 7)] if linear(m)]


@pytest.mark.parametrize("mitigation", LINEAR, ids=lambda m: f"{m!r}")
@pytest.mark.parametrize("cell", [GRU(3, 4), LSTM(3, 3)], ids=lambda c: c.name)
def test_products_of_a_linear_mitigation_add_up_to_its_adjoints(cell, mitigation):
    """a~_k = sum over s of q_s P~(s, k)."""
    record = ["adjoint", "step_jacobian", "effective_adjoint", "effective_jacobian_product"]
    ds = gradsim.simulate(
        cell, task=FlipFlop(length=30), batch=2, rng=3, mitigations=[mitigation], record=record
    )
    products = np.nan_to_num(ds.effective_jacobian_product.values)
    expected = np.einsum("sbi,skbij->kbj", direct_of(ds), products)
    np.testing.assert_allclose(
        ds.effective_adjoint, expected, rtol=1e-10, atol=1e-10 * np.abs(expected).max()
    )


def test_truncated_products_are_zero_beyond_theirwindow_of():
    ds = gradsim.simulate(
        Elman(1, 3),
        task=Sunspots(length=12),
        mitigations=[Truncate(k1=3, k2=5)],
        record=["product_norm", "effective_product_norm", "effective_lyapunov", "lyapunov"],
    )
    for t in range(13):
        end = min(-(-t // 3) * 3, 12)
        for k in range(t + 1):
            raw, effective = (ds[n].values[t, k, 0] for n in ("product_norm", "effective_product_norm"))
            assert effective == (raw if t == 0 or k > end - 5 else 0)
    assert (ds.effective_lyapunov == -np.inf).all()


@pytest.mark.parametrize(("k1", "k2"), [(1, 1), (1, 4), (3, 3), (3, 7), (5, 12), (4, 40)])
def test_truncation_is_that_of_williams_and_peng(k1, k2):
    """Every k1 steps, errors of the last k1 steps go in, and back through the last k2 steps: BPTT(k2; k1)."""
    record = ["state", "adjoint", "step_jacobian", "effective_adjoint", "effective_gradient"]
    run = dict(task=FlipFlop(length=17), batch=1, rng=3, record=record)
    ds = gradsim.simulate(Elman(3, 4), mitigations=[Truncate(k1, k2)], **run)
    h, jacobian, errors = ds.state.values[:, 0], ds.step_jacobian.values[:, 0], direct_of(ds)[:, 0]
    gradient, adjoints = np.zeros((4, 4)), np.zeros((18, 4))
    for now in [*range(k1, 17, k1), 17]:
        delta = np.zeros(4)
        first_error = (now - 1) // k1 * k1 + 1
        for tau in range(now, max(now - k2, 0), -1):
            if tau >= first_error:
                delta = delta + errors[tau]
            adjoints[tau] += delta
            gradient += np.outer(delta * (1 - h[tau] ** 2), h[tau - 1])
            delta = delta @ jacobian[tau - 1]
        if k2 >= now:
            adjoints[0] += delta
    np.testing.assert_allclose(ds.effective_gradient_U, gradient, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(ds.effective_adjoint[1:, 0], adjoints[1:], rtol=1e-12, atol=1e-15)


def bias_of(cell, mitigation, inputs, params, **more):
    ds = gradsim.simulate(cell, inputs, mitigations=[mitigation], params=params, record=GRADIENTS, **more)
    raw, cut = flat(ds, "gradient"), flat(ds)
    return [np.linalg.norm(x) for x in (cut - raw, cut, raw)]


@pytest.mark.parametrize(
    ("k", "expected"), [(5, 0.5791338849356), (10, 0.3318301646905), (20, 0.1027139063196)]
)
def test_the_bias_of_a_scalar_is_that_of_the_closed_form(k, expected):
    """h_t = 0.9 h_{t-1} + 1 and L = h_50: dL/dw = 96.62141403075682."""
    params, ones = {"U": np.array([[0.9]]), "W": np.ones((1, 1))}, np.ones((50, 1, 1))
    ds = gradsim.simulate(Linear(1, 1), ones, mitigations=[Truncate(1, k)], params=params, record=GRADIENTS)
    raw, cut = ds.gradient_U.item(), ds.effective_gradient_U.item()
    assert raw == pytest.approx(96.62141403075682, rel=1e-13)
    assert 1 - cut / raw == pytest.approx(expected, rel=1e-11)


def loss_norms(cell, inputs, params):
    """phi_k = ||dL/ds_{T-k}|| of the loss at the end, and M, the largest norm of ds_t/dparams at one step."""
    ds = gradsim.simulate(cell, inputs, params=params, record=["adjoint_norm", "state"])
    trajectory = Trajectory(cell, params, ds.state.values, inputs, {})
    shape = (len(inputs), cell.state_size, -1)
    slopes = np.concatenate([x.reshape(shape) for x in trajectory.params_jacobian().values()], axis=-1)
    return ds.adjoint_norm.values[::-1, 0], np.linalg.norm(slopes, 2, axis=(1, 2)).max()


CONTRACTING = [
    *((Elman(3, 8), scale, seed) for scale in (0.3, 0.6, 0.9) for seed in range(3)),
    (GRU(3, 6), 0.5, 0),
    (LSTM(3, 6), 0.5, 1),
    (LRU(3, 6), 1.0, 2),
    (Linear(3, 6), 0.7, 3),
]


@pytest.mark.parametrize(("cell", "scale", "seed"), CONTRACTING, ids=lambda x: getattr(x, "name", x))
def test_the_bias_lies_below_the_bound_and_falls_as_the_products_do(cell, scale, seed):
    """Aicher, Foti & Fox (2019), theorem 1: |bias| <= M sum of phi <= M phi_K beta / (1 - beta)."""
    inputs = np.random.default_rng(seed + 10).standard_normal((60, 1, 3))
    params = params_of(cell, scale, seed)
    phi, most = loss_norms(cell, inputs, params)
    windows = np.array([1, 2, 3, 5, 8, 12, 16, 20])
    found = np.array([bias_of(cell, Truncate(1, int(k)), inputs, params) for k in windows])
    bias, size = found[:, 0], found[0, 2]
    for k, (b, cut, _) in zip(windows, found, strict=True):
        dropped = phi[k:-1].sum()  # the parameters take no part in the state at time 0
        bound = most * dropped + 1e-14 * size
        assert b <= bound
        if bound < cut:
            assert b / size <= bound / (cut - bound)
        beta = (phi[k:] / phi[k - 1 : -1]).max()
        if beta < 1:
            assert dropped <= phi[k - 1] * beta / (1 - beta) * (1 + 1e-12)
    there = (bias > 1e-11 * size) & (windows > 2)
    slopes = [np.polyfit(windows[there], np.log(x[there]), 1)[0] for x in (bias, phi[windows])]
    assert slopes[0] == pytest.approx(slopes[1], rel=0.4)


def reaches(mitigation, steps, moment, **arguments):
    """How far back each loss reaches, in steps."""
    given = Jacobians(range(1, steps + 1), np.zeros((steps, 1, 1, 1, 1)), own=True)
    arguments = {"trajectory": None, "measured": {}, "draws": {}, **arguments}
    found = RunHooks([mitigation])("gradsim_jacobians", jacobians=given, moment=moment, **arguments)
    return np.arange(1, steps + 1) - found.reach + 1


def test_a_window_that_is_annealed():
    """From `first` at the first update to `last` at the last one, also downwards; `first` outside."""
    windows = [reaches(TruncateAnnealed(2, 10), 30, Moment(u, 5, "learn"))[-1] for u in range(1, 6)]
    assert windows == [2, 4, 6, 8, 10]
    assert [reaches(TruncateAnnealed(9, 1), 30, Moment(u, 3, "learn"))[-1] for u in (1, 2, 3)] == [9, 5, 1]
    for moment in (Moment(), Moment(0, 5), Moment(1, 1, "learn")):
        assert (reaches(TruncateAnnealed(4, 10), 30, moment)[4:] == 4).all()


def test_an_adaptive_window_is_the_shortest_that_keeps_the_bias():
    """phi_k = 0.8^k at 40 lags: dropped are 0.8^K (1 - 0.8^(40 - K)) / (1 - 0.8^40)."""
    phi = 0.8 ** np.arange(41.0)
    exact = [(phi[k:].sum()) / phi.sum() for k in range(42)]
    for delta in (0.5, 0.1, 0.01, 0.0):
        adaptive = TruncateAdaptive(delta=delta, longest=1000)
        found = window_of(adaptive, phi, steps=40)
        assert found == next(k for k in range(1, 42) if exact[k] <= delta)


@pytest.mark.parametrize(("longest", "delta"), [(20, 0.1), (30, 0.05), (10, 0.01)])
def test_lags_that_are_not_measured_are_bounded_by_the_decay(longest, delta):
    """The tail of 0.8^k is 0.8^R / 0.2: relative to all but that, 0.8^K / (1 - 2 * 0.8^R) are dropped."""
    adaptive = TruncateAdaptive(delta=delta, longest=longest)
    found = window_of(adaptive, 0.8 ** np.arange(float(longest)), steps=400)
    exact = [0.8**k / (1 - 2 * 0.8**longest) for k in range(longest + 1)]
    assert found == next((k for k in range(1, longest) if exact[k] <= delta), longest)


def test_no_window_is_chosen_where_nothing_decays():
    for phi in (1.1 ** np.arange(20.0), np.ones(20), np.append(np.zeros(19), 1.0)):
        assert window_of(TruncateAdaptive(0.5, longest=20), phi, steps=400) == 20
    assert window_of(TruncateAdaptive(0.5, longest=20), np.append(np.ones(3), np.zeros(17)), steps=400) == 2


def test_an_adaptive_window_averages_over_updates():
    adaptive, phi = TruncateAdaptive(0.1, longest=100, memory=0.75), 0.5 ** np.arange(9.0)
    before = {adaptive: {"phi": np.ones(9)}}
    moment = Moment(3, 10, "learn", memories=before)
    window_of(adaptive, phi, 8, moment)
    np.testing.assert_allclose(moment.noted[adaptive]["phi"], 0.75 + 0.25 * phi, rtol=1e-14)


@pytest.mark.parametrize("lost", [np.inf, np.nan])
def test_an_update_that_leaves_the_range_does_not_count_for_good(lost):
    adaptive, phi = TruncateAdaptive(0.1, longest=100), 0.5 ** np.arange(9.0)
    moment = Moment(3, 10, "learn", memories={adaptive: {"phi": np.append(np.ones(8), lost)}})
    assert window_of(adaptive, phi, 8, moment) == window_of(adaptive, phi, 8) == 4
    assert np.isfinite(moment.noted[adaptive]["phi"]).all()


def window_of(adaptive, phi, steps, moment=None):
    """As a measured phi of two losses and two sequences leads to it."""
    norms = np.stack([np.stack([0.5 * phi, 0.7 * phi], axis=-1), np.stack([0.5 * phi, 0.3 * phi], axis=-1)])
    norms[0, -1, :], norms[1, -1, :] = np.nan, phi[-1]
    given = {"measured": {adaptive: {"loss_adjoint_norm": norms}}, "draws": {adaptive: {"steps": steps}}}
    return reaches(adaptive, steps, moment or Moment(), **given)[-1]


@pytest.mark.parametrize(("cell", "scale", "seed"), CONTRACTING, ids=lambda x: getattr(x, "name", x))
def test_an_adaptive_window_keeps_its_promise(cell, scale, seed):
    """Whatever is dropped has at most the share delta of M sum of phi, with 40 of 60 lags measured."""
    inputs = np.random.default_rng(seed + 10).standard_normal((60, 1, 3))
    params = params_of(cell, scale, seed)
    phi, most = loss_norms(cell, inputs, params)
    for delta in (0.5, 0.1, 0.01):
        bias, *_ = bias_of(cell, TruncateAdaptive(delta, longest=40), inputs, params)
        assert 0 < bias <= delta * most * phi[:-1].sum()


class Scripted:
    """A generator of which each step of each sequence is told whether to cut."""

    def __init__(self, cuts):
        self.cuts = np.array(cuts)

    def random(self, shape):
        return np.where(np.broadcast_to(self.cuts[:, None], shape), 0.0, np.nextafter(1.0, 0.0))


@dataclass(frozen=True, eq=False)
class Drawn(ARTBP):
    name = "drawn"
    cuts: tuple[bool, ...] = ()

    def draw(self, rng, steps, batch):
        return super().draw(Scripted(self.cuts), steps, batch)


def chance(cuts, length, alpha):
    """Of this pattern of cuts, by the formulas of the paper."""
    total, since = 1.0, 1
    for cut in cuts:
        c = 1 / length if alpha is None else (alpha - 1) / ((alpha - 2) * length + since)
        total *= c if cut else 1 - c
        since = 1 if cut else since + 1
    return total


@pytest.mark.parametrize(
    ("length", "alpha"), [(1 / 0.3, None), (2.0, None), (3.0, 4.0), (1.5, 2.5), (6.0, 9.0)]
)
def test_random_truncation_has_no_bias(length, alpha):
    """All 2^6 patterns of cuts, drawn as told, with their chances by a plain loop."""
    cell, x = Elman(2, 3), np.random.default_rng(1).standard_normal((6, 2, 2))
    run = {"params": params_of(cell, 1.5), "record": GRADIENTS}
    mean, biased = 0.0, 0.0
    patterns = list(product((False, True), repeat=6))
    assert sum(chance(cuts, length, alpha) for cuts in patterns) == pytest.approx(1, rel=1e-14)
    for cuts in patterns:
        with_factors, without = (
            gradsim.simulate(cell, x, mitigations=[kind(length, alpha, cuts)], **run)
            for kind in (Drawn, JustCut)
        )
        mean = mean + chance(cuts, length, alpha) * flat(with_factors)
        biased = biased + chance(cuts, length, alpha) * flat(without)
    exact = flat(with_factors, "gradient")
    assert np.linalg.norm(mean - exact) < 1e-14 * np.linalg.norm(exact)
    assert np.linalg.norm(biased - exact) > 0.03 * np.linalg.norm(exact)


class JustCut(Drawn):
    """Without the factors."""

    def draw(self, rng, steps, batch):
        return {"carried": np.sign(super().draw(rng, steps, batch)["carried"])}


@pytest.mark.parametrize(("length", "alpha"), [(20.0, 4.0), (5.0, 6.0), (2.0, 3.5)])
def test_cuts_lie_as_far_apart_as_they_should(length, alpha):
    """The mean of l with P(l > n) = product of (1 - c_i) is `length`, with a tail l^(1 - alpha) behind."""
    since = np.arange(1.0, 2e6)
    alive = np.exp(np.cumsum(np.log1p(-ARTBP(length, alpha)._probability(since))))
    tail = alive[-1] * since[-1] / (alpha - 2)
    assert 1 + alive.sum() + tail == pytest.approx(length, rel=1e-6)


def test_each_sequence_is_cut_by_itself_and_as_often_as_it_should():
    for alpha in (None, 4.0):
        carried = ARTBP(5.0, alpha).draw(np.random.default_rng(0), 4000, 50)["carried"]
        share = (carried == 0).mean()
        assert share == pytest.approx(0.2, abs=0.01)
        assert len({tuple(x) for x in carried.T == 0}) == 50


def test_detached_steps_carry_the_cell_alone():
    """Detached everywhere, an LSTM carries its adjoint as its forget gates say."""
    run = dict(task=Adding(length=20), record=["effective_product_norm", "state"], rng=1)
    ds = gradsim.simulate(LSTM(2, 3), mitigations=[HDetach(probability=1.0)], **run)
    raw = gradsim.simulate(LSTM(2, 3), record=["step_jacobian"], task=Adding(length=20), rng=1)
    c = dict(state_out=slice(3, 6), state_in=slice(3, 6))
    forget = np.diagonal(raw.step_jacobian.isel(c).values, axis1=-2, axis2=-1)
    carried = raw.step_jacobian.isel(state_out=slice(0, 3), state_in=slice(3, 6)).values[-1, 0]
    whole = np.prod(forget[:, 0], axis=0)
    up = np.diagonal(carried) * np.prod(forget[:-1, 0], axis=0)
    expected = np.sqrt((whole**2).sum() + (up**2).sum())
    assert float(ds.effective_product_norm[-1, 0, 0]) == pytest.approx(expected, rel=1e-10)


def test_some_steps_are_detached_and_the_others_left_alone():
    run = dict(task=FlipFlop(length=40), batch=3, rng=1, record=["step_jacobian", "effective_step_jacobian"])
    ds = gradsim.simulate(LSTM(3, 3), mitigations=[HDetach(0.3)], **run)
    raw, found = ds.step_jacobian.values, ds.effective_step_jacobian.values
    kept = (found == raw).all(axis=(2, 3))
    assert 0.6 < kept.mean() < 0.8
    assert not kept.all(axis=1).all()
    assert not found[~kept][:, :, :3].any()  # nothing passes through h


def test_a_cell_without_paths_is_refused():
    with pytest.raises(InputError, match="h_detach: elman names no paths"):
        gradsim.simulate(Elman(2, 3), np.zeros((5, 1, 2)), mitigations=[HDetach()])


def test_a_window_grows_with_the_updates():
    setting = {"optimizer": SGD(learning_rate=0.05), "batch": 3, "updates": 4, "rng": 1}
    grows = TruncateAnnealed(first=1, last=20)
    ds = gradsim.train(Elman(2, 4), Adding(length=20), mitigations=[grows], **setting)
    lags = ds.train_lag.values
    reached = [lags[np.isfinite(row) & (row > -np.inf)].max() for row in ds.train_adjoint_norm_log10.values]
    assert reached == sorted(reached)
    assert reached[0] < reached[-1]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Truncate(5, 4), r"Truncate: k1 <= k2 is needed.*k1=5, k2=4"),
        (lambda: TruncateAnnealed(0, -1), r"(?s)TruncateAnnealed: first .*last"),
        (lambda: TruncateAdaptive(-0.1, memory=1.0), r"(?s)TruncateAdaptive: delta .*memory"),
        (lambda: ARTBP(1.0), r"ARTBP: length should be"),
        (lambda: ARTBP(alpha=2.0), r"ARTBP: alpha should be"),
        (lambda: HDetach(1.5), r"HDetach: probability should be"),
    ],
)
def test_bad_parameters_are_refused(make, said):
    with pytest.raises(InputError, match=said):
        make()

"""Clipping against its formulas."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import flat

import gradsim
from gradsim import analysis
from gradsim.contracts.hooks import RunHooks
from gradsim.contracts.moment import Moment
from gradsim.errors import InputError
from gradsim.testing import conformance
from gradsim_cells import LSTM, Elman
from gradsim_mitigations import AutoClip, ClipAdaptive, ClipChunkEdges, ClipNorm, ClipValue
from gradsim_optimizers import SGD
from gradsim_tasks import Adding, FlipFlop, Sunspots

test_clipping_keeps_the_contract = conformance(
    ClipNorm(0.1, where="parameter"),
    ClipNorm(0.1, where="contribution"),
    ClipNorm(0.1, where="adjoint"),
    ClipValue(0.01, where="contribution"),
    ClipValue(0.01, where="adjoint"),
    ClipAdaptive(limit=0.1, floor=0.1),
    AutoClip(percentile=0.0),
    ClipChunkEdges(k1=2, threshold=0.5, shrink=0.5, max_norm=0.1),
)

LIMITS = [0.3, 1.0, 2.5, 40.0]
NOTHING = {"trajectory": None, "draws": {}, "moment": Moment()}


def clipped(mitigation, hook, value, **others):
    """What a mitigation makes of one argument of a hook, called alone."""
    others |= {"params": {}, "episode": None} if hook == "gradsim_gradient" else {}
    others |= {"time": 3} if hook == "gradsim_adjoint" else {}
    return RunHooks([mitigation])(hook, **{hook.removeprefix("gradsim_"): value}, **{**NOTHING, **others})


@pytest.mark.parametrize("limit", [1e-3, 1e3])
def test_clip_norm_keeps_the_direction(limit):
    """||g'|| = min(||g||, limit) and cos(g', g) = 1 (Pascanu, Mikolov & Bengio 2013, algorithm 1)."""
    ds = gradsim.simulate(
        LSTM(1, 4),
        task=Sunspots(length=20),
        mitigations=[ClipNorm(limit)],
        record=["gradient", "effective_gradient", "effective_gradient_factor"],
    )
    raw, cut = flat(ds, "gradient"), flat(ds)
    size = np.linalg.norm(raw)
    assert np.linalg.norm(cut) == pytest.approx(min(size, limit), rel=1e-14)
    assert raw @ cut / size / np.linalg.norm(cut) == pytest.approx(1, abs=1e-14)
    assert ds.effective_gradient_factor.item() == pytest.approx(min(1, limit / size), rel=1e-14)


@pytest.mark.parametrize("limit", LIMITS)
def test_the_norm_of_a_gradient_at_any_limit(limit):
    """g min(1, limit / 5) for a gradient of norm 5, in any number of parameters; or each by itself."""
    gradient = {"U": np.array([[3.0, 0.0]]), "b": np.array([0.0, -4.0]), "c": np.array(0.0)}
    whole = clipped(ClipNorm(limit), "gradsim_gradient", gradient)
    each = clipped(ClipNorm(limit, where="parameter"), "gradsim_gradient", gradient)
    for name, size in (("U", 3), ("b", 4), ("c", 1)):
        np.testing.assert_allclose(whole[name], min(1, limit / 5) * gradient[name], rtol=1e-14)
        np.testing.assert_allclose(each[name], min(1, limit / size) * gradient[name], rtol=1e-14)


@pytest.mark.parametrize("where", ["gradient", "contribution", "adjoint"])
@pytest.mark.parametrize("limit", LIMITS)
def test_values_at_any_limit(limit, where):
    value = np.array([[3.0, -0.2, limit], [-41.0, 0.0, -limit]])
    hook = "gradsim_contributions" if where == "contribution" else f"gradsim_{where}"
    given = value if where == "adjoint" else {"U": value}
    found = clipped(ClipValue(limit, where=where), hook, given)
    expected = [[min(3.0, limit), max(-0.2, -limit), limit], [max(-41.0, -limit), 0, -limit]]
    np.testing.assert_array_equal(found if where == "adjoint" else found["U"], expected)


@pytest.mark.parametrize("limit", LIMITS)
def test_the_norm_of_an_adjoint_at_any_limit(limit):
    """Each element of the batch by its own norm: 5, 0.1 and 0."""
    adjoint = np.array([[3.0, 4.0], [0.06, -0.08], [0.0, 0.0]])
    found = clipped(ClipNorm(limit, where="adjoint"), "gradsim_adjoint", adjoint)
    factors = np.array([min(1, limit / 5), min(1, limit / 0.1), 1])[:, None]
    np.testing.assert_allclose(found, factors * adjoint, rtol=1e-14)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_norms_whose_squares_leave_the_range(dtype):
    big = np.sqrt(np.finfo(dtype).max).item() * 1e3
    adjoint = np.array([[3 * big, 4 * big], [3 / big, 4 / big]], dtype=dtype)
    for limit in (1.0, big):
        found = clipped(ClipNorm(limit, where="adjoint"), "gradsim_adjoint", adjoint)
        sizes = np.array([limit, min(limit, 5 / big)])[:, None]
        np.testing.assert_allclose(found, sizes * [[0.6, 0.8]], rtol=1e-5 if dtype == "float32" else 1e-13)
        assert found.dtype == dtype


@pytest.mark.parametrize("where", ["contribution", "adjoint"])
def test_where_decides_what_else_there_is(where):
    """A mitigation of the adjoint has no effective products, one of contributions has; both have factors."""
    run = dict(task=FlipFlop(length=15), batch=3, rng=2, mitigations=[ClipNorm(1e-3, where=where)])
    ds = gradsim.simulate(Elman(3, 4), record=["effective_gradient"], **run)
    assert ds.attrs["mitigations"] == f"{'contributions' if where == 'contribution' else where}: clip_norm"
    if where == "adjoint":
        with pytest.raises(InputError, match="effective_adjoint_factor"):
            gradsim.simulate(Elman(3, 4), record=["effective_product_norm"], **run)
    else:
        ds = gradsim.simulate(Elman(3, 4), record=["product_norm", "effective_product_norm"], **run)
        np.testing.assert_array_equal(ds.effective_product_norm, ds.product_norm)


def test_contributions_are_clipped_step_by_step_and_add_up():
    names = ["contribution", "effective_contribution", "effective_gradient"]
    params = ("U", "W", "b", "readout_W", "readout_b")
    run = dict(task=FlipFlop(length=15), batch=3, rng=2, record=names)
    ds = gradsim.simulate(Elman(3, 4), mitigations=[ClipNorm(0.1, where="contribution")], **run)
    raw = {n: ds[f"contribution_{n}"].values for n in params}
    factors = []
    for t in range(15):
        size = np.sqrt(sum((raw[n][t] ** 2).sum() for n in params))
        factors.append(min(1, 0.1 / size))
        for n in params:
            np.testing.assert_allclose(
                ds[f"effective_contribution_{n}"].values[t], factors[-1] * raw[n][t], rtol=1e-12, atol=1e-18
            )
    assert min(factors) < 1 == max(factors)
    for n in params:
        total = ds[f"effective_contribution_{n}"].values.sum(axis=0)
        np.testing.assert_allclose(ds[f"effective_gradient_{n}"], total, rtol=1e-10, atol=1e-16)


def by_norm(limit):
    return lambda a, t: a * np.array([[min(1, limit / np.linalg.norm(row))] for row in a])


def by_value(limit):
    return lambda a, t: np.array([[min(max(x, -limit), limit) for x in row] for row in a])


def at_edges(chunk, threshold, shrink, cap, last):
    def change(a, t):
        if t % chunk or t in (0, last):
            return a
        found = np.zeros_like(a)
        for i, row in enumerate(a):
            for part in (slice(0, 3), slice(3, 6)):
                size = np.linalg.norm(row[part])
                if size <= threshold:
                    found[i, part] = shrink * row[part] * min(1, cap / (shrink * size))
        return found

    return change


@pytest.mark.parametrize(
    ("mitigation", "change"),
    [
        (ClipNorm(0.02, where="adjoint"), by_norm(0.02)),
        (ClipValue(0.01, where="adjoint"), by_value(0.01)),
        (ClipChunkEdges(5, threshold=0.04, shrink=0.7, max_norm=0.01), at_edges(5, 0.04, 0.7, 0.01, 30)),
        (ClipChunkEdges(7, threshold=1.0, shrink=0.0), at_edges(7, -1, 0, 0, 30)),
    ],
    ids=("norm", "value", "shrunk_at_edges", "cut_at_edges"),
)
def test_clipped_adjoints_are_those_of_a_plain_loop(mitigation, change):
    record = ["adjoint", "step_jacobian", "effective_adjoint", "effective_adjoint_factor"]
    run = dict(task=FlipFlop(length=30), batch=4, rng=2, record=record)
    ds = gradsim.simulate(LSTM(3, 3), mitigations=[mitigation], **run)
    raw, jacobian = ds.adjoint.values, ds.step_jacobian.values
    carried = np.einsum("tbi,tbij->tbj", raw[1:], jacobian)
    direct = raw - np.concatenate([carried, np.zeros_like(carried[:1])])
    expected, adjoint = np.empty_like(raw), np.zeros_like(raw[0])
    for t in range(30, -1, -1):
        if t < 30:
            adjoint = np.einsum("bi,bij->bj", adjoint, jacobian[t])
        expected[t] = adjoint = change(adjoint + direct[t], t)
    np.testing.assert_allclose(ds.effective_adjoint, expected, rtol=1e-9, atol=1e-15)
    assert (ds.effective_adjoint_factor < 1).any()


def test_a_chunk_edge_of_nothing_is_truncation():
    """What drops all at every k1 steps leaves the last chunk alone, as `truncate` does."""
    run = dict(task=FlipFlop(length=20), batch=2, rng=2, record=["adjoint", "effective_adjoint"])
    ds = gradsim.simulate(Elman(3, 4), mitigations=[ClipChunkEdges(8, shrink=0.0)], **run)
    np.testing.assert_allclose(ds.effective_adjoint[17:], ds.adjoint[17:], rtol=1e-12, atol=1e-18)
    assert not ds.effective_adjoint[16].any()


@pytest.mark.parametrize("limit", [0.01, 1.0, 1e3])
def test_adaptive_clipping_by_rows(limit):
    """Row by row, the readout included; a bias as one row; zero weights by the floor."""
    cell, rng = LSTM(3, 4), np.random.default_rng(0)
    readout = {"readout_W": rng.standard_normal((3, 4)), "readout_b": np.zeros(3)}
    params = cell.init_params(rng) | readout
    run = dict(
        task=FlipFlop(length=20), batch=2, rng=0, params=params, record=["gradient", "effective_gradient"]
    )
    ds = gradsim.simulate(cell, mitigations=[ClipAdaptive(limit=limit, floor=1e-2)], **run)
    factors = []
    for name, w in params.items():
        raw, found = (ds[f"{kind}gradient_{name}"].values for kind in ("", "effective_"))
        rows = [(raw, found, w)] if w.ndim == 1 else zip(raw, found, w, strict=True)
        for g, cut, weights in rows:
            most = limit * max(np.linalg.norm(weights), 1e-2)
            factors.append(min(1, most / np.linalg.norm(g)))
            np.testing.assert_allclose(cut, factors[-1] * g, rtol=1e-12, atol=0)
    assert (min(factors) < 1) == (limit < 1e3)


def training(mitigations, updates=6, **more):
    setting = {"optimizer": SGD(learning_rate=0.05), "batch": 3, "updates": updates, "rng": 1}
    return gradsim.train(Elman(2, 4), Adding(length=20), mitigations=mitigations, **{**setting, **more})


def test_auto_clip_is_a_percentile_of_all_norms_so_far():
    ds = training([AutoClip(percentile=40.0)])
    norms = ds.train_gradient_norm.values
    limits = [np.percentile(norms[: i + 1], 40) for i in range(len(norms))]
    expected = np.minimum(1, limits / norms)
    np.testing.assert_allclose(ds.train_gradient_factor, expected, rtol=1e-12)
    assert (expected < 1).any()


def test_auto_clip_at_100_never_clips_and_at_0_takes_the_least_norm():
    norms = training([AutoClip(100.0)]).train_gradient_norm.values
    assert (training([AutoClip(100.0)]).train_gradient_factor == 1).all()
    factors = training([AutoClip(0.0)], updates=2)
    least = min(factors.train_gradient_norm.values)
    assert factors.train_gradient_factor.values[1] == pytest.approx(
        least / factors.train_gradient_norm.values[1]
    )
    assert factors.train_gradient_norm.values[0] == norms[0]


def test_a_cosine_says_what_clipping_does_to_directions():
    run = dict(task=FlipFlop(length=20), batch=3, rng=0, record=["gradient", "effective_gradient"])
    cosine = {}
    for clip in (ClipNorm(1e-3), ClipNorm(1e-3, where="parameter"), ClipValue(1e-3), ClipAdaptive()):
        ds = gradsim.simulate(LSTM(3, 4), mitigations=[clip], **run)
        cosine[repr(clip)] = float(analysis.compare_gradients(ds)["overall_cosine"])
    assert cosine[repr(ClipNorm(1e-3))] == pytest.approx(1, abs=1e-12)
    assert all(c < 0.999 for name, c in cosine.items() if name != repr(ClipNorm(1e-3)))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ClipNorm(0.0), r"ClipNorm: max_norm should be .* \(got 0.0\)"),
        (lambda: ClipNorm(where="adjoints"), r"ClipNorm: where .*adjoint"),
        (lambda: ClipValue(where="parameter"), r"ClipValue: where"),
        (lambda: ClipAdaptive(floor=0), r"ClipAdaptive: floor should be"),
        (lambda: AutoClip(101), r"AutoClip: percentile should be .* \(got 101"),
        (lambda: ClipChunkEdges(0, shrink=2), r"(?s)ClipChunkEdges: k1 .*shrink"),
    ],
)
def test_bad_parameters_are_refused(make, said):
    with pytest.raises(InputError, match=said):
        make()

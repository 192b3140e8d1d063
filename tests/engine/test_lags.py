"""The gradient by lag, and what mitigations do to it: plain loops over losses and steps, and closed forms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from sru import SRU

from gradsim import Episode, Pairs, Task, compare, prepare, simulate
from gradsim.errors import BudgetError, InputError
from gradsim.testing import conformance
from gradsim_cells import GRU, LRU, LSTM, ClockworkRNN, Elman, Linear, Stack
from gradsim_mitigations import (
    ARTBP,
    RTRL,
    Activity,
    ClipNorm,
    HDetach,
    JacobianPenalty,
    Leak,
    Truncate,
    WeightDecay,
)
from gradsim_recorders import (
    GradientBiasByLagRecorder,
    GradientByLagRecorder,
    GradientCosineByLagRecorder,
    GradientNormByLagRecorder,
)
from gradsim_tasks import FlipFlop

test_kit = conformance(
    GradientBiasByLagRecorder(),
    GradientByLagRecorder(),
    GradientCosineByLagRecorder(),
    GradientNormByLagRecorder(),
)

BY_LAG = ["gradient_by_lag", "effective_gradient_by_lag", "gradient_norm_by_lag"]
EFFECT = ["gradient_bias_by_lag", "gradient_cosine_by_lag"]


@dataclass(frozen=True, eq=False)
class Weighted(Task):
    """The loss at each step is a given weight times the sum of the outputs."""

    name = "weighted"
    inputs: np.ndarray
    weights: np.ndarray
    input_size, output_size = 3, 2

    def sample(self, rng, batch):
        return Episode(self.inputs, np.zeros((*self.weights.shape, 2)), self.weights)

    def loss(self, outputs, targets, xp):
        return outputs.sum(axis=-1)


def by_loops(params, task, k1, k2):
    """Raw and effective {name: (lag, *param)} of an Elman cell: each loss goes back step by step."""
    params = {n: p.astype(float) for n, p in params.items()}
    x, weights = task.inputs, task.weights
    steps, batch = weights.shape
    h = [np.zeros((batch, 4))]
    for t in range(steps):
        h.append(np.tanh(x[t] @ params["W"].T + h[-1] @ params["U"].T + params["b"]))
    shapes = {n: p.shape for n, p in params.items()} | {"readout_b": (2,)}
    raw, effective = ({n: np.zeros((steps + 1, *shape)) for n, shape in shapes.items()} for _ in range(2))
    for t in range(1, steps + 1):
        error = np.repeat(weights[t - 1][:, None], 2, axis=1) / batch
        end = min(k1 * -(-t // k1), steps)
        a = error @ params["readout_W"]
        for k in range(t, 0, -1):
            d = a * (1 - h[k] ** 2)
            for found in [raw, effective] if k > end - k2 else [raw]:
                found["W"][t - k] += d.T @ x[k - 1]
                found["U"][t - k] += d.T @ h[k - 1]
                found["b"][t - k] += d.sum(axis=0)
            a = d @ params["U"]
        for found in (raw, effective):
            found["readout_W"][0] += error.T @ h[t]
            found["readout_b"][0] += error.sum(axis=0)
    return raw, effective


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("steps", "batch"), [(1, 1), (1, 3), (9, 1), (9, 3)])
@pytest.mark.parametrize(("k1", "k2"), [(1, 3), (4, 6)])
def test_each_loss_goes_back_by_itself(dtype, steps, batch, k1, k2, rng):
    task = Weighted(rng.standard_normal((steps, batch, 3)), rng.random((steps, batch)))
    how = {"task": task, "batch": batch, "mitigations": [Truncate(k1, k2)], "dtype": dtype}
    simulation = prepare(Elman(3, 4), record=[*BY_LAG, *EFFECT], **how)
    ds = simulation.run()
    raw, effective = by_loops(simulation.setup.all_params, task, k1, k2)
    tolerance = 1e-12 if dtype == "float64" else 1e-5
    np.testing.assert_array_equal(ds.lag, np.arange(steps + 1))
    for n in raw:
        for flow, expected in (("", raw), ("effective_", effective)):
            found = ds[f"{flow}gradient_by_lag_{n}"]
            assert found.dtype == dtype
            np.testing.assert_allclose(found, expected[n], rtol=tolerance, atol=tolerance)
        one, other = (x[n].reshape(steps + 1, -1) for x in (raw, effective))
        size, away = np.linalg.norm(one, axis=1), np.linalg.norm(other - one, axis=1)
        at = {"param": n}
        np.testing.assert_allclose(ds.gradient_norm_by_lag.sel(at), size, rtol=tolerance, atol=tolerance)
        bias = np.divide(away, size, out=np.zeros_like(size), where=size > 0)
        np.testing.assert_allclose(ds.gradient_bias_by_lag.sel(at), bias, atol=10 * tolerance)
        with np.errstate(invalid="ignore"):
            cosine = np.vecdot(one, other) / size / np.linalg.norm(other, axis=1)
        np.testing.assert_allclose(ds.gradient_cosine_by_lag.sel(at), cosine, atol=10 * tolerance)


@pytest.mark.parametrize("cell", [LSTM(3, 4), LRU(3, 4), SRU(3)], ids=lambda c: c.name)
@pytest.mark.parametrize("task", [FlipFlop(length=12), None], ids=["all losses", "last loss"])
def test_truncation_keeps_short_lags_and_drops_long_ones(cell, task, rng):
    how = {"task": task, "batch": 2} if task else {"inputs": rng.standard_normal((12, 2, 3))}
    ds = simulate(cell, **how, mitigations=[Truncate(1, 5)], record=[*BY_LAG, *EFFECT])
    there = ds.gradient_norm_by_lag > 0
    np.testing.assert_array_equal(ds.gradient_bias_by_lag, there & (ds.lag >= 5))
    np.testing.assert_allclose(ds.gradient_cosine_by_lag.values[(there & (ds.lag < 5)).values], 1, rtol=1e-14)
    assert ds.gradient_cosine_by_lag.where(ds.lag >= 5).isnull().all()
    assert there.sel(lag=slice(None, 11)).any("param").all()
    assert not there.sel(lag=12).any()


def test_a_geometric_sum_has_known_parts():
    """h_t = w h_{t-1} + 1 with the loss h_T: lag l has w^l h_{T-l-1} of dh_T/dw."""
    w, steps = 0.9, 30
    params = {"W": np.ones((1, 1)), "U": np.full((1, 1), w)}
    record = ["gradient_by_lag", "gradient_norm_by_lag"]
    ds = simulate(Linear(1, 1), np.ones((steps, 1, 1)), params=params, record=record)
    lags = np.arange(steps)
    expected = w**lags * (1 - w ** (steps - 1 - lags)) / (1 - w)
    np.testing.assert_allclose(ds.gradient_by_lag_U[:-1, 0, 0], expected, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(ds.gradient_by_lag_W[:-1, 0, 0], w**lags, rtol=1e-12)


@pytest.mark.filterwarnings("ignore::gradsim.errors.OutOfRangeWarning")
@pytest.mark.parametrize("power", [-290, -100, 100, 290])
@pytest.mark.parametrize(("reach", "beyond"), [(3, 1), (40, 0)])
def test_sizes_beyond_the_range_are_known(power, reach, beyond):
    """With h = 0 all along, dh_T/db is the sum of U^l over lags."""
    params = {"W": np.zeros((1, 1)), "U": np.full((1, 1), 10.0**power), "b": np.zeros(1)}
    how = {"params": params, "mitigations": [Truncate(1, reach)]}
    record = ["gradient_norm_by_lag", "effective_gradient_norm_by_lag", "gradient_bias_by_lag"]
    ds = simulate(Elman(1, 1), np.zeros((20, 1, 1)), record=record, **how).sel(param="b", lag=slice(0, 19))
    np.testing.assert_allclose(ds.gradient_norm_by_lag_log10, power * np.arange(20), rtol=1e-12, atol=1e-12)
    cut = ds.lag >= reach
    assert (np.isneginf(ds.effective_gradient_norm_by_lag_log10) == cut).all()
    np.testing.assert_array_equal(ds.gradient_bias_by_lag, cut)
    assert float(cut.max()) == beyond


LINEAR = {
    "none": [],
    "truncated": [Truncate(2, 5)],
    "cut at random": [ARTBP(length=3)],
    "cut and truncated": [ARTBP(length=3), Truncate(3, 6)],
    "penalties": [JacobianPenalty(0.1), Activity(0.3), WeightDecay(0.1), Truncate(1, 4)],
    "leaking": [Leak(0.3), Truncate(1, 4)],
}
CELLS = [Elman(3, 4), GRU(3, 4), LRU(3, 4), ClockworkRNN(3, 4), SRU(3), Stack((LSTM(3, 3), Elman(3, 2)))]


@pytest.mark.parametrize("mitigations", LINEAR.values(), ids=list(LINEAR))
@pytest.mark.parametrize("cell", CELLS, ids=lambda c: c.name)
def test_lags_sum_to_the_gradient(cell, mitigations):
    how = {"task": FlipFlop(length=14), "batch": 2, "mitigations": mitigations}
    ds = simulate(cell, record=["gradient", "effective_gradient", *BY_LAG], **how)
    for flow in ("", "effective_"):
        names = [n for n in ds.data_vars if n.startswith(f"{flow}gradient_by_lag_")]
        assert names
        for name in names:
            whole = ds[name.replace("_by_lag", "")]
            assert float(abs(ds[name].sum("lag") - whole).max()) < 1e-12 * float(abs(whole).max() + 1e-3)


def test_paths_that_are_detached_are_split_by_lag():
    """h_detach changes what carries adjoints, by step and sequence."""
    how = {"task": FlipFlop(length=14), "batch": 3, "mitigations": [HDetach(0.5)]}
    ds = simulate(LSTM(3, 4), record=["effective_gradient", *BY_LAG, *EFFECT], **how)
    for n in ("W", "U", "b"):
        by_lag = ds[f"effective_gradient_by_lag_{n}"].sum("lag")
        np.testing.assert_allclose(by_lag, ds[f"effective_gradient_{n}"], atol=1e-13)
    assert float(ds.overall_gradient_bias_by_lag[0]) == 0
    assert (ds.overall_gradient_bias_by_lag[1:-1] > 0).all()


def test_chosen_lags_are_those_among_all(rng):
    how = {"inputs": rng.standard_normal((20, 2, 3)), "mitigations": [Truncate(2, 4)]}
    every = simulate(GRU(3, 4), record=[*BY_LAG, *EFFECT], **how)
    for pairs in (Pairs(lags=(0, 3, 17)), Pairs(max_lag=5), Pairs(times=(-1,), sources=(4,))):
        some = simulate(GRU(3, 4), record=[*BY_LAG, *EFFECT], pairs=pairs, **how)
        for name in some.data_vars:
            np.testing.assert_array_equal(some[name], every[name].sel(lag=some.lag), err_msg=name)


@pytest.mark.parametrize(
    ("mitigation", "why"),
    [
        (ClipNorm(where="adjoint"), "a mitigation that changes the adjoint itself, which is not linear"),
        (ClipNorm(where="contribution"), "clip_norm, which changes what a step adds to the gradient"),
        (ClipNorm(), "clip_norm, which changes the gradient as a whole, whatever the lag"),
        (RTRL(), "the rule rtrl, which makes the gradient without a backward pass"),
    ],
    ids=lambda x: repr(x) if not isinstance(x, str) else "",
)
def test_what_sees_no_lags_is_refused(mitigation, why, rng):
    how = {"inputs": rng.standard_normal((5, 1, 3)), "mitigations": [mitigation]}
    for name in (*EFFECT, "effective_gradient_by_lag", "effective_gradient_norm_by_lag"):
        with pytest.raises(InputError, match=f"{name} does not exist (with|under) {why}"):
            simulate(Elman(3, 4), record=[name], **how)
    simulate(Elman(3, 4), record=["gradient_by_lag"], **how)  # the exact one is there


def test_a_comparison_has_nothing_where_there_are_no_lags(rng):
    how = {"inputs": rng.standard_normal((8, 2, 3)), "seeds": 1, "pairs": Pairs(max_lag=4)}
    ds = compare([Elman(3, 4)], mitigations=[Truncate(1, 2), ClipNorm()], record=["loss", *EFFECT], **how)
    bias = ds.overall_gradient_bias_by_lag.sel(cell="elman", seed=0)
    assert bias.dims == ("mitigation", "lag")
    np.testing.assert_array_equal(bias.sel(mitigation="truncate"), [0, 0, 1, 1, 1])
    assert bias.sel(mitigation="clip_norm").isnull().all()
    assert (bias.sel(mitigation="none") == 0).all()


def test_what_does_not_fit_is_refused_before_it_runs(rng):
    cell, how = LSTM(3, 64), {"inputs": rng.standard_normal((400, 1, 3)), "record": ["gradient_norm_by_lag"]}
    with pytest.raises(BudgetError, match=r"lags at work alone takes [^;]*; name few lags"):
        simulate(cell, **how, memory=2**24)
    plan, few = (prepare(cell, **how, pairs=pairs).plan for pairs in (Pairs(), Pairs(lags=(1, 10))))
    assert few.memory()["gradients by lag"] == pytest.approx(2 / 401 * plan.memory()["gradients by lag"])
    assert 0 < few.flops()["lags"] < plan.flops()["lags"] / 20

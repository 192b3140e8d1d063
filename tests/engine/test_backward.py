"""The backward pass: conservation identities, finite differences, truncation."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import pytest
from helpers import loss_of, numerical_gradient
from sru import SRU

import gradsim
from gradsim import Cell, Episode, Task, Trajectory
from gradsim.contracts.trajectory import PulledByVjp
from gradsim.errors import OutOfRangeWarning, PluginError
from gradsim.numerics.blocks import dense_blocks
from gradsim_cells import GRU, LRU, LSTM, Elman, Linear, MinGRU
from gradsim_mitigations import ClipNorm, Truncate
from gradsim_tasks import Sunspots

CELLS = {
    "linear": Linear(1, 4),
    "elman": Elman(1, 5),
    "elman_logistic": Elman(1, 5, activation="logistic"),
    "gru": GRU(1, 3),
    "gru_reset_before": GRU(1, 3, reset_after=False),
    "lstm": LSTM(1, 3),
    "min_gru": MinGRU(1, 4),
    "lru": LRU(1, 3),
    "output": SRU(1),
}
each_cell = pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS.keys())


@each_cell
def test_gradient_is_the_sum_of_contributions_and_the_slope_of_the_loss(cell):
    setting = {"task": Sunspots(length=15), "batch": 2, "rng": 5}
    ds = gradsim.simulate(cell, record=["gradient", "contribution", "gradient_norm"], **setting)
    names = [str(n) for n in ds.param.values]
    assert {"readout_W", "readout_b"} < set(names)
    for name in names:
        total = ds[f"contribution_{name}"].sum("step")
        np.testing.assert_allclose(total, ds[f"gradient_{name}"], rtol=1e-11, atol=1e-14)
    params = cell.init_params(np.random.default_rng(0))
    ds = gradsim.simulate(cell, params=params, record=["gradient"], **setting)
    for name in params:
        expected = numerical_gradient(lambda p: loss_of(cell, p, **setting), params, name)
        np.testing.assert_allclose(ds[f"gradient_{name}"], expected, rtol=2e-6, atol=1e-9)


@each_cell
@pytest.mark.parametrize("truncation", [None, (1, 4), (3, 3), (2, 5), (4, 6)])
def test_adjoint_is_the_sum_over_losses(cell, truncation):
    """a_k = sum over t >= k of q_t P(t, k), raw and effective."""
    mitigations = [] if truncation is None else [Truncate(*truncation)]
    names = ["adjoint", "jacobian_product", "gradient", "contribution"]
    ds = gradsim.simulate(
        cell,
        task=Sunspots(length=10),
        batch=2,
        mitigations=mitigations,
        initial_state=0.3 * np.ones(cell.state_size),
        record=[*names, *(f"effective_{n}" for n in names)],
    )
    direct = direct_adjoints(ds)
    for prefix in ("", "effective_"):
        p = ds[prefix + "jacobian_product"].values
        p = dense_blocks(p if p.ndim == 6 else p[:, :, :, None])
        p = np.where(np.isnan(p), 0, p)
        expected = np.einsum("tbi,tkbij->kbj", direct, p)
        np.testing.assert_allclose(ds[prefix + "adjoint"], expected, rtol=1e-9, atol=1e-13)
        for name in cell.init_params(np.random.default_rng(0)):
            total = ds[f"{prefix}contribution_{name}"].sum("step")
            np.testing.assert_allclose(total, ds[f"{prefix}gradient_{name}"], rtol=1e-10, atol=1e-13)


def direct_adjoints(ds):
    """q_t = dL_t/ds_t: the adjoint at t less what the step Jacobian carries there, by its closed form."""
    raw = ds.adjoint.values
    p = ds.jacobian_product.values
    p = dense_blocks(p if p.ndim == 6 else p[:, :, :, None])
    carried = np.stack([np.einsum("bi,bij->bj", raw[t + 1], p[t + 1, t]) for t in range(len(raw) - 1)])
    return np.concatenate((raw[:-1] - carried, raw[-1:]))


def test_loss_rows_are_the_parts_of_the_adjoint():
    """||dL_t/ds_k|| against the products, on a loss at every step."""
    cell = GRU(1, 4)
    ds = gradsim.simulate(
        cell, task=Sunspots(length=12), batch=2, record=["loss_adjoint_norm", "adjoint", "jacobian_product"]
    )
    direct = direct_adjoints(ds)
    p = ds.jacobian_product.values
    for t, k in [(12, 0), (7, 7), (9, 2)]:
        expected = np.linalg.norm(np.einsum("bi,bij->bj", direct[t], p[t, k]), axis=-1)
        np.testing.assert_allclose(ds.loss_adjoint_norm[t, k], expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("k", "bias"), [(5, 0.5791338849356), (10, 0.3318301646945), (20, 0.1027139063196), (50, 0.0)]
)
def test_truncation_bias_in_closed_form(k, bias):
    """h_t = w h_{t-1} + 1, L = h_T: dL/dw = sum of j w^(j-1), of which truncation keeps the last k terms."""
    params = {"U": [[0.9]], "W": [[1.0]]}
    ds = gradsim.simulate(
        Linear(1, 1),
        np.ones((50, 1, 1)),
        params=params,
        mitigations=[Truncate(k1=k, k2=k)],
        record=["gradient", "effective_gradient"],
    )
    assert ds.gradient_U.item() == pytest.approx(96.62141403075682, rel=1e-12)
    relative = 1 - ds.effective_gradient_U.item() / ds.gradient_U.item()
    assert relative == pytest.approx(bias, abs=1e-10)


def test_second_order_closed_form_of_a_scalar_chain():
    """dx_T/dw = T x_0 w^(T-1) (Pascanu, Mikolov & Bengio 2013, section 2.3)."""
    params = {"U": [[1.05]], "W": [[0.0]]}
    ds = gradsim.simulate(
        Linear(1, 1), np.zeros((50, 1, 1)), params=params, initial_state=[0.7], record=["gradient"]
    )
    assert ds.gradient_U.item() == pytest.approx(382.24665952512333, rel=1e-12)


@pytest.mark.parametrize("windows", [(1, 1), (7, 7), (1, 60), (20, 30)])
def test_truncation_matches_detached_passes(windows, rng):
    """TBPTT(k1, k2) written out: one backward pass a window, from a detached state."""
    k1, k2 = windows
    cell, task = Elman(1, 4), Sunspots(length=60)
    ds = gradsim.simulate(
        cell,
        task=task,
        mitigations=[Truncate(k1, k2)],
        record=["adjoint", "step_jacobian", "effective_adjoint", "jacobian_product"],
    )
    q = direct_adjoints(ds)[:, 0]
    jacobians = ds.step_jacobian.values[:, 0]
    total = np.zeros_like(q)
    for end in sorted({*range(k1, 61, k1), 60}):
        begin = (end - 1) // k1 * k1
        a = np.zeros(4)
        for t in range(end, max(end - k2, 0), -1):
            a = a + q[t] * (t > begin)
            total[t] += a
            a = a @ jacobians[t - 1]
        if end - k2 + 1 <= 0:
            total[0] += a
    np.testing.assert_allclose(ds.effective_adjoint[:, 0], total, rtol=1e-10, atol=1e-14)


def test_an_exploding_adjoint_stays_exact_and_clipping_tames_it(rng):
    q, _ = np.linalg.qr(rng.standard_normal((4, 4)))
    params = {"U": 4 * q, "W": np.zeros((4, 1))}
    with pytest.warns(OutOfRangeWarning, match=r"adjoint \(1553 of 3604, float64\)"):
        ds = gradsim.simulate(
            Linear(1, 4),
            np.zeros((900, 1, 1)),
            params=params,
            mitigations=[ClipNorm(1.0, where="adjoint")],
            record=["adjoint", "adjoint_norm", "effective_adjoint_norm", "effective_adjoint_factor"],
        )
    expected = np.log10(2) + np.log10(4) * np.arange(900, -1, -1)
    np.testing.assert_allclose(ds.adjoint_norm_log10[:, 0], expected, rtol=1e-11)
    np.testing.assert_allclose(ds.effective_adjoint_norm[:, 0], 1, rtol=1e-12)
    np.testing.assert_allclose(ds.effective_adjoint_factor[:-1, 0], 1 / 4, rtol=1e-12)
    assert ds.effective_adjoint_factor[-1, 0] == pytest.approx(1 / 2)


@dataclass(frozen=True, eq=False)
class Weighted(Task):
    """The same input all the time; the loss is the output times given weights (step, batch)."""

    name = "weighted"
    weights: np.ndarray
    input: float = 0.0
    input_size = output_size = 1

    def sample(self, rng, batch):
        none = np.zeros((*self.weights.shape, 1))
        return Episode(none + self.input, none, self.weights)

    def loss(self, outputs, targets, xp):
        return outputs[..., 0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("octaves", [-20, 20])
@pytest.mark.parametrize(
    "losses", [[(120, 59), (120, 59)], [(118, 3), (60,)], [(120, 119, 117, 40, 38, 1), ()]], ids=str
)
def test_losses_at_a_few_steps_keep_their_size_in_between(dtype, octaves, losses):
    """What one says of states long before leaves the range, until another comes in; none is lost."""
    weights = np.zeros((120, 2))
    for b, at in enumerate(losses):
        weights[np.array(at, dtype=int) - 1, b] = 2.0 ** -np.arange(len(at))
    params = {"U": [[2.0**octaves]], "W": [[1.0]], "readout_W": [[1.0]], "readout_b": [0.0]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutOfRangeWarning)
        ds = gradsim.simulate(
            Linear(1, 1),
            task=Weighted(weights),
            batch=2,
            params=params,
            dtype=dtype,
            record=["adjoint_norm", "adjoint"],
        )
    for b in range(2):
        exact = [
            sum(
                Fraction(2) ** (octaves * (s - t)) * Fraction(weights[s - 1, b]) / 2
                for s in range(max(t, 1), 121)
            )
            for t in range(121)
        ]
        log2 = [math.log2(x.numerator) - math.log2(x.denominator) if x else -math.inf for x in exact]
        found = ds.adjoint_norm_log10[:, b].values / np.log10(2)
        np.testing.assert_allclose(found, log2, rtol=1e-6 if dtype == "float32" else 1e-13, atol=1e-6)
        # In plain numbers too small is zero.
        with np.errstate(over="ignore", under="ignore"):
            plain = np.exp2(np.array(log2)).astype(dtype)
        np.testing.assert_allclose(ds.adjoint[:, b, 0], plain, rtol=1e-5, atol=np.finfo(dtype).tiny)


class Own(Trajectory):
    """Pulls as the cell tells it; counts the steps that it has been pulled through."""

    def pull(self, incoming, direct):
        pulled = self.cell.kind(super(), incoming, direct)
        self.cell.through.append(len(pulled.adjoints) - 1)
        return pulled


def stops(steps, incoming, direct):
    return steps.pull(incoming, direct)


def goes_on(steps, incoming, direct):
    """To the first step, whatever becomes of the adjoints."""
    adjoints = [incoming]
    for row in range(len(direct) - 1, -1, -1):
        adjoints.append(steps.pull_one(row, adjoints[-1]) + direct[row])
    return PulledByVjp(steps.__self__, np.array(adjoints[::-1]))


def stops_soon(steps, incoming, direct):
    """After three steps, for no reason."""
    last = steps.__self__[steps.__self__.steps[-3:]]
    return PulledByVjp(last, Trajectory.pull(last, incoming, direct[-3:]).adjoints)


@dataclass(frozen=True, eq=False)
class Pulls(Elman):
    """Elman, taken step by step and pulled in a way of one's own."""

    kind: Callable = stops
    through: list = field(default_factory=list)

    def unroll(self, params, state, inputs, step_data, parallel):
        taken = Cell.unroll(self, params, state, inputs, step_data, parallel)
        return Own(self, params, taken.states, inputs, step_data)


@pytest.mark.parametrize("scale", [0.2, 1.0, 4.0])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("losses", [[60, 119], range(120)], ids=len)
def test_a_pull_may_stop_where_it_likes(dtype, scale, losses):
    weights = np.zeros((120, 3))
    weights[losses] = 1.0
    weights[119, 1] = 0.0
    found = []
    for kind in (stops, goes_on, stops_soon):
        cell = Pulls(1, 6, recurrent_scale=scale, kind=kind)
        record = ["adjoint_norm", "contribution_norm", "gradient_norm", "gradient"]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OutOfRangeWarning)
            ds = gradsim.simulate(cell, task=Weighted(weights, 0.5), batch=3, dtype=dtype, record=record)
        found.append(ds)
        if kind is stops:
            assert sum(cell.through) < 180  # little is pulled twice
    for other in found[1:]:
        for name in found[0].data_vars:
            close = {"float32": 1e-5, "float64": 1e-13}[dtype]
            np.testing.assert_allclose(other[name], found[0][name], rtol=close, atol=close, err_msg=name)


@pytest.mark.parametrize("rows", [0, 1, 13])
def test_a_pull_that_gives_adjoints_of_steps_that_are_none_is_refused(rows):
    def astray(steps, incoming, direct):
        pulled = steps.pull(incoming, direct)
        if len(direct) < 10:  # where it is tried
            return pulled
        return PulledByVjp(pulled.trajectory, np.resize(pulled.adjoints, (rows, *incoming.shape)))

    with pytest.raises(
        PluginError, match=rf"pull\(\).* shape \({rows}, 2, 6\).* for the last k of the steps"
    ):
        gradsim.simulate(Pulls(1, 6, kind=astray), np.ones((11, 2, 1)), record=["adjoint"])


def halving(steps, first, dtype, record, each=0.0):
    """h_t = (h_{t-1} + input) / 2 in one unit, whose last state is the loss: dL/dh_t = 2^(t - T)."""
    weights = np.zeros((steps, 1))
    weights[-1] = 1.0
    params = {"U": [[0.5]], "W": [[0.5]], "readout_W": [[1.0]], "readout_b": [0.0]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutOfRangeWarning)
        return gradsim.simulate(
            Linear(1, 1),
            task=Weighted(weights, each),
            batch=1,
            params=params,
            dtype=dtype,
            initial_state=[first],
            record=record,
        )


@pytest.mark.parametrize(("dtype", "size"), [("float32", -100), ("float64", -750)])
def test_small_adjoints_contribute_by_small_states(dtype, size):
    """The state remains 2^size, while the adjoint vanishes; so do both, their product is still seen."""
    steps = 1 - size
    ds = halving(steps, 2.0**size, dtype, ["contribution_norm"], 2.0**size)
    found = ds.contribution_norm_log10.sel(param="U") / np.log10(2)
    np.testing.assert_allclose(found, size - np.arange(steps)[::-1], rtol=1e-6)


def test_a_gradient_has_all_that_small_adjoints_of_small_states_contribute():
    """Each step contributes as much, be its state the small one or its adjoint."""
    ds = halving(200, 1 / 3, "float32", ["state", "gradient_norm"])
    states = ds.state.values[:-1, 0, 0].astype(float)
    expected = (2.0 ** np.arange(-199.0, 1.0) * states).sum()
    np.testing.assert_allclose(ds.gradient_norm.sel(param="U"), expected, rtol=0.01)


@dataclass(frozen=True, eq=False)
class Far(Task):
    """A loss at the last step alone, whose slope is 2**22 for each unit."""

    name = "far"
    readout = False
    input_size = 1
    output_size = None

    def sample(self, rng, batch):
        weights = np.array([0.0, 0.0, 1.0])[:, None] * np.ones((3, batch))
        return Episode(np.zeros((3, batch, 1)), np.full((3, batch, 2), -(2.0**22)), weights)

    def loss(self, outputs, targets, xp):
        return gradsim.squared_error(outputs, targets, xp)


@pytest.mark.filterwarnings("ignore::gradsim.errors.OutOfRangeWarning")  # the sizes are in the log10 twin
@pytest.mark.parametrize(("dtype", "power"), [("float32", 120), ("float64", 1010)])
def test_a_large_adjoint_and_a_large_derivative_are_multiplied_all_the_same(dtype, power):
    cell = Linear(1, 2)
    params = {"U": 2.0**power * np.eye(2), "W": np.zeros((2, 1))}
    found = gradsim.simulate(cell, task=Far(), params=params, record=["adjoint_norm"], dtype=dtype)
    sizes = found.adjoint_norm_log10.isel(batch=0).values
    np.testing.assert_allclose(sizes, math.log10(2) * (22.5 + power * np.array([3, 2, 1, 0])), rtol=1e-6)

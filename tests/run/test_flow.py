"""Losses that reach differently far: in one go where that is possible, with the same adjoints."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

import gradsim
from gradsim import Mitigation, Penalty, hookimpl
from gradsim.contracts.hooks import RunHooks
from gradsim.engine import segments
from gradsim.errors import GradsimError
from gradsim.run import flow
from gradsim_cells import GRU, LRU, LSTM, Elman, Linear, MinGRU
from gradsim_mitigations import ClipNorm, ClipValue, JacobianPenalty, Leak, Truncate, WeightDecay
from gradsim_tasks import FlipFlop

RECORD = ["effective_adjoint", "effective_gradient"]


class ReadingTruncate(Truncate):
    """The same, by way of step Jacobians."""

    name = "reading_truncate"

    @hookimpl(wrapper=True)
    def gradsim_jacobians(self, jacobians, draws):
        result = yield
        steps = jacobians.steps
        ends = np.minimum(-(-np.array(steps) // self.k1) * self.k1, draws[self]["last"])
        return gradsim.Jacobians(steps, jacobians.blocks, np.maximum(result.reach, ends - self.k2 + 1))


@pytest.mark.parametrize("cell", [LSTM(3, 4), MinGRU(3, 5)], ids=lambda c: c.name)
@pytest.mark.parametrize("truncation", [(20, 20), (25, 25), (20, 40), (30, 70), (1, 9), (7, 7), (400, 400)])
def test_windows_are_those_of_step_jacobians(cell, truncation):
    def run(mitigation):
        return gradsim.simulate(
            cell, task=FlipFlop(length=300), batch=2, mitigations=[mitigation], record=RECORD, rng=3
        )

    quick, slow = run(Truncate(*truncation)), run(ReadingTruncate(*truncation))
    for name in quick.data_vars:
        np.testing.assert_allclose(quick[name], slow[name], rtol=1e-9, atol=1e-13, err_msg=name)


def test_losses_may_reach_no_state_at_all():
    @dataclass(frozen=True, eq=False)
    class Late(Mitigation):
        """Losses before the last step are left out."""

        name = "late"

        @hookimpl(wrapper=True)
        def gradsim_jacobians(self):
            jacobians = yield
            steps = np.array(jacobians.steps)
            return jacobians.reaching(np.where(steps < 30, steps + 1, 0))

    setting = dict(task=FlipFlop(length=30), batch=2, rng=3)
    found = gradsim.simulate(
        LSTM(3, 4), mitigations=[Late()], record=["effective_adjoint", "loss_adjoint_norm"], **setting
    )
    # What is left is the adjoint of the last loss: norms of its rows are there without any mitigation.
    norms = np.linalg.norm(found.effective_adjoint.sel(time=slice(0, 29)), axis=-1)
    rows = found.loss_adjoint_norm.sel(time=30, source=slice(0, 29))
    np.testing.assert_allclose(norms, rows, rtol=1e-10)


class NotMade(GradsimError):
    """A step Jacobian was made."""


def test_truncation_alone_makes_no_step_jacobian(monkeypatch):
    def refuse(trajectory):
        raise NotMade

    monkeypatch.setattr(flow, "_step_jacobian", refuse)
    setting = dict(task=FlipFlop(length=100), batch=2, record=RECORD)
    gradsim.simulate(LSTM(3, 4), mitigations=[Truncate(20, 20)], **setting)
    with pytest.raises(NotMade):
        gradsim.simulate(LSTM(3, 4), mitigations=[ReadingTruncate(20, 20)], **setting)


def test_a_mitigation_may_read_what_truncation_left():
    @dataclass(frozen=True, eq=False)
    class Halved(Mitigation):
        name = "halved"

        @hookimpl(wrapper=True)
        def gradsim_jacobians(self):
            jacobians = yield
            return jacobians.changed(lambda blocks: blocks / 2)

    setting = dict(task=FlipFlop(length=60), batch=2, record=["effective_product_norm"])
    ds = gradsim.simulate(MinGRU(3, 4), mitigations=[Truncate(10, 10), Halved()], **setting)
    raw = gradsim.simulate(MinGRU(3, 4), task=FlipFlop(length=60), batch=2, record=["product_norm"])
    inside, beyond = dict(time=20, source=15), dict(time=20, source=9)
    np.testing.assert_allclose(ds.effective_product_norm.sel(inside), raw.product_norm.sel(inside) / 2**5)
    assert (ds.effective_product_norm.sel(beyond) == 0).all()


def test_changed_step_jacobians_beyond_the_range_are_those_of_their_steps():
    @dataclass(frozen=True, eq=False)
    class Scaled(Mitigation):
        """Step Jacobian s times 2^(s mod 7)."""

        name = "scaled"

        @hookimpl(wrapper=True)
        def gradsim_jacobians(self):
            jacobians = yield
            scale = 2.0 ** (np.array(jacobians.steps) % 7)
            return jacobians.changed(lambda blocks: scale[:, None, None, None, None] * blocks)

    steps = 200
    ds = gradsim.simulate(
        Linear(1, 1),
        np.zeros((steps, 1, 1)),
        params={"U": np.ones((1, 1)), "W": np.ones((1, 1))},
        mitigations=[Scaled()],
        record=["effective_adjoint_norm"],
        dtype="float32",
    )
    powers = np.append(np.cumsum(np.arange(steps, 0, -1) % 7)[::-1], 0)
    assert powers[0] > 128
    np.testing.assert_allclose(ds.effective_adjoint_norm_log10[:, 0], powers * np.log10(2), rtol=1e-6)


@dataclass(frozen=True, eq=False)
class Once(Mitigation):
    """What comes by, times 1, and a penalty times 0."""

    name = "once"

    @hookimpl(wrapper=True)
    def gradsim_jacobians(self):
        jacobians = yield
        return jacobians.changed(lambda blocks: 1.0 * blocks)

    @hookimpl(wrapper=True)
    def gradsim_contributions(self):
        contributions = yield
        return {n: 1.0 * x for n, x in contributions.items()}

    @hookimpl(wrapper=True)
    def gradsim_gradient(self):
        gradient = yield
        return {n: 1.0 * x for n, x in gradient.items()}

    @hookimpl(wrapper=True)
    def gradsim_penalty(self, trajectory, params):
        penalty = yield
        slopes = {n: np.ones_like(p) for n, p in params.items()}
        return penalty + 0.0 * Penalty(3.0, slopes, np.ones_like(trajectory.states))


@dataclass(frozen=True, eq=False)
class AdjointOnce(Mitigation):
    """The adjoint times 1; notes the times at which it is asked."""

    name = "adjoint_once"
    asked: list = field(default_factory=list)

    @hookimpl(wrapper=True)
    def gradsim_adjoint(self, adjoint, time):
        self.asked.append(time)
        return 1.0 * (yield)


NEUTRAL = {
    "truncate": lambda: Truncate(100, 100),
    "truncate_each_loss": lambda: Truncate(7, 100),
    "clip_adjoint": lambda: ClipNorm(1e9, where="adjoint"),
    "clip_norm": lambda: ClipNorm(1e30),
    "clip_value": lambda: ClipValue(1e30),
    "weight_decay": lambda: WeightDecay(0.0, 0.0),
    "jacobian_penalty": lambda: JacobianPenalty(0.0),
    "leak": lambda: Leak(1.0),
    "once": Once,
    "adjoint_once": AdjointOnce,
}
BACK = ["adjoint", "adjoint_norm", "contribution", "contribution_norm", "gradient", "gradient_norm"]
LINEAR = ["step_jacobian", "product_norm", "product_spectrum", "lyapunov", "loss_adjoint_norm"]


@pytest.mark.parametrize("neutral", NEUTRAL)
@pytest.mark.parametrize("scale", [0.05, 1.0, 3.0])
@pytest.mark.parametrize(
    "cell", [Elman(3, 8), GRU(3, 5), LSTM(3, 4), MinGRU(3, 6), LRU(3, 4)], ids=lambda c: c.name
)
def test_a_neutral_setting_leaves_every_bit_alone(cell, scale, neutral, monkeypatch):
    """In several segments, each of several parts; also of adjoints that leave the range of float32."""
    monkeypatch.setattr(segments, "_STATE_BYTES", 1)
    monkeypatch.setattr(segments, "_JACOBIAN_BYTES", 3000)
    mitigation = NEUTRAL[neutral]()
    record = BACK if "adjoint" in RunHooks([mitigation]).phases else BACK + LINEAR
    weights = cell.recurrent_weights
    params = {
        n: p * (scale if n in weights else 1) for n, p in cell.init_params(np.random.default_rng(0)).items()
    }
    setting = dict(task=FlipFlop(length=60), batch=3, rng=1, dtype="float32", params=params)
    ds = gradsim.simulate(
        cell, mitigations=[mitigation], record=[*record, *(f"effective_{n}" for n in record)], **setting
    )
    without = gradsim.simulate(cell, record=record, **setting)
    for name, raw in without.data_vars.items():
        for found in (ds[name], ds[f"effective_{name}"]):
            assert found.values.tobytes() == raw.values.tobytes(), found.name
    # The gradient alone is added up in another way than from contributions.
    alone = gradsim.simulate(
        cell, mitigations=[mitigation], record=["gradient", "effective_gradient"], **setting
    )
    for name in (n for n in alone if n.startswith("gradient_")):
        assert alone[name].values.tobytes() == alone[f"effective_{name}"].values.tobytes(), name


def test_mitigations_of_the_adjoint_are_asked_once_at_each_time():
    """Of losses in all ranges, of steps that go in one go, and where another one begins to act."""
    setting = dict(task=FlipFlop(length=50), batch=2, record=["effective_adjoint_factor"])
    for others in ([], [ClipNorm(1e-3, where="adjoint")], [Truncate(7, 20)]):
        once = AdjointOnce()
        ds = gradsim.simulate(LSTM(3, 4), mitigations=[once, *others], **setting)
        assert list(dict.fromkeys(once.asked)) == list(range(50, -1, -1))
        assert len(once.asked) == 51 or isinstance(others[0], Truncate)
        assert (ds.effective_adjoint_factor == 1).all() == (not others or isinstance(others[0], Truncate))


def test_a_factor_on_nothing_is_infinite_where_something_is_made_of_it():
    @dataclass(frozen=True, eq=False)
    class Noise(Mitigation):
        name = "noise"

        @hookimpl(wrapper=True)
        def gradsim_adjoint(self, adjoint, time):
            return (yield) + (time == 2)

        @hookimpl(wrapper=True)
        def gradsim_gradient(self):
            gradient = yield
            return {n: g + 1 for n, g in gradient.items()}

    params = {"U": np.zeros((1, 1)), "W": np.zeros((1, 1))}
    record = ["effective_adjoint_factor", "effective_gradient_factor"]
    ds = gradsim.simulate(
        Linear(1, 1), np.zeros((3, 1, 1)), params=params, mitigations=[Noise()], record=record
    )
    np.testing.assert_array_equal(ds.effective_adjoint_factor[:, 0], [1, 1, np.inf, 1])
    assert ds.effective_gradient_factor == np.inf


def test_results_of_mitigations_are_rounded_to_the_dtype_of_the_run():
    """Whatever a hook computes in, the gradient and its factor are those of float32."""

    @dataclass(frozen=True, eq=False)
    class Wide(Mitigation):
        name = "wide"

        @hookimpl(wrapper=True)
        def gradsim_adjoint(self):
            return np.float64(1 / 3) * (yield).astype(np.float64)

        @hookimpl(wrapper=True)
        def gradsim_contributions(self):
            contributions = yield
            return {n: x.astype(np.float64) / 3 for n, x in contributions.items()}

        @hookimpl(wrapper=True)
        def gradsim_gradient(self):
            gradient = yield
            for value in gradient.values():
                assert value.dtype == np.float32
            return {n: x.astype(np.float64) / 3 for n, x in gradient.items()}

        @hookimpl(wrapper=True)
        def gradsim_penalty(self, params):
            penalty = yield
            return penalty + Penalty(0.1, {n: np.full(p.shape, 1 / 3) for n, p in params.items()})

    record = [
        "effective_gradient",
        "effective_gradient_norm",
        "effective_gradient_factor",
        "effective_adjoint",
    ]
    ds = gradsim.simulate(
        LSTM(3, 4), task=FlipFlop(length=9), mitigations=[Wide()], batch=2, dtype="float32", record=record
    )
    for i, name in enumerate(ds.param.values):
        gradient = ds[f"effective_gradient_{name}"].values
        assert gradient.dtype == np.float32
        # A norm in float64 of numbers in float32: had they been wider, it would differ in the eighth digit.
        exact = np.linalg.norm(gradient.astype(np.float64))
        np.testing.assert_allclose(ds.effective_gradient_norm[i], exact, rtol=1e-14)
    assert ds.effective_gradient_factor == pytest.approx(1 / 3, rel=1e-6)

"""How far the contract of a recorder reaches: recorders from outside, each against its definition."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from probes.recorders import InputGradient, LargestState, RunningCosine

import gradsim
from gradsim import Mitigation, Recorder, Variable, hookimpl
from gradsim.contracts.pieces import Exponents, Forward, Products
from gradsim.engine import segments
from gradsim.errors import InputError, PluginError
from gradsim.testing import conformance
from gradsim_cells import GRU, LSTM, Elman
from gradsim_mitigations import ClipNorm, ClipValue, JacobianPenalty, Truncate
from gradsim_tasks import FlipFlop

test_probes_keep_the_contract = conformance(InputGradient(), RunningCosine(), LargestState())

RUN = dict(task=FlipFlop(length=40), batch=2, rng=5)


def flat(ds, prefix):
    names = sorted(n for n in ds.data_vars if n.startswith(prefix))
    return np.concatenate([ds[n].values.reshape(ds.sizes["step"], -1) for n in names], axis=1)


def test_the_gradient_of_the_inputs_is_the_slope_of_the_loss(rng):
    x, h = rng.standard_normal((12, 2, 3)), 1e-5
    cell = GRU(3, 4)
    ds = gradsim.simulate(cell, x, record=[InputGradient()])
    assert ds.input_gradient.dims == ("step", "batch", "feature")
    for place in ((0, 0, 0), (5, 1, 2), (11, 0, 1)):
        moved = [
            x + sign * h * (np.arange(x.size) == np.ravel_multi_index(place, x.shape)).reshape(x.shape)
            for sign in (1, -1)
        ]
        losses = [gradsim.simulate(cell, m, record=["loss"]).attrs["loss"] for m in moved]
        slope = (losses[0] - losses[1]) / (2 * h)
        assert ds.input_gradient.values[place] == pytest.approx(slope, rel=1e-6, abs=1e-10)


@pytest.mark.parametrize(
    "mitigation", [Truncate(5, 10), ClipNorm(0.01, where="adjoint"), JacobianPenalty(), ClipValue(0.01)]
)
def test_raw_and_effective_pass_by_together(mitigation, monkeypatch):
    monkeypatch.setattr(segments, "_STATE_BYTES", 8 * 2 * 4 * 8)  # several segments
    names = ["contribution", "effective_contribution"]
    ds = gradsim.simulate(Elman(3, 4), mitigations=[mitigation], record=[RunningCosine(), *names], **RUN)
    raw, effective = (np.cumsum(flat(ds, prefix)[::-1], axis=0)[::-1] for prefix in names)
    sizes = np.linalg.norm(raw, axis=1) * np.linalg.norm(effective, axis=1)
    np.testing.assert_allclose(ds.running_cosine, np.sum(raw * effective, axis=1) / sizes, rtol=1e-10)
    assert "effective_running_cosine" not in ds


def test_a_reduction_over_the_run_in_memory_on_disk_and_in_probes(tmp_path):
    run = dict(record=[LargestState(), "state"], **RUN)
    ds = gradsim.simulate(Elman(3, 4), **run)
    np.testing.assert_array_equal(ds.largest_state, np.abs(ds.state).max(("time", "component")))
    stored = gradsim.simulate(Elman(3, 4), store=tmp_path / "run", **run)
    np.testing.assert_array_equal(stored.largest_state, ds.largest_state)


@dataclass(frozen=True, eq=False)
class Wrong(Recorder):
    """Wrong in one of several ways."""

    name = "wrong"
    stream = Forward
    dim: str = "batch"

    def variables(self, problem):
        return (Variable("wrong", (self.dim,), "nothing"),)

    def compute(self, piece):
        return {}


def remade(dim="batch", **members):
    cls = dataclass(frozen=True, eq=False)(type("Remade", (Wrong,), members))
    return cls(dim=dim)


@pytest.mark.parametrize(
    ("recorder", "message"),
    [
        (Wrong(dim="bach"), "unknown dim of wrong 'bach'; did you mean 'batch'"),
        (remade(stream=int), "stream is <class 'int'>; it should be one of Forward, LossTerms"),
        (remade(stream=Exponents, both=True), "both goes with the streams Adjoints, Contributions, Gradient"),
        (remade(stream=Products, start=lambda self, problem: []), "a carry goes with the streams Forward"),
        (remade(dims=lambda self, problem: {"time": [1, 2]}), "the dim time is there already"),
        (remade(dims=lambda self, problem: {"update": [1, 2]}), "the dim update is there already"),
        (remade(dims=lambda self, problem: {"grid": [[1, 2]]}), "should be a vector of numbers or of text"),
    ],
)
def test_what_a_recorder_cannot_get_is_said_before_the_run(recorder, message, inputs, monkeypatch):
    monkeypatch.setattr(Elman, "unroll", None)
    with pytest.raises(PluginError, match=message):
        gradsim.simulate(Elman(2, 3), inputs, record=[recorder])


def test_what_comes_piece_by_piece_lies_along_time(inputs):
    recorder = remade(compute=lambda self, piece: {"wrong": np.zeros(3)})
    with pytest.raises(PluginError, match="piece by piece along step, time; that should be its first dim"):
        gradsim.simulate(Elman(2, 3), inputs, record=[recorder])


def test_the_shares_of_paths_in_an_lstm(rng):
    x = rng.standard_normal((7, 2, 2))
    ds = gradsim.simulate(LSTM(2, 3), x, record=["path_norm", "step_jacobian"])
    assert list(ds.path.values) == ["direct", "input", "forget", "candidate", "output"]
    block = ds.step_jacobian.isel(state_out=slice(3, 6), state_in=slice(3, 6)).values
    forget = np.diagonal(block, axis1=-2, axis2=-1)
    np.testing.assert_allclose(block, forget[..., None] * np.eye(3), atol=1e-15)  # diag f in (c, c)
    carried = ds.step_jacobian.isel(state_out=slice(0, 3), state_in=slice(3, 6)).values
    expected = np.sqrt((block**2).sum((-1, -2)) + (carried**2).sum((-1, -2)))
    np.testing.assert_allclose(ds.path_norm.sel(path="direct"), expected, rtol=1e-12)


@dataclass(frozen=True, eq=False)
class Reads(Mitigation):
    """Keeps what it requires."""

    name = "reads"
    requires = ("path_norm",)
    seen: dict = field(default_factory=dict)

    @hookimpl(wrapper=True)
    def gradsim_jacobians(self, measured):
        self.seen.update(measured[self])
        return (yield)


def test_a_recorder_with_dims_of_its_own_can_be_required(inputs):
    mitigation = Reads()
    gradsim.simulate(LSTM(2, 3), inputs, mitigations=[mitigation], record=["gradient_cosine"])
    alone = gradsim.simulate(LSTM(2, 3), inputs, record=["path_norm"])
    np.testing.assert_array_equal(mitigation.seen["path_norm"], alone.path_norm)


GIVEN = {
    "nothing": (None, "compute\\(\\) should return a dict of arrays, not NoneType"),
    "another": ({"other": np.zeros(12)}, "compute\\(\\) gives an unknown variable 'other'"),
    "too few": ({"wrong": np.zeros(1)}, r"gives 'wrong' the shape \(1,\) where \(12,\) is needed"),
    "too many": ({"wrong": np.zeros(13)}, r"gives 'wrong' the shape \(13,\) where \(12,\) is needed"),
}


@pytest.mark.parametrize(("given", "message"), GIVEN.values(), ids=GIVEN)
def test_what_was_not_declared_is_refused(given, message, inputs):
    recorder = remade(compute=lambda self, piece: given, dim="step")
    with pytest.raises(PluginError, match=message):
        gradsim.simulate(Elman(2, 3), inputs, record=[recorder])


@pytest.mark.parametrize("kind", ["in memory", "on disk"])
def test_what_is_given_whole_has_its_shape(kind, inputs, tmp_path):
    recorder = remade(start=lambda self, problem: [], finish=lambda self, carry: {"wrong": np.zeros(1)})
    where = {"store": tmp_path / "run"} if kind == "on disk" else {}
    with pytest.raises(PluginError, match=r"finish\(\) gives 'wrong' the shape \(1,\) where \(3,\)"):
        gradsim.simulate(Elman(2, 3), inputs, record=[recorder], **where)


def test_pieces_of_several_segments_are_not_cut_to_fit(rng, monkeypatch):
    monkeypatch.setattr(segments, "_STATE_BYTES", 8)
    recorder = remade(dim="time", compute=lambda self, piece: {"wrong": np.zeros(len(piece.states) + 1)})
    with pytest.raises(PluginError, match=r"the shape \(10,\) where \(9,\) is needed"):
        gradsim.simulate(Elman(2, 3), rng.standard_normal((20, 3, 2)), record=[recorder])


def test_what_is_known_after_the_last_piece_needs_no_carry(inputs):
    recorder = remade(finish=lambda self, carry: {"wrong": np.arange(3)})
    ds = gradsim.simulate(Elman(2, 3), inputs, record=[recorder])
    assert ds.wrong.values.tolist() == [0, 1, 2]


@dataclass(frozen=True, eq=False)
class Namesake(Wrong):
    """Writes what another recorder writes."""

    name = "namesake"


def test_what_two_recorders_would_write_is_refused(inputs):
    both = [Wrong(), Namesake()]
    with pytest.raises(PluginError, match=r"Wrong\(.*\) and Namesake\(.*\) both write wrong"):
        gradsim.simulate(Elman(2, 3), inputs, record=both)
    with pytest.raises(
        InputError, match=r"record holds Wrong\(.*'batch'\) and Wrong\(.*'step'\), of one name"
    ):
        gradsim.simulate(Elman(2, 3), inputs, record=[Wrong(), Wrong(dim="step")])


def test_a_variable_that_is_a_dim_too_is_refused(inputs):
    recorder = remade(dim="wrong", dims=lambda self, problem: {"wrong": [1, 2]})
    with pytest.raises(PluginError, match="wrong is a dim, too"):
        gradsim.simulate(Elman(2, 3), inputs, record=[recorder])

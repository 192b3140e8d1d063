"""How far the hooks reach: mitigations from outside, each against its definition."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pytest
from helpers import numerical_gradient
from probes.mitigations import (
    AnnealedForcing,
    SmallJacobians,
    SteadyNorm,
    UnitGain,
)

import gradsim
from gradsim import Cell, Mitigation, Pairs, Penalty, hookimpl
from gradsim.errors import InputError, NonFiniteError, PluginError, UnknownNameError
from gradsim.testing import conformance
from gradsim_cells import GRU, LRU, Elman
from gradsim_mitigations import (
    RTRL,
    AutoClip,
    ClipNorm,
    GradientNoise,
    SpectralProjection,
    Truncate,
    TruncateAnnealed,
    WeightDecay,
)
from gradsim_optimizers import SGD, Adam
from gradsim_tasks import Adding, FlipFlop

test_probes_keep_the_contract = conformance(
    UnitGain(),
    SteadyNorm(),
    SmallJacobians(),
)


def training(cell, mitigations, updates=6, **more):
    setting = {"optimizer": SGD(learning_rate=0.05), "batch": 3, "updates": updates, "rng": 1}
    return gradsim.train(cell, Adding(length=20), mitigations=mitigations, **{**setting, **more})


def params_of(ds):
    return {n: ds[n].values for n in ds.data_vars if n.startswith("trained_")}


def test_rtrl_with_a_penalty_and_clipping_is_backpropagation_with_them():
    run = dict(task=FlipFlop(length=15), batch=3, rng=2, record=["effective_gradient"])
    mine, theirs = (
        gradsim.simulate(Elman(3, 4), mitigations=[*rule, WeightDecay(0.1), ClipNorm(0.01)], **run)
        for rule in ([RTRL()], [])
    )
    for name in theirs.data_vars:
        np.testing.assert_allclose(mine[name], theirs[name], rtol=1e-10, atol=1e-14)


def test_a_network_learns_by_rtrl_what_it_learns_by_backpropagation():
    by_rule, by_adjoints = training(Elman(2, 4), [RTRL()]), training(Elman(2, 4), [])
    for name, value in params_of(by_adjoints).items():
        np.testing.assert_allclose(by_rule[name], value, rtol=1e-12, atol=1e-14)
    assert np.isnan(by_rule.train_horizon).all()  # there is no adjoint


def test_what_a_rule_has_not_is_refused():
    run = dict(task=FlipFlop(length=9))
    with pytest.raises(InputError, match="effective_adjoint does not exist under the rule rtrl"):
        gradsim.simulate(Elman(3, 4), mitigations=[RTRL()], record=["effective_adjoint"], **run)
    with pytest.raises(PluginError, match="rtrl and rtrl both put a rule"):
        gradsim.simulate(Elman(3, 4), mitigations=[RTRL(), RTRL()], **run)
    with pytest.raises(PluginError, match="rtrl puts a rule in place of the backward pass, which truncate"):
        gradsim.simulate(Elman(3, 4), mitigations=[RTRL(), Truncate(3, 3)], **run)


@dataclass(frozen=True, eq=False)
class Forced(Cell):
    """h_t = (1 - force) tanh(U h + W x) + force target."""

    name = "forced"
    input_size: int = 2

    @property
    def blocks(self):
        return {"h": 1}

    def init_params(self, rng):
        return {"U": rng.standard_normal((1, 1)), "W": rng.standard_normal((1, self.input_size))}

    def draw(self, rng, steps, batch):
        return {"force": np.zeros((steps, batch))}

    def step(self, params, state, inputs, xp, *, force, targets):
        new = xp.tanh(state @ params["U"].T + inputs @ params["W"].T)
        return (1 - force[..., None]) * new + force[..., None] * targets


def test_forcing_fades_out_and_is_off_while_validating():
    options = dict(record={"every": 2, "recorders": ["state"]}, validate={"every": 2, "sequences": 4})
    ds = training(Forced(), [AnnealedForcing()], updates=4, optimizer=SGD(learning_rate=1e-300), **options)
    free = training(Forced(), [], updates=4, optimizer=SGD(learning_rate=1e-300), **options)
    np.testing.assert_array_equal(ds.validation_loss, free.validation_loss)
    np.testing.assert_array_equal(ds.state.sel(probe_update=4), free.state.sel(probe_update=4))
    forced, half = (ds.state.sel(probe_update=u).values for u in (0, 2))
    assert (forced[:-1] == 0).all()  # the target is the sum at the last step, and zero before
    assert forced[-1] != 0
    assert (half[1:] != forced[1:]).all()


@dataclass(frozen=True, eq=False)
class Nothing(Mitigation):
    name = "nothing"


@dataclass(frozen=True, eq=False)
class Unmarked(Mitigation):
    name = "unmarked"

    def gradsim_gradient(self, gradient):
        return gradient


def test_a_mitigation_that_would_change_nothing_is_refused(inputs):
    with pytest.raises(PluginError, match="implements no hook of a run"):
        gradsim.simulate(Elman(2, 3), inputs, mitigations=[Nothing()])
    with pytest.raises(PluginError, match="gradsim_gradient is not marked"):
        gradsim.simulate(Elman(2, 3), inputs, mitigations=[Unmarked()])


def test_phases_and_the_order_within_them_are_stored(inputs):
    chosen = [ClipNorm(1.0), Truncate(3, 3), WeightDecay(), AutoClip()]
    ds = gradsim.simulate(Elman(2, 3), inputs, mitigations=chosen, record=["effective_gradient"])
    said = "jacobians: truncate; penalty: weight_decay; gradient: clip_norm > auto_clip"
    assert ds.attrs["mitigations"] == said
    provenance = json.loads(ds.attrs["provenance"])
    assert provenance["phases"]["gradient"] == ["clip_norm", "auto_clip"]
    assert provenance["mitigations"][1] == {"name": "truncate", "k1": 3, "k2": 3}


@dataclass(frozen=True, eq=False)
class SeesAll(Mitigation):
    """Halve the gradient of what the readout says, and note what a hook is shown."""

    name = "sees_all"

    @hookimpl(wrapper=True)
    def gradsim_gradient(self, params, episode):
        gradient = yield
        assert params["readout_W"].shape == gradient["readout_W"].shape
        assert episode.targets.shape[:2] == episode.weights.shape
        return gradient | {"readout_W": gradient["readout_W"] / 2}


def test_hooks_see_the_readout_and_the_episode():
    run = dict(task=FlipFlop(length=9), record=["gradient", "effective_gradient"])
    ds = gradsim.simulate(Elman(3, 4), mitigations=[SeesAll()], **run)
    np.testing.assert_array_equal(ds.effective_gradient_readout_W, ds.gradient_readout_W / 2)


def test_training_with_adam_and_many_mitigations_is_reproducible():
    chosen = [AutoClip(), GradientNoise(), SpectralProjection(), TruncateAnnealed(last=10)]
    one, again = (training(Elman(2, 4), chosen, optimizer=Adam(learning_rate=0.01)) for _ in range(2))
    for name, value in params_of(one).items():
        np.testing.assert_array_equal(again[name], value)


@pytest.mark.parametrize(
    "recorded", [{}, {"pairs": Pairs(max_lag=3)}, {"pairs": Pairs(times=(-1,), sources=(0,))}]
)
def test_what_a_mitigation_requires_does_not_depend_on_what_is_recorded(recorded):
    run = dict(task=FlipFlop(length=30), batch=2, rng=1)
    names = ["product_norm", "effective_gradient"] if recorded else ["effective_gradient"]
    ds = gradsim.simulate(Elman(3, 4), mitigations=[UnitGain()], record=names, **run, **recorded)
    raw = gradsim.simulate(Elman(3, 4), record=["product_norm"], pairs=Pairs(lags=(1,)), **run)
    gain = float(raw.product_norm.mean()) / 2
    scaled = gradsim.simulate(Elman(3, 4), mitigations=[Divided(gain)], record=["effective_gradient"], **run)
    for name in scaled.data_vars:
        np.testing.assert_allclose(ds[name], scaled[name], rtol=1e-12, atol=1e-15)
    assert ("product_norm" in ds) == bool(recorded)


@dataclass(frozen=True, eq=False)
class Divided(Mitigation):
    name = "divided"

    gain: float = 2.0

    @hookimpl(wrapper=True)
    def gradsim_jacobians(self):
        jacobians = yield
        return jacobians.changed(lambda blocks: blocks / self.gain)


def test_what_is_required_is_measured_at_every_update():
    ds = training(Elman(2, 4), [UnitGain()], updates=3)
    assert np.isfinite(ds.train_gradient_norm).all()


def test_a_penalty_of_a_function_is_differentiated_for_parameters_and_states(rng, inputs):
    params = Elman(2, 4).init_params(rng)

    def total(p):
        run = dict(params=p, mitigations=[SteadyNorm(beta=3.0)], record=["effective_gradient"])
        return gradsim.simulate(Elman(2, 4), inputs, **run)

    ds = total(params)
    for name in params:
        slope = numerical_gradient(
            lambda p: sum(total(p).attrs[n] for n in ("loss", "penalty")), params, name
        )
        np.testing.assert_allclose(ds[f"effective_gradient_{name}"], slope, rtol=1e-6, atol=1e-9)


def test_a_penalty_of_a_function_of_parameters_alone():
    params = {"W": np.arange(6.0).reshape(2, 3), "b": np.ones(2)}
    penalty = 0.5 * Penalty.of(lambda p, xp: xp.sum(p["W"] ** 2), params)
    assert penalty.value == 27.5
    np.testing.assert_array_equal(penalty.gradient["W"], params["W"])
    np.testing.assert_array_equal(penalty.gradient["b"], 0)
    with pytest.raises(PluginError, match=r"one number, not an array of shape \(2,\)"):
        Penalty.of(lambda p, xp: p["b"], params)
    with pytest.raises(
        PluginError, match=r"makes 55 of nothing that it is given, .*; let it read its own arg"
    ):
        Penalty.of(lambda p, xp: xp.sum(params["W"] ** 2), params)
    with pytest.raises(PluginError, match=r"cannot be traced .*; leave out float\(\) and int\(\)"):
        Penalty.of(lambda p, xp: float(xp.sum(p["W"] ** 2)), params)
    assert not Penalty.of(lambda p, xp: 0.0, params).gradient["W"].any()


@dataclass(frozen=True, eq=False)
class Broken(Mitigation):
    """Returns something that cannot be."""

    name = "broken"

    hook: str = "gradsim_gradient"
    result: str = "infinite"

    def _broken(self, given):
        if self.result == "infinite":
            return {n: np.full_like(g, np.inf, dtype=float) for n, g in given.items()}
        return {} if self.result == "nothing" else [given]

    @hookimpl(wrapper=True)
    def gradsim_gradient(self, gradient):
        result = yield
        return self._broken(gradient) if self.hook == "gradsim_gradient" else result

    @hookimpl(wrapper=True)
    def gradsim_contributions(self, contributions):
        result = yield
        return self._broken(contributions) if self.hook == "gradsim_contributions" else result

    @hookimpl(wrapper=True)
    def gradsim_step_data(self, step_data):
        result = yield
        return self._broken(step_data) if self.hook == "gradsim_step_data" else result


@pytest.mark.parametrize("hook", ["gradsim_gradient", "gradsim_contributions", "gradsim_step_data"])
@pytest.mark.parametrize(
    ("result", "message"),
    [
        ("infinite", "returned NaN or infinity|is nan for the first time|loss is inf"),
        ("nothing", "returned nothing for '(U|step_index)'; keep what yield gave"),
        ("a list", "should return a dict of arrays, not a list"),
    ],
)
def test_what_cannot_be_is_refused_with_the_name_of_the_hook(hook, result, message):
    run = dict(task=Adding(length=20), record=["effective_gradient"])
    with pytest.raises((PluginError, NonFiniteError, UnknownNameError), match=message):
        gradsim.simulate(Forced(), mitigations=[Broken(hook, result)], **run)


@pytest.mark.parametrize("cell", [Elman(2, 4), GRU(2, 3), LRU(2, 2)], ids=lambda c: c.name)
def test_a_penalty_of_jacobians_is_differentiated_through_them(cell, inputs):
    params = cell.init_params(np.random.default_rng(5))

    def run(p):
        chosen = [SmallJacobians(weight=0.7)]
        return gradsim.simulate(cell, inputs, params=p, mitigations=chosen, record=["effective_gradient"])

    def total(p):
        return sum(run(p).attrs[n] for n in ("loss", "penalty"))

    ds = run(params)
    assert ds.attrs["penalty"] > 0
    for name in params:
        slope = numerical_gradient(total, params, name)
        np.testing.assert_allclose(ds[f"effective_gradient_{name}"], slope, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("given", [3, [1.0]])
def test_an_update_that_is_no_dict_is_refused(given):
    @dataclass(frozen=True, eq=False)
    class Replaced(Mitigation):
        name = "replaced"

        @hookimpl(wrapper=True)
        def gradsim_update(self):
            yield
            return given

    with pytest.raises(PluginError, match="gradsim_update should return a dict of arrays, not"):
        training(Elman(2, 3), [Replaced()])

"""Parameters that training leaves alone."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from byhand import identical, start, trained
from interrupting import interrupted
from small import Labelled

import gradsim
from gradsim import Cell, Derived, Mitigation, Wrapper, hookimpl
from gradsim.errors import InputError, PluginError
from gradsim.testing import conformance
from gradsim.training.verb import train
from gradsim_cells import Elman, Stack
from gradsim_mitigations import ClipNorm
from gradsim_optimizers import AdamW

NAMES = ("U", "W")


@dataclass(frozen=True, eq=False)
class EchoState(Cell):
    """h_t = 0.7 h_{t-1} + 0.3 tanh(U h_{t-1} + W x_t + b), with a reservoir U, W that is not trained."""

    name = "reservoir"
    fixed = NAMES
    input_size: int = 2

    @property
    def blocks(self):
        return {"h": 4}

    def init_params(self, rng):
        return {"U": rng.standard_normal((4, 4)) / 2, "W": rng.standard_normal((4, 2)), "b": np.zeros(4)}

    def step(self, params, state, inputs, xp):
        drive = state @ params["U"].T + inputs @ params["W"].T + params["b"]
        return 0.7 * state + 0.3 * xp.tanh(drive)


@dataclass(frozen=True, eq=False)
class Inside(EchoState):
    """The same, with the reservoir in the cell itself."""

    name = "reservoir_inside"
    fixed = ()
    reservoir: dict[str, np.ndarray] = field(default_factory=dict)

    def init_params(self, rng):
        return {"b": np.zeros(4)}

    def step(self, params, state, inputs, xp):
        return super().step({**self.reservoir, **params}, state, inputs, xp)


test_echo_state = conformance(EchoState())

SETTING = {
    "optimizer": AdamW(0.1, decay=0.3),
    "updates": 8,
    "batch": 2,
    "validate": {"every": 3},
    "mitigations": [ClipNorm(0.05)],
}
START = start(EchoState(), Labelled())


def test_what_is_fixed_keeps_its_bits_and_the_rest_is_trained_as_if_it_were_alone():
    """Clipping and the decay of weights see nothing of what is fixed."""
    ds = train(EchoState(), Labelled(), **SETTING, params=START)
    inside = Inside(reservoir={n: START[n] for n in NAMES})
    others = {n: p for n, p in START.items() if n not in NAMES}
    alone = train(inside, Labelled(), **SETTING, params=others)
    for name in NAMES:
        assert ds[f"trained_{name}"].values.tobytes() == START[name].tobytes()
    for name in others:
        assert not np.array_equal(ds[f"trained_{name}"], START[name])
        np.testing.assert_allclose(ds[f"trained_{name}"], alone[f"trained_{name}"], rtol=1e-11)
    for name in ("train_gradient_norm", "train_gradient_factor", "validation_loss"):
        np.testing.assert_allclose(ds[name], alone[name], rtol=1e-11)
    assert (ds.train_gradient_factor < 1).all()
    np.testing.assert_array_equal(ds.train_gradient_norm_by_param.sel(param=list(NAMES)), 0)


def test_gradients_of_what_is_fixed_are_recorded_raw_and_are_zero_effectively():
    record = ["gradient", "contribution", "effective_gradient", "effective_contribution"]
    cell, task = EchoState(), Labelled()
    for mitigations in ([], [ClipNorm(0.05)]):
        ds = gradsim.simulate(cell, task=task, batch=3, mitigations=mitigations, record=record)
        for name in NAMES:
            assert np.abs(ds[f"gradient_{name}"]).max() > 0
            assert np.abs(ds[f"contribution_{name}"]).max() > 0
            np.testing.assert_array_equal(ds[f"effective_gradient_{name}"], 0)
            np.testing.assert_array_equal(ds[f"effective_contribution_{name}"], 0)
        size = np.sqrt(sum((ds[f"effective_gradient_{n}"] ** 2).sum() for n in START))
        assert size == pytest.approx(0.05, rel=1e-12) if mitigations else size > 0.05


def test_it_is_kept_over_an_interruption(tmp_path):
    whole = train(EchoState(), Labelled(), **SETTING)
    interrupted(
        tmp_path / "run", EchoState(), mitigations=SETTING["mitigations"], optimizer=SETTING["optimizer"]
    )
    resumed = train(EchoState(), Labelled(), **SETTING, store=tmp_path / "run", resume=True)
    assert identical(resumed, whole)
    assert trained(resumed).keys() == START.keys()


@dataclass(frozen=True, eq=False)
class Leaky(Wrapper):
    name = "leaky"
    cell: Cell

    def own_params(self, rng):
        return {"U": rng.uniform(size=4)}

    def mix(self, own, state, inputs, new, xp):
        return own["U"] * new


@dataclass(frozen=True, eq=False)
class Ones(Derived):
    """Replaces U."""

    name = "ones"
    replaces = ("U",)
    cell: Cell

    def own_params(self, rng):
        return {"w": np.ones(1)}

    def derive(self, own, inner, xp):
        return {"U": own["w"] * inner["W"] @ inner["W"].T}


def test_what_is_around_a_cell_leaves_the_same_alone():
    assert Leaky(EchoState()).fixed == ("U", "W")
    assert Ones(EchoState()).fixed == ("W",)
    cell = Stack((EchoState(), Elman(4, 3), EchoState(input_size=3)))
    assert cell.fixed == ("layer0_U", "layer0_W", "layer2_U", "layer2_W")
    ds = train(Leaky(EchoState()), Labelled(), **SETTING)
    first = train(Leaky(EchoState()), Labelled(), **SETTING | {"updates": 1})
    assert "trained_leaky1_U" in ds
    for name, moved in {"U": False, "W": False, "leaky1_U": True, "b": True}.items():
        assert np.array_equal(ds[f"trained_{name}"], first[f"trained_{name}"]) == (not moved)


@dataclass(frozen=True, eq=False)
class Everywhere(Mitigation):
    """Doubles what it is given, wherever it can."""

    name = "everywhere"

    @hookimpl(wrapper=True)
    def gradsim_contributions(self, contributions):
        yield
        assert contributions.keys() == START.keys() - set(NAMES)
        return {n: 2 * x for n, x in contributions.items()}

    @hookimpl(wrapper=True)
    def gradsim_gradient(self, gradient):
        yield
        assert gradient.keys() == START.keys() - set(NAMES)
        return {n: 2 * x for n, x in gradient.items()}

    @hookimpl(wrapper=True)
    def gradsim_update(self, params, before, gradient):
        yield
        assert params.keys() == before.keys() == gradient.keys() == START.keys() - set(NAMES)
        return {n: 2 * x for n, x in params.items()}


def test_no_mitigation_sees_or_moves_what_is_fixed():
    start = {n: p + 1 for n, p in START.items()}
    ds = train(
        EchoState(),
        Labelled(),
        optimizer=AdamW(0.1),
        updates=2,
        batch=2,
        mitigations=[Everywhere()],
        params=start,
    )
    for name in NAMES:
        assert ds[f"trained_{name}"].values.tobytes() == start[name].tobytes()
    record = ["effective_gradient", "effective_contribution", "gradient"]
    ds = gradsim.simulate(EchoState(), task=Labelled(), batch=2, mitigations=[Everywhere()], record=record)
    np.testing.assert_array_equal(ds.effective_gradient_U, 0)
    np.testing.assert_array_equal(ds.effective_contribution_U, 0)
    np.testing.assert_allclose(ds.effective_gradient_b, 4 * ds.gradient_b, rtol=1e-12)


@dataclass(frozen=True, eq=False)
class Moves(Mitigation):
    """Would change what is fixed."""

    name = "moves"

    @hookimpl(wrapper=True)
    def gradsim_gradient(self):
        return START | (yield)


def test_a_mitigation_that_would_move_what_is_fixed_is_refused():
    with pytest.raises(PluginError, match=r"Moves\(\): gradsim_gradient returned too much: .* 'U'"):
        gradsim.simulate(EchoState(), task=Labelled(), mitigations=[Moves()], record=["effective_gradient"])


class Still(EchoState):
    name = "still"
    fixed = ("U", "W", "b")


class Unread(Labelled):
    name = "unread"
    readout = False
    output_size = None


def test_there_has_to_be_something_to_train():
    assert train(Still(), Labelled(), **SETTING).train_loss.size == 8
    with pytest.raises(InputError, match=r"nothing to train: Still\(.*no readout"):
        train(Still(), Unread(), **SETTING)

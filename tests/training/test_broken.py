"""A broken cell is refused by a training before anything is learnt from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from interrupting import stopping_at
from small import Labelled

from gradsim import Cell, surrogate
from gradsim.data.store import read_record
from gradsim.engine import derivatives
from gradsim.errors import DivergedError, PluginError
from gradsim.training.verb import train
from gradsim_optimizers import SGD

SETTING = {"optimizer": SGD(0.1), "updates": 4, "batch": 2}


@dataclass(frozen=True, eq=False)
class Sound(Cell):
    """h_t = tanh(U h_{t-1} + W x_t)."""

    name = "sound"
    input_size: int = 2

    @property
    def blocks(self):
        return {"h": 3}

    def init_params(self, rng):
        return {"U": rng.standard_normal((3, 3)) / 2, "W": rng.standard_normal((3, self.input_size))}

    def step(self, params, state, inputs, xp):
        return xp.tanh(state @ params["U"].T + inputs @ params["W"].T)


class WrongTrace(Sound):
    """With the wrong derivative of an operation."""

    def step(self, params, state, inputs, xp):
        new = super().step(params, state, inputs, xp)
        return surrogate(new, 1.001 * new)


class Writes(Sound):
    def step(self, params, state, inputs, xp):
        new = super().step(params, state, inputs, xp)
        state *= 0.9
        return new


class Chancy(Sound):
    rng = np.random.default_rng(0)

    def step(self, params, state, inputs, xp):
        return super().step(params, state, inputs, xp) + 0.01 * self.rng.standard_normal(3)


class WrongShape(Sound):
    def step(self, params, state, inputs, xp):
        return super().step(params, state, inputs, xp)[..., :2]


class WrongType(Sound):
    def step(self, params, state, inputs, xp):
        return super().step(params, state, inputs, xp).astype(np.float32)


BROKEN = (WrongTrace, Writes, Chancy, WrongShape, WrongType)
MORE = {
    "alone": {},
    "validated": {"validate": {"every": 1}},
    "probed": {"record": {"every": 1, "recorders": ["product_norm"]}},
}


@pytest.mark.parametrize("more", MORE.values(), ids=MORE)
@pytest.mark.parametrize("cell", BROKEN)
def test_a_broken_cell_is_refused_before_its_first_update(cell, more, tmp_path):
    seen = []
    with pytest.raises(PluginError, match=cell.__name__):
        train(cell(), Labelled(), **SETTING, **more, store=tmp_path / "run", report=seen.append)
    assert not [event for event in seen if event["event"] == "update"]
    assert read_record(tmp_path / "run")["status"] == "failed"


def test_a_sound_one_is_checked_once(monkeypatch):
    checked, check = [], derivatives.check
    monkeypatch.setattr(derivatives, "check", lambda *given: (checked.append(1), check(*given)))
    assert train(Sound(), Labelled(), **SETTING).train_loss.size == 4
    assert checked == [1]


class Poisoned(Sound):
    """NaN from the third step on."""

    def step(self, params, state, inputs, xp, *, step_index):
        return xp.where(step_index[..., None] >= 3, np.nan, super().step(params, state, inputs, xp))


def test_a_state_that_is_not_a_number_is_named_with_its_place():
    with pytest.raises(
        DivergedError, match=r"update 1: Poisoned\(.*: the state is nan .* at time 3, batch 0"
    ):
        train(Poisoned(), Labelled(), **SETTING)
    with pytest.raises(DivergedError, match=r"after update 0: Poisoned\(.*: the state is nan .* at time 3"):
        train(Poisoned(), Labelled(), **SETTING, validate={"every": 1})


class Changing(Sound):
    """Its derivative is right, until its code is changed."""

    wrong = 1.0

    def step(self, params, state, inputs, xp):
        new = super().step(params, state, inputs, xp)
        return surrogate(new, self.wrong * new)


def test_a_cell_that_was_broken_meanwhile_is_refused_when_a_training_goes_on(tmp_path, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        train(Changing(), Labelled(), **SETTING, store=tmp_path / "run", report=stopping_at(2))
    monkeypatch.setattr(Changing, "wrong", 1.001)
    with pytest.raises(PluginError, match="Changing"):
        train(Changing(), Labelled(), **SETTING, store=tmp_path / "run", resume=True, allow_changed=True)
    monkeypatch.undo()
    ds = train(Changing(), Labelled(), **SETTING, store=tmp_path / "run", resume=True)
    np.testing.assert_array_equal(ds.train_loss, train(Sound(), Labelled(), **SETTING).train_loss)

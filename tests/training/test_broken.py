"""A broken cell is refused by a training before anything is learnt from it."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import OneBlock
from interrupting import stopping_at
from small import Labelled

from gradsim import surrogate
from gradsim.data.store import read_record
from gradsim.engine import derivatives
from gradsim.errors import DivergedError, PluginError
from gradsim.training.verb import train
from gradsim_optimizers import SGD

SETTING = {"optimizer": SGD(0.1), "updates": 4, "batch": 2}


class WrongTrace(OneBlock):
    """With the wrong derivative of an operation."""

    def step(self, params, state, inputs, xp):
        new = super().step(params, state, inputs, xp)
        return surrogate(new, 1.001 * new)


class Writes(OneBlock):
    def step(self, params, state, inputs, xp):
        new = super().step(params, state, inputs, xp)
        state *= 0.9
        return new


class Chancy(OneBlock):
    rng = np.random.default_rng(0)

    def step(self, params, state, inputs, xp):
        return super().step(params, state, inputs, xp) + 0.01 * self.rng.standard_normal(3)


class WrongShape(OneBlock):
    def step(self, params, state, inputs, xp):
        return super().step(params, state, inputs, xp)[..., :2]


class WrongType(OneBlock):
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
    assert train(OneBlock(), Labelled(), **SETTING).train_loss.size == 4
    assert checked == [1]


class Poisoned(OneBlock):
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


class Changing(OneBlock):
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
    np.testing.assert_array_equal(ds.train_loss, train(OneBlock(), Labelled(), **SETTING).train_loss)

"""Losses that reach differently far: in one go where that is possible, with the same adjoints."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

import gradsim
from gradsim import Mitigation, hookimpl
from gradsim.errors import GradsimError
from gradsim.run import flow
from gradsim_cells import LSTM, Linear, MinGRU
from gradsim_mitigations import Truncate
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
        params={"W": np.ones((1, 1)), "U": np.ones((1, 1))},
        mitigations=[Scaled()],
        record=["effective_adjoint_norm"],
        dtype="float32",
    )
    powers = np.append(np.cumsum(np.arange(steps, 0, -1) % 7)[::-1], 0)
    assert powers[0] > 128
    np.testing.assert_allclose(ds.effective_adjoint_norm_log10[:, 0], powers * np.log10(2), rtol=1e-6)

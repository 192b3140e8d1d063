"""Steps whose backward pass is not their derivative, on purpose: spikes with surrogate gradients."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

import gradsim
from gradsim import Cell, detach, surrogate
from gradsim.testing import check_cell
from gradsim_optimizers import Adam
from gradsim_tasks import Adding


@dataclass(frozen=True, eq=False)
class LIF(Cell):
    """Leaky integrate-and-fire units (Neftci, Mostafa & Zenke 2019): v = beta v (1 - z) + W x + V z."""

    name, exact = "spiking", False
    input_size: int = 2
    hidden_size: int = 8
    beta: float = 0.9

    @property
    def blocks(self):
        return {"z": self.hidden_size, "v": self.hidden_size}

    def init_params(self, rng):
        n = self.hidden_size
        return {"W": rng.standard_normal((n, self.input_size)), "V": rng.standard_normal((n, n)) / n**0.5}

    def step(self, params, state, inputs, xp):
        z, v = self.split(state)
        v = self.beta * v * (1 - detach(z)) + inputs @ params["W"].T + z @ params["V"].T
        above = v - 1
        spike = surrogate(xp.astype(above > 0, v.dtype), above / (1 + xp.abs(above)))
        return xp.concat((spike, v), axis=-1)


def test_passes_the_conformance_kit():
    check_cell(LIF())


def test_spikes_forward_and_the_surrogate_backward(inputs):
    ds = gradsim.simulate(LIF(), inputs, record=["state", "step_jacobian", "gradient"], rng=0)
    spikes = ds.state.sel(component=ds.block == "z")
    assert set(np.unique(spikes)) == {0.0, 1.0}
    above = ds.state.sel(component=ds.block == "v")[1:].values - 1
    # dz/dv of the old potential, where no spike resets it: the slope of the surrogate times beta.
    found = np.diagonal(ds.step_jacobian.values[..., :8, 8:], axis1=-2, axis2=-1)
    expected = 0.9 * (1 - spikes[:-1].values) / (1 + np.abs(above)) ** 2
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    assert json.loads(ds.provenance)["derivatives_of"] == dict.fromkeys(
        ("step_jacobian", "state_vjp", "params_vjp"), "surrogate"
    )


def test_is_trained():
    ds = gradsim.train(LIF(), Adding(length=20), updates=3, batch=4, optimizer=Adam(), rng=0)
    assert np.isfinite(ds.train_loss).all()
    assert (ds.train_gradient_norm_by_param.sel(param=["W", "V"]) > 0).all()

"""The way back as mitigations change it, beside the raw one."""

from __future__ import annotations

import json

import numpy as np
import pytest
from helpers import flat

import gradsim
from gradsim.contracts.hooks import RunHooks
from gradsim.contracts.moment import Moment
from gradsim_cells import GRU, Elman
from gradsim_mitigations import ClipNorm, ClipValue, JacobianPenalty, Truncate, WeightDecay
from gradsim_tasks import Sunspots

RAW = [
    "state",
    "step_jacobian",
    "jacobian_product",
    "product_norm",
    "adjoint",
    "gradient",
    "contribution",
    "lyapunov",
    "loss_adjoint_norm",
]
BACKWARD = [
    Truncate(2, 3),
    ClipNorm(1e-3, where="adjoint"),
    ClipNorm(1e-3),
    ClipValue(1e-3),
    WeightDecay(0.1, 0.1),
    JacobianPenalty(),
]


@pytest.mark.parametrize("mitigation", BACKWARD, ids=repr)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_raw_run_is_bit_identical_under_a_backward_mitigation(mitigation, dtype):
    setting = {"task": Sunspots(length=20), "batch": 2, "dtype": dtype}
    plain = gradsim.simulate(GRU(1, 4), record=RAW, **setting)
    record = [*RAW, "effective_gradient"]
    changed = gradsim.simulate(GRU(1, 4), record=record, mitigations=[mitigation], **setting)
    for name in plain.data_vars:
        assert plain[name].identical(changed[name]), name
    assert not np.array_equal(flat(changed), flat(changed, "gradient"))


def test_mitigations_apply_in_the_order_written():
    """Clipping after weight decay cuts the decay too; of two clips the second has the last word."""

    def run(*mitigations):
        record = ["gradient", "effective_gradient"]
        return gradsim.simulate(Elman(1, 3), task=Sunspots(length=20), mitigations=mitigations, record=record)

    first, second = run(ClipNorm(0.1), ClipValue(0.02)), run(ClipValue(0.02), ClipNorm(0.1))
    gradient = flat(first, "gradient")
    by_norm = gradient * (0.1 / np.linalg.norm(gradient))
    np.testing.assert_allclose(flat(first), np.clip(by_norm, -0.02, 0.02), rtol=1e-13)
    by_value = np.clip(gradient, -0.02, 0.02)
    expected = by_value * min(1, 0.1 / np.linalg.norm(by_value))
    np.testing.assert_allclose(flat(second), expected, rtol=1e-13)
    assert first.attrs["mitigations"] == "gradient: clip_norm > clip_value"
    written = json.loads(second.attrs["provenance"])["mitigations"]
    assert written == [
        {"name": "clip_value", "limit": 0.02, "where": "gradient"},
        {"name": "clip_norm", "max_norm": 0.1, "where": "gradient"},
    ]


@pytest.mark.parametrize("size", [1e-200, 1.0, 1e200])
def test_a_gradient_whose_squares_leave_the_range_is_clipped_as_others_are(size):
    direction = {"U": np.array([[3.0, 0.0]]), "b": np.array([4.0])}
    nothing = {"params": {}, "episode": None, "trajectory": None, "draws": {}, "moment": Moment()}
    gradient = {n: size * g for n, g in direction.items()}
    clipped = RunHooks([ClipNorm(max_norm=size)])("gradsim_gradient", gradient=gradient, **nothing)
    np.testing.assert_allclose(clipped["U"], [[0.6 * size, 0]], rtol=1e-12)
    np.testing.assert_allclose(clipped["b"], 0.8 * size, rtol=1e-12)

"""Step Jacobians made in several calls a segment: the numbers are those of one call."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

import gradsim
from gradsim import Mitigation, Pairs, hookimpl
from gradsim.engine import segments as cuts
from gradsim_cells import LSTM, Linear, MinGRU
from gradsim_mitigations import Truncate
from gradsim_tasks import FlipFlop

STEPS, BATCH, LENGTH = 45, 2, 16
RAW = ["lyapunov", "step_jacobian", "jacobian_product", "product_norm", "loss_adjoint_norm", "adjoint"]
RECORD = [*RAW, "contribution", "gradient"]
TWINS = [f"effective_{name}" for name in RECORD]


@dataclass(frozen=True, eq=False)
class ByStep(Mitigation):
    """Step Jacobian s times 1 + s / 50, so that those of one step are not those of another."""

    name = "by_step"

    @hookimpl(wrapper=True)
    def gradsim_jacobians(self):
        jacobians = yield
        scale = 1 + np.array(jacobians.steps)[:, None, None, None, None] / 50
        return jacobians.changed(lambda blocks: scale * blocks)


MITIGATIONS = {
    "none": [],
    "scaled": [ByStep()],
    "truncated": [Truncate(4, 9)],
    "scaled and truncated": [ByStep(), Truncate(20, 30)],
}


@pytest.mark.parametrize("mitigations", MITIGATIONS.values(), ids=list(MITIGATIONS))
@pytest.mark.parametrize("cell", [LSTM(3, 3), MinGRU(3, 5)], ids=lambda c: c.name)
def test_a_segment_made_in_parts_gives_the_same_numbers(monkeypatch, cell, mitigations):
    def run():
        setting = {"task": FlipFlop(length=STEPS), "batch": BATCH, "rng": 5}
        return gradsim.simulate(
            cell, mitigations=mitigations, record=RECORD + TWINS * bool(mitigations), **setting
        )

    monkeypatch.setattr(cuts, "_STATE_BYTES", LENGTH * BATCH * cell.state_size * 8)
    problem = gradsim.prepare(cell, np.zeros((STEPS, BATCH, 3)), record=["lyapunov"]).plan.problem
    assert [len(s) for s in cuts.segments(problem)] == [16, 16, 13]
    assert cuts.jacobian_length(problem) == LENGTH
    whole = run()
    one = BATCH * cell.state_size * problem.block * 8
    monkeypatch.setattr(cuts, "_JACOBIAN_BYTES", 5 * one)
    assert [len(s) for s in cuts.jacobian_steps(range(17, 33), problem)] == [5, 5, 5, 1]
    cut = run()
    assert set(cut) == set(whole)
    for name, values in whole.data_vars.items():
        assert not np.isnan(values).all(), name
        np.testing.assert_allclose(cut[name], values, rtol=1e-10, atol=1e-13, err_msg=name)


@pytest.mark.parametrize("pairs", [Pairs(), Pairs(max_lag=6), Pairs(times=(0, 1, 5, 6))], ids=str)
def test_truncated_products_of_a_known_matrix(pairs):
    """TBPTT(2, 3) over 6 steps: P(t, k) is U^(t-k) for k > e - 3, e the even number from t on, else 0."""
    weight = np.array([[0.5, 1.0], [0.0, 2.0]])
    ds = gradsim.simulate(
        Linear(1, 2),
        np.zeros((6, 1, 1)),
        params={"U": weight, "W": np.zeros((2, 1))},
        mitigations=[Truncate(2, 3)],
        record=["effective_product_norm", "product_norm", "effective_jacobian_product"],
        pairs=pairs,
    )
    by_lag = "lag" in ds.dims
    for t in range(7) if by_lag or "time" in ds.dims else ds.chosen_time.values:
        reach = 2 * -(-t // 2) - 2
        for k in range(t + 1):
            at = {"source": k, "batch": 0, **({"lag": t - k} if by_lag else {ds.product_norm.dims[0]: t})}
            power = np.linalg.matrix_power(weight, int(t - k))
            np.testing.assert_allclose(ds.product_norm.sel(at), np.linalg.norm(power))
            effective = power * (k >= reach)
            np.testing.assert_allclose(ds.effective_jacobian_product.sel(at), effective)
            np.testing.assert_allclose(ds.effective_product_norm.sel(at), np.linalg.norm(effective))

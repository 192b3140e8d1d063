"""Operations by stage: what grows with what, and nothing for what nobody asks for."""

from __future__ import annotations

import numpy as np
import pytest

import gradsim
from gradsim.plan.flops import flops
from gradsim_cells import Elman
from gradsim_mitigations import JacobianPenalty, Truncate, TruncateAdaptive


def plan_of(record, steps=64, batch=2, size=6, **more):
    return gradsim.prepare(Elman(1, size), np.zeros((steps, batch, 1)), record=record, **more).plan


def test_only_stages_that_are_asked_for_have_operations():
    assert {stage for stage, count in flops(plan_of(["state"])).items() if count} == {"forward"}
    found = flops(plan_of(["jacobian_product", "gradient"]))
    assert {stage for stage, count in found.items() if count} == {
        "forward",
        "step Jacobians",
        "products",
        "backward",
    }


@pytest.mark.parametrize("stage", ["forward", "step Jacobians", "products", "backward"])
def test_operations_are_proportional_to_the_batch(stage):
    record = ["jacobian_product", "gradient"]
    one, three = (flops(plan_of(record, batch=n))[stage] for n in (1, 3))
    assert three == pytest.approx(3 * one)


def test_products_grow_with_pairs_and_the_cube_of_the_state():
    """T(T - 1)/2 matrix products: 2 m^3 operations each, besides those of the recorder."""

    def products(steps, size):
        plan = plan_of(["jacobian_product"], steps, size=size)
        return flops(plan)["products"] - sum(r.flops(plan.problem) for r in plan.recorders)

    assert products(64, 12) == pytest.approx(8 * products(64, 6))
    assert products(128, 6) / products(64, 6) == pytest.approx(128 * 127 / (64 * 63), rel=0.05)


def test_a_row_of_a_loss_costs_a_vector_times_a_matrix_for_each_pair():
    """2 m^2 operations, besides those of the recorder: 1/m of a product."""
    plan = plan_of(["jacobian_product", "loss_adjoint_norm"])
    own = {r.full_name: r.flops(plan.problem) for r in plan.recorders}
    counted = flops(plan)
    rows = counted["loss rows"] - own["loss_adjoint_norm"]
    assert rows == pytest.approx((counted["products"] - own["jacobian_product"]) / 6)


def test_mitigations_cost_what_they_say_and_what_is_measured_for_them():
    """Rows of losses for all pairs, for an adaptive truncation; a way back of its own, for some penalties."""
    record = ["effective_gradient"]
    none = flops(plan_of(record))
    adaptive = plan_of(record, mitigations=[TruncateAdaptive()])
    rows = plan_of(["loss_adjoint_norm"]).flops()
    assert adaptive.flops()["mitigations"] == pytest.approx(sum(rows.values()))
    penalised = plan_of(record, mitigations=[penalty := JacobianPenalty()])
    assert penalised.flops()["mitigations"] == penalty.flops(penalised.problem)
    assert penalised.flops()["backward"] == 2 * none["backward"]  # it asks for the exact adjoint


def test_an_effective_twin_is_multiplied_too():
    record = ["jacobian_product", "effective_jacobian_product"]
    both = flops(plan_of(record, mitigations=[Truncate(3, 5)]))
    assert both["products"] == pytest.approx(2 * flops(plan_of(record[:1]))["products"])


def test_with_room_for_everything_nothing_is_taken_again():
    plan = plan_of(["gradient"])
    assert plan.recomputed_steps(None) == 0
    assert plan.work(None)["forward"] == flops(plan)["forward"]

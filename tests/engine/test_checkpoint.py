"""Recomputing what does not fit into memory: as seldom as can be, and with the same numbers."""

from __future__ import annotations

import numpy as np
import pytest

import gradsim
from gradsim import Pairs
from gradsim.contracts.trajectory import Trajectory, one_by_one
from gradsim.engine import layout
from gradsim.engine import segments as cuts
from gradsim.engine.forward import Tape
from gradsim.engine.revolve import Schedule, fewest_recomputed
from gradsim.errors import BudgetError
from gradsim.machine.disk import human
from gradsim_cells import LSTM, Elman
from gradsim_mitigations import ClipAdjoint, Truncate
from gradsim_tasks import Sunspots


def brute_force(steps, slots, known):
    """The recursion that the closed form solves: t(l, s) = min over j of j + t(l - j, s - 1) + t(j, s)."""
    if steps == 1:
        return 0
    if slots == 1:
        return steps * (steps - 1) // 2
    if (steps, slots) not in known:
        known[steps, slots] = min(
            j + brute_force(steps - j, slots - 1, known) + brute_force(j, slots, known)
            for j in range(1, steps)
        )
    return known[steps, slots]


def test_the_optimum_is_that_of_a_search():
    """Griewank & Walther (2000), eq. 5; the l - 1 steps of the first sweep are not recomputed."""
    known = {}
    for steps in range(1, 40):
        for slots in range(1, 8):
            assert fewest_recomputed(steps, slots) == brute_force(steps, slots, known) - (steps - 1)


@pytest.mark.parametrize("steps", [1_000, 10_000, 100_000])
@pytest.mark.parametrize("slots", [50, 200, 700, 5_000, 30_000])
@pytest.mark.parametrize("segment", [1, 4, 16])
def test_at_most_a_tenth_more_than_the_optimum(steps, slots, segment):
    """With room for at least 12 segments; a segment at work is among the slots."""
    if slots >= steps or slots < 12 * segment:
        slots, steps = 12 * segment + 40, max(steps, 50 * segment)
    schedule = Schedule(-(-steps // segment), segment, slots - segment)
    assert segment * schedule.recomputed() <= 1.1 * fewest_recomputed(steps, slots)


class Counting(Elman):
    """Says how many steps were taken and how many states are alive at most."""

    def unroll(self, params, state, inputs, step_data, parallel):
        taken.append(len(inputs))
        return super().unroll(params, state, inputs, step_data, parallel)


taken: list[int] = []


@pytest.mark.parametrize(
    ("count", "cost", "room"), [(40, 4, 0), (40, 4, 3), (40, 4, 15), (40, 4, 90), (7, 1, 2), (1, 3, 0)]
)
def test_the_tape_gives_every_segment_in_turn_and_keeps_to_its_room(count, cost, room):
    rng = np.random.default_rng(0)
    cell = Counting(2, 3)
    inputs = rng.standard_normal((cost * count, 2, 2))
    segments = [range(1 + cost * i, 1 + cost * (i + 1)) for i in range(count)]
    schedule = Schedule(count, cost, room)
    start = Trajectory(cell, cell.init_params(rng), np.zeros((1, 2, 3)), inputs, {})
    tape = Tape(start, segments, schedule, one_by_one)
    taken.clear()
    ahead = {here.steps: here.states.copy() for here in tape.forward()}
    assert list(ahead) == segments
    for _ in range(2):  # the second time nothing is kept from the way there
        seen = []
        for here in tape.backward():
            steps = here.steps
            np.testing.assert_array_equal(here.states, ahead[steps])
            seen.append(steps)
            others = [i for i in tape._kept if segments[i] != steps]
            # Neither the first state nor the one before the segment at work counts.
            assert cost * len(others) + len(tape._snapshots) - 1 <= room + 1
        assert seen == segments[::-1]
    first = cost * (count + schedule.recomputed())
    assert sum(taken) <= 2 * first


def test_any_budget_gives_the_same_bits(monkeypatch):
    """From everything kept down to single segments, raw and truncated, with readout and clipping."""
    monkeypatch.setattr(cuts, "_STATE_BYTES", 3 * 2 * 8 * 8)  # segments of a few steps
    names = ["adjoint", "adjoint_norm", "contribution", "gradient", "lyapunov", "state", "loss"]
    twins = [f"effective_{n}" for n in ("adjoint", "contribution", "gradient")]

    def run(memory, cell, mitigations):
        return gradsim.simulate(
            cell,
            task=Sunspots(length=150),
            batch=2,
            mitigations=mitigations,
            record=names + twins,
            memory=memory,
            threads=1,
        )

    for cell, mitigations in ((LSTM(1, 3), [Truncate(7, 11)]), (Elman(1, 4), [ClipAdjoint(0.1)])):
        everything = run(None, cell, mitigations)
        needed = gradsim.prepare(
            cell, task=Sunspots(length=150), batch=2, mitigations=mitigations, record=names + twins
        ).plan
        for room in (0, 500, 2_000, 5_000):
            assert needed.schedule(needed.memory_bytes + room).recomputed() > 0
            other = run(needed.memory_bytes + room, cell, mitigations)
            for name, values in everything.data_vars.items():
                np.testing.assert_array_equal(other[name], values, err_msg=f"{name}, room {room}")


@pytest.mark.parametrize("truncation", [(10, 30), (1, 25), (20, 20), (7, 64)])
def test_windows_of_losses_pass_from_segment_to_segment(monkeypatch, truncation):
    """Segments whose own losses reach all the way, while later ones that do not are still on the way."""
    setting = {"task": Sunspots(length=100), "batch": 2, "mitigations": [Truncate(*truncation)]}
    names = ["effective_adjoint", "effective_gradient", "effective_contribution"]
    whole = gradsim.simulate(LSTM(1, 3), record=names, **setting)
    monkeypatch.setattr(cuts, "_STATE_BYTES", 1)
    cut = gradsim.simulate(LSTM(1, 3), record=names, **setting)
    for name, values in whole.data_vars.items():
        np.testing.assert_allclose(cut[name], values, rtol=1e-10, atol=1e-14, err_msg=name)


def test_a_budget_below_one_segment_is_refused_with_the_least_that_works():
    arguments = {"inputs": np.ones((5000, 1, 1)), "record": ["gradient"]}
    with pytest.raises(BudgetError, match="at least") as caught:
        gradsim.simulate(Elman(1, 8), **arguments, memory=1000)
    least = gradsim.prepare(Elman(1, 8), **arguments).plan.memory_bytes
    assert human(least) in str(caught.value)
    gradsim.simulate(Elman(1, 8), **arguments, memory=least)
    with pytest.raises(BudgetError):
        gradsim.simulate(Elman(1, 8), **arguments, memory=least - 1)


@pytest.mark.parametrize(
    ("record", "pairs", "count"),
    [
        (["product_norm", "jacobian_product"], Pairs(), 3),
        (["jacobian_product", "loss_adjoint_norm"], Pairs(sources=(4, 9, 30)), 3),
        (["product_norm"], Pairs(max_lag=5), 6),
        (["product_spectral_norm"], Pairs(lags=(2, 7)), 6),
    ],
    ids=["all", "sources", "band", "lags"],
)
def test_products_in_rounds_are_the_same_bits(monkeypatch, record, pairs, count):
    """Step Jacobians of a part of the batch, or of the sources, at one time."""
    monkeypatch.setattr(layout, "_TILE_BYTES", 4000)
    monkeypatch.setattr(layout, "_JOBS", 100)
    monkeypatch.setattr(layout, "_CHAIN_BYTES", 1)
    setting = {
        "inputs": np.random.default_rng(1).standard_normal((60, 3, 1)),
        "record": [*record, *(f"effective_{n}" for n in record)],
        "pairs": pairs,
        "mitigations": [Truncate(7, 11)],
    }
    cell = Elman(1, 8)
    least = gradsim.prepare(cell, **setting).plan
    assert len(least.rounds(least.memory_bytes)) >= count
    assert least.jacobian_bytes(0) < least.jacobian_bytes(None) / 2
    whole, parts = (gradsim.simulate(cell, **setting, memory=m) for m in (None, least.memory_bytes))
    for name, values in whole.data_vars.items():
        np.testing.assert_array_equal(parts[name], values, err_msg=name)

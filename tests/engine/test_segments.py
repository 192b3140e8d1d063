"""Steps taken together: the same numbers however time is cut."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import Stripped

import gradsim
from gradsim.engine import segments as cuts
from gradsim.errors import BudgetError, InputError
from gradsim_cells import LSTM, Elman
from gradsim_mitigations import RFLO, ClipNorm, JacobianPenalty, Truncate, TruncateAdaptive
from gradsim_tasks import Sunspots


def test_any_budget_gives_the_same_bits(monkeypatch):
    """From everything kept down to single segments, raw and truncated, with readout and clipping."""
    monkeypatch.setattr(cuts, "_STATE_BYTES", 3 * 2 * 8 * 8)  # segments of a few steps
    names = ["adjoint", "adjoint_norm", "contribution", "gradient", "lyapunov", "state", "loss"]
    twins = [f"effective_{n}" for n in ("adjoint", "contribution", "gradient")]

    def run(memory, cell, mitigations):
        return gradsim.simulate(
            cell,
            task=Sunspots(length=150, split=(1, 0, 0)),
            batch=2,
            mitigations=mitigations,
            record=names + twins,
            memory=memory,
            threads=1,
        )

    clipped = [ClipNorm(0.1, where="adjoint")]
    for cell, mitigations in (
        (LSTM(1, 3), [Truncate(7, 11)]),
        (Elman(1, 4), clipped),
        (Stripped(Elman(1, 4)), clipped),
    ):
        everything = run(None, cell, mitigations)
        needed = gradsim.prepare(
            cell,
            task=Sunspots(length=150, split=(1, 0, 0)),
            batch=2,
            mitigations=mitigations,
            record=names + twins,
        ).plan
        for room in (0, 500, 2_000, 5_000):
            assert needed.schedule(needed.memory_bytes + room).recomputed() > 0
            other = run(needed.memory_bytes + room, cell, mitigations)
            for name, values in everything.data_vars.items():
                np.testing.assert_array_equal(other[name], values, err_msg=f"{name}, room {room}")


class Counting(Elman):
    """Counts the steps that are taken."""

    def unroll(self, params, state, inputs, step_data, parallel):
        taken.append(len(inputs))
        return super().unroll(params, state, inputs, step_data, parallel)


taken: list[int] = []

ADJOINTS = ["adjoint", "contribution", "gradient", "effective_gradient"]


@pytest.mark.parametrize(
    ("mitigations", "record"),
    [
        ([], ["gradient"]),
        ([], ["state"]),
        ([Truncate(7, 11)], ADJOINTS),
        ([Truncate(7, 11)], [*ADJOINTS, "effective_lyapunov"]),
        ([JacobianPenalty(0.1)], ADJOINTS),
        ([JacobianPenalty(0.1)], ["effective_gradient"]),
        ([RFLO()], ["effective_gradient"]),
        ([RFLO()], ["gradient", "effective_gradient"]),
        ([TruncateAdaptive()], ADJOINTS),
    ],
)
def test_chosen_snapshots_give_the_same_bits_and_say_what_is_taken_again(monkeypatch, mitigations, record):
    """As it is counted, planned and told."""
    monkeypatch.setattr(cuts, "_STATE_BYTES", 1)  # segments of 8 steps
    cell, setting = Counting(1, 4), {"mitigations": mitigations, "record": record, "threads": 1}
    inputs = np.random.default_rng(0).standard_normal((168, 2, 1))
    whole = gradsim.simulate(cell, inputs, snapshots=0, **setting)
    assert (whole.attrs["snapshots"], whole.attrs["recomputed_steps"]) == (0, 0)
    for snapshots in (1, 3, 9, 400, "sqrt"):
        plan = gradsim.prepare(cell, inputs, mitigations=mitigations, record=record, snapshots=snapshots).plan
        taken.clear()
        found = gradsim.simulate(cell, inputs, snapshots=snapshots, **setting)
        for name, values in whole.data_vars.items():
            np.testing.assert_array_equal(found[name], values, err_msg=f"{name}, {snapshots}")
        assert found.attrs["recomputed_steps"] == plan.recomputed_steps(None)
        assert found.attrs["recomputed_steps"] <= sum(taken) - 168  # and what is taken to check the cell
        assert found.attrs["snapshots"] == plan.schedule(None).snapshots()
        if record == ["gradient"]:
            again = {1: 1680, 3: 8 * 49, 9: 8 * 31, 400: 160, "sqrt": 160}[snapshots]
            assert found.attrs["recomputed_steps"] == again


def test_chosen_snapshots_that_do_not_fit_are_refused():
    inputs = np.zeros((200_000, 8, 1))
    prepared = gradsim.prepare(Elman(1, 32), inputs, record=["gradient"], snapshots=0)
    assert prepared.plan.memory_bytes > 200_000 * 8 * 32 * 8
    with pytest.raises(BudgetError, match="kept of states alone takes"):
        prepared.refuse_beyond(1e8, None)
    gradsim.prepare(Elman(1, 32), inputs, record=["gradient"], snapshots=5).refuse_beyond(1e8, None)


@pytest.mark.parametrize("snapshots", [-1, "root", 1.5, True])
def test_bad_snapshots_are_refused(snapshots):
    with pytest.raises(InputError, match="snapshots"):
        gradsim.simulate(Elman(1, 2), np.zeros((5, 1, 1)), snapshots=snapshots)


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

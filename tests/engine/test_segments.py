"""Steps taken together: the same numbers however time is cut."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import Stripped

import gradsim
from gradsim.engine import segments as cuts
from gradsim_cells import LSTM, Elman
from gradsim_mitigations import ClipNorm, Truncate
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

"""The same seed gives the same numbers, to the last bit, whatever else is done."""

from __future__ import annotations

import numpy as np
import pytest
from byhand import identical, trained
from small import Labelled, Stream

from gradsim.training.verb import train
from gradsim_cells import LSTM
from gradsim_mitigations import ClipNorm, JacobianPenalty
from gradsim_optimizers import Adam

SETTING = {
    "optimizer": Adam(0.05),
    "updates": 6,
    "batch": 3,
    "mitigations": [ClipNorm(0.1, where="adjoint"), JacobianPenalty(0.1)],
}
EXTRA = {
    "record": {"every": 2, "recorders": ["product_norm", "effective_gradient"], "batch": 2},
    "validate": {"every": 2},
}


def final(**changes):
    return train(LSTM(2, 4), Labelled(), **SETTING | changes)


def test_threads_change_no_bit():
    assert identical(final(**EXTRA, threads=1), final(**EXTRA, threads=2))


@pytest.mark.parametrize(
    "changes",
    [{"watch": False}, {"record": EXTRA["record"]}, {"validate": EXTRA["validate"]}, {"memory": 5e7}, EXTRA],
    ids=["unwatched", "probed", "validated", "memory", "all"],
)
def test_what_is_looked_at_changes_no_bit(changes):
    plain, looked = trained(final()), trained(final(**changes))
    for name, value in plain.items():
        np.testing.assert_array_equal(value, looked[name])


@pytest.mark.parametrize("seconds", [0, 30])
def test_a_store_changes_no_bit(seconds, tmp_path):
    stored = final(**EXTRA, store=tmp_path / "run", checkpoint_seconds=seconds)
    assert identical(stored, final(**EXTRA))


def test_the_seed_decides():
    one, same, other = final(rng=3), final(rng=np.random.SeedSequence(3)), final(rng=4)
    assert identical(one, same)
    assert not np.array_equal(one.trained_readout_W, other.trained_readout_W)


def test_single_precision_with_threads_and_state():
    setting = {"optimizer": Adam(0.05), "epochs": 2, "batch": 2, "stateful": True, "dtype": "float32"}
    one, two = (train(LSTM(1, 4), Stream(), **setting, threads=n) for n in (1, 2))
    assert identical(one, two)
    assert one.trained_readout_W.dtype == np.float32

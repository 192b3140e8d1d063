"""What a training has learned can be simulated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

import gradsim
from gradsim import Episode, FiniteTask
from gradsim_cells import GRU
from gradsim_optimizers import SGD


@dataclass(frozen=True, eq=False)
class Sums(FiniteTask):
    """Say the sum of the inputs so far; a simulation is given the sequences that a probe is."""

    name = "sums"
    input_size = 1
    output_size = 1

    @property
    def sequences(self):
        return {"train": 6, "validation": 3}

    def take(self, part, chosen):
        seed = len(part)
        x = np.random.default_rng(seed).standard_normal((5, self.sequences[part], 1))[:, chosen]
        return Episode(x, x.cumsum(axis=0), np.full(x.shape[:2], 1 / 5))

    def sample(self, rng, batch):
        return self.take("validation", np.arange(batch))

    def loss(self, outputs, targets, xp):
        return gradsim.squared_error(outputs, targets, xp)


CELL = GRU(input_size=1, hidden_size=4)


def test_a_simulation_with_the_trained_parameters_has_the_loss_that_the_training_saw():
    ds = gradsim.train(
        CELL,
        Sums(),
        optimizer=SGD(learning_rate=0.1),
        updates=6,
        batch=3,
        record={"every": 3, "recorders": ["loss", "adjoint_norm"], "batch": 3},
        validate={"every": 3},
    )
    params = gradsim.trained_params(ds)
    assert params.keys() == {*CELL.init_params(np.random.default_rng(0)), "readout_W", "readout_b"}
    after = gradsim.simulate(CELL, task=Sums(), batch=3, params=params, record=["loss", "adjoint_norm"])
    assert after.attrs["loss"] == pytest.approx(float(ds["validation_loss"][-1]), rel=1e-12)
    assert after.attrs["loss"] < float(ds["validation_loss"][0])
    for name in ("loss", "adjoint_norm"):
        np.testing.assert_array_equal(after[name], ds[name].sel(probe_update=6))


def test_a_dataset_without_them_is_refused(tmp_path):
    with pytest.raises(gradsim.errors.InputError, match=r"no trained parameters: make it with gradsim.train"):
        gradsim.trained_params(gradsim.simulate(CELL, task=Sums(), record=["loss"]))

    def stop(event):
        raise RuntimeError

    with pytest.raises(RuntimeError):
        gradsim.train(CELL, Sums(), optimizer=SGD(), updates=2, batch=3, store=tmp_path / "a", report=stop)
    partial = gradsim.open_run(tmp_path / "a", allow_incomplete=True)
    with pytest.raises(gradsim.errors.InputError, match=r"the training is not complete; resume it"):
        gradsim.trained_params(partial)


def test_a_single_number_that_has_not_been_written_is_enough():
    ds = gradsim.train(CELL, Sums(), optimizer=SGD(), updates=1, batch=3)
    ds["trained_W"][0, 0] = np.nan
    with pytest.raises(gradsim.errors.InputError, match="trained_W has not been written"):
        gradsim.trained_params(ds)

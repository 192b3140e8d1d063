"""RTRL is backpropagation on whatever runs: wrapped, stacked, noisy and PyTorch's cells, in trainings too."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from rules import both, close

import gradsim
from gradsim import TorchCell
from gradsim.contracts.cell import Cell
from gradsim_cells import GRU, LRU, LSTM, Elman, IndRNN, MinGRU, Stack
from gradsim_mitigations import (
    RTRL,
    Dilate,
    Dropout,
    Gate,
    LayerNorm,
    Leak,
    OrthogonalWeights,
    Residual,
    ScheduledSampling,
    Skip,
    SoftCap,
    SpectralNorm,
    TeacherForcing,
    WeightNoise,
    Zoneout,
)
from gradsim_optimizers import SGD
from gradsim_tasks import FlipFlop, Lorenz


@dataclass(frozen=True, eq=False)
class Noisy(Elman):
    """With noise on the state that is drawn before the unroll."""

    name = "noisy"

    def draw(self, rng, steps, batch):
        return {"noise": 0.3 * rng.standard_normal((steps, batch, self.hidden_size))}

    def unit(self, sums, old, xp, *, noise):
        return xp.tanh(sums[0] + noise * old[0])


@dataclass(frozen=True, eq=False)
class Torch(TorchCell):
    """A GRU of PyTorch."""

    name = "torch_gru"

    input_size: int = 3
    blocks = {"h": 4}  # noqa: RUF012

    def module(self):
        from torch import nn

        return nn.GRUCell(3, 4).double()


CELLS: dict[str, Cell] = {
    "elman": Elman(3, 4),
    "lstm": LSTM(3, 4),
    "lru": LRU(3, 4),
    "noisy": Noisy(3, 4),
    "stack": Stack((GRU(3, 2), Elman(2, 3), MinGRU(3, 3))),
    "diagonal_stack": Stack((IndRNN(3, 2), LRU(2, 3))),
    "torch": Torch(),
}
MADE = {
    "alone": [],
    "gate": [Gate()],
    "leak": [Leak(0.3)],
    "residual": [Residual(0.5)],
    "layer_norm": [LayerNorm()],
    "zoneout": [Zoneout(0.4)],
    "dropout": [Dropout(0.4)],
    "dropout_by_step": [Dropout(0.4, per="step")],
    "skip": [Skip(2)],
    "dilate": [Dilate(3)],
    "weight_noise": [WeightNoise(0.1)],
    "teacher_forcing": [TeacherForcing(0.5)],
    "scheduled_sampling": [ScheduledSampling(first=0.5)],
    "gate_of_zoneout_of_skip": [Skip(2), Zoneout(0.3), Gate()],
}
OF_WEIGHTS = {"orthogonal": [OrthogonalWeights()], "spectral": [SpectralNorm(0.5)], "capped": [SoftCap(2.0)]}
TABLE = [(cell, made) for cell in CELLS for made in MADE] + [("lstm", made) for made in OF_WEIGHTS]


FORCED = ("teacher_forcing", "scheduled_sampling")


def task_for(made):
    return Lorenz(length=10) if made in FORCED else FlipFlop(length=10)


@pytest.mark.parametrize(("cell", "made"), TABLE)
def test_rtrl_is_backpropagation(cell, made):
    exact, found = (
        both(CELLS[cell], *(MADE | OF_WEIGHTS)[made], *rule, task=task_for(made))[1]
        for rule in ([], [RTRL()])
    )
    assert any(g.any() for g in exact.values())
    close(found, exact)


@pytest.mark.parametrize("made", MADE)
def test_a_training_by_rtrl_is_one_by_backpropagation(made):
    setting = dict(optimizer=SGD(learning_rate=0.1), batch=3, updates=3, rng=1)
    for cell in (CELLS["noisy"], CELLS["stack"]):
        theirs, ours = (
            gradsim.train(cell, task_for(made), mitigations=[*MADE[made], *rule], **setting)
            for rule in ([], [RTRL()])
        )
        names = [n for n in ours.data_vars if n.startswith("trained_")]
        assert names
        close(*({n: ds[n].values for n in names} for ds in (ours, theirs)), 1e-12)

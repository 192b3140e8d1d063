"""Trainings under mitigations: stopped, or watched, they are those in one go, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from gradsim import train
from gradsim.training.resuming import resume
from gradsim_cells import GRU, Elman
from gradsim_mitigations import (
    DNI,
    KFRTRL,
    RFLO,
    UORO,
    Activity,
    AutoClip,
    Dropout,
    Flossing,
    GradientCentralisation,
    GradientNoise,
    JacobianRegulariser,
    NormStabiliser,
    OrthogonalWeights,
    ScheduledSampling,
    SoftCap,
    SoftOrthogonality,
    SparseRTRL,
    SpectralNorm,
    SpectralProjection,
    Stiefel,
    TargetPropagation,
    TeacherForcing,
    TruncateAdaptive,
    TruncateAnnealed,
    WeightNoise,
)
from gradsim_optimizers import Adam
from gradsim_tasks import Adding, Lorenz

ALONE = [
    Activity(0.1, 0.1),
    AutoClip(40.0),
    DNI(k=3),
    Flossing(0.1, exponents=2),
    GradientCentralisation(),
    GradientNoise(),
    JacobianRegulariser(projections=1),
    KFRTRL(),
    NormStabiliser(),
    OrthogonalWeights(margin=0.1),
    RFLO(feedback="random"),
    SoftCap(),
    SoftOrthogonality(),
    SparseRTRL(1),
    SpectralNorm(),
    SpectralProjection(),
    Stiefel(),
    TargetPropagation(noise=0.1),
    TruncateAdaptive(0.5, longest=15, memory=0.5),
    TruncateAnnealed(1, 20),
    UORO(),
]
TOGETHER = [
    TeacherForcing(0.5, measured=True),
    ScheduledSampling(decay="exponential", k=0.8),
    Dropout(0.2),
    WeightNoise(0.05),
]
CASES = {m.name: (Elman(2, 4), Adding(length=20), [m]) for m in ALONE}
CASES["what forces, draws and remembers"] = (GRU(3, 4), Lorenz(length=8), TOGETHER)


@pytest.mark.parametrize("case", CASES)
def test_a_training_is_the_same_after_a_stop_and_with_probes_and_validations(case, tmp_path):
    cell, task, mitigations = CASES[case]

    def training(**more):
        setting = {"optimizer": Adam(0.02), "updates": 6, "batch": 3, "rng": 1}
        return train(cell, task, mitigations=mitigations, **setting, **more)

    def stop(event):
        if (event["event"], event["update"]) == ("update", 3):
            raise KeyboardInterrupt

    whole, store = training(), tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        training(store=store, report=stop, checkpoint_seconds=0)
    watched = training(record={"every": 2}, validate={"every": 3, "sequences": 5})
    for other in (resume(store), watched):
        for name in (n for n in whole.data_vars if n.startswith("train")):
            np.testing.assert_array_equal(other[name], whole[name], err_msg=name)

"""Settings that cannot be."""

from __future__ import annotations

import pytest
from small import Labelled, Stream

from gradsim.errors import InputError
from gradsim.training.verb import train
from gradsim_cells import Elman
from gradsim_optimizers import SGD

SETTING = {"optimizer": SGD(0.3), "batch": 2}


BAD = {
    "no_validation": (Labelled(), {"stop": {"patience": 2}}, "patience is judged by validations"),
    "no_score": (
        Stream(),
        {"stop": {"score_above": 0.9}, "validate": {"every": 1}},
        "stream has no score; use loss_below",
    ),
    "never": (Labelled(), {"validate": {"every": 0}}, r"validate\.every: should be greater than 0 \(got 0\)"),
    "number": (
        Labelled(),
        {"validate": 5},
        r"validate should be an instance of Validation or a t.*got 5",
    ),
    "no_recorder": (Labelled(), {"record": {"every": 1, "recorders": []}}, "recorders: should not be empty"),
    "no_every": (Labelled(), {"record": {"recorders": ["loss"]}}, "record needs every"),
    "patience": (
        Labelled(),
        {"stop": {"patience": 0}, "validate": {"every": 1}},
        r"stop\.patience: should be greater than 0",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_is_refused(case):
    task, setting, message = BAD[case]
    with pytest.raises(InputError, match=message):
        train(Elman(task.input_size, 2), task, updates=2, **SETTING, **setting)

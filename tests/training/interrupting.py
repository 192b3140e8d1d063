"""Trainings that are stopped by Ctrl-C, and gone on with."""

from __future__ import annotations

import signal

import pytest
from small import Labelled

from gradsim.training.verb import train
from gradsim_cells import Elman
from gradsim_optimizers import Adam

SETTING = {"optimizer": Adam(0.1), "updates": 8, "batch": 2, "validate": {"every": 3}}


def stopping_at(update, kind=signal.SIGINT, times=1):
    """A report that presses Ctrl-C during an update."""

    def report(event):
        if (event["event"], event["update"]) == ("update", update):
            for _ in range(times):
                signal.raise_signal(kind)

    return report


def interrupted(folder, cell=None, task=None, *, at=5, kind=signal.SIGINT, times=1, **changes):
    """A training that is stopped during an update."""
    with pytest.raises(KeyboardInterrupt):
        train(
            Elman(2, 3) if cell is None else cell,
            Labelled() if task is None else task,
            **SETTING | changes,
            store=folder,
            report=stopping_at(at, kind, times),
        )


def whole(**changes):
    return train(Elman(2, 3), Labelled(), **SETTING | changes)


def gone_on(folder, **changes):
    return train(Elman(2, 3), Labelled(), **SETTING | changes, store=folder, resume=True)

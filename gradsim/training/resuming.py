"""Trainings that go on where they stopped, from what their run folder says of them."""

from __future__ import annotations

import ast
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from gradsim.contracts import registry
from gradsim.data.store import CHECKPOINT, REASON, read_record, reading
from gradsim.errors import InputError, StoreError, UnknownNameError
from gradsim.run.parameters import arguments, chosen, verb
from gradsim.training.parameters import (
    FollowingParameters,
    ResumeParameters,
    TrainingParameters,
)
from gradsim.training.prepared import PreparedTraining
from gradsim.training.verb import prepare_training


@verb(ResumeParameters)
def resume(given: ResumeParameters) -> xr.Dataset:
    """Go on with the training in a run folder; arguments as in `train`.

    Cell, task, optimizer and mitigations are built again from what the folder says of them. Where they
    come from a script, run the script again, with ``train(..., store=path, resume=True)``.

    Raises
    ------
    StoreError
        There is no training in the folder.
    ChangedRunError
        The code has changed since it began.
    """
    prepared = rebuilt(read_record(given.path), given.path)
    return prepared.run(store=given.path, resume=True, **chosen(given, FollowingParameters))


def rebuilt(record: Mapping[str, Any], path: str | os.PathLike[str]) -> PreparedTraining:
    """The training that a run folder describes."""
    configuration = record["configuration"]
    settings = configuration.get("training")
    if settings is None:
        held = "comparison" if "comparison" in configuration else "simulation"
        raise StoreError(f"{path} holds a {held}, not a training; there is nothing to go on with")
    try:
        with reading(Path(path) / "run.json"):
            written = {**configuration, **settings}
            again = registry.whole(lambda builder: arguments(TrainingParameters, written, builder))
            drawn = {name: configuration[name] for name in ("seed", "drawn", "given", REASON)}
            if seed := drawn["seed"]:
                entropy = ast.literal_eval(seed["entropy"])
                again["rng"] = np.random.SeedSequence(entropy, spawn_key=seed["spawn_key"])
        prepared = prepare_training(**again)
    except (UnknownNameError, InputError) as error:
        raise type(error)(
            f"{path} cannot be built again from its run.json: {error}. If it was made by a script, run the "
            "script again with resume=True"
        ) from error
    if drawn["given"] and record["status"] != "complete" and not (Path(path) / CHECKPOINT).exists():
        raise StoreError(
            f"{path} has no checkpoint yet, nor the parameters that its training was to start from; run the "
            "script that made it again with resume=True"
        )
    prepared.setup.provenance.update(drawn)
    return prepared

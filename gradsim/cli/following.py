"""A run on its way into its folder, with what is shown of it meanwhile and in the end."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradsim.analysis import effects
from gradsim.cli.events import Events
from gradsim.cli.figures import draw
from gradsim.cli.summary import result
from gradsim.data.store import open_run
from gradsim.errors import DivergedError
from gradsim.run.launch import Prepared
from gradsim.training.live import Live
from gradsim.training.prepared import PreparedTraining

if TYPE_CHECKING:
    from xarray import Dataset


def follow(run: str, prepared: Prepared, folder: Path, **how: Any) -> Dataset:
    """Run what is prepared into its folder and draw it; `how`: as its `run` takes it."""
    if isinstance(prepared, PreparedTraining):
        return _follow_training(run, prepared, folder, **how)
    ds = prepared.run(store=folder, **how)
    draw(prepared.kind, folder, {run: ds})
    if "mitigation" in ds.dims:
        effects(ds).to_dataframe().to_csv(folder / "effects.csv")
    return ds


def _follow_training(
    run: str, training: PreparedTraining, folder: Path, *, as_json: bool, live: float | None, **how: Any
) -> Dataset:
    """The same, telling what happens.

    Raises
    ------
    DivergedError
        NaN or infinity appeared; what there was before is drawn.
    KeyboardInterrupt
        Says how to go on.
    """
    events = Events(run) if as_json else None
    figure = Live(folder / "live", live) if live else None
    try:
        if events:
            sizes = {"updates": training.setup.updates, "parameters": training.setup.flat.size}
            events({"event": "start", "folder": str(folder), **sizes})
        ds = training.run(store=folder, report=events, live=figure, **how)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"To go on: gradsim resume {folder}") from None
    except DivergedError as error:
        attributes = training.setup.attributes(math.nan, math.nan, "diverged")
        so_far = open_run(folder, allow_incomplete=True).assign_attrs(attributes)
        draw(training.kind, folder, {run: so_far})
        if events:
            events.end("diverged", {"message": str(error), "folder": str(folder)})
        raise
    draw(training.kind, folder, {run: ds})
    if figure:
        figure.draw(lambda: ds)
    if events:
        events.end("end", {**result(ds), "folder": str(folder)})
    return ds

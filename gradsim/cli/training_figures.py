"""The figures in the folder of a training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from gradsim.cli.figures import save

if TYPE_CHECKING:
    from xarray import Dataset


def draw(folder: Path, ds: Dataset) -> None:
    """Draw how a training went, and what its probes recorded."""
    from gradsim import plot

    save(folder / "training_overview", lambda: plot.training_overview(ds))
    if "probe_update" in ds.dims:
        save(folder / "norm_by_lag_over_updates", lambda: plot.norm_by_lag_over_updates(ds))
        save(folder / "norm_heat_maps", lambda: plot.norm_heat_maps(ds))


def draw_together(folder: Path, runs: Mapping[str, Dataset]) -> None:
    """Draw the figures that compare trainings."""
    from gradsim import plot

    save(folder / "loss_curve", lambda: plot.loss_curve(runs))
    save(folder / "gradient_norm_curve", lambda: plot.gradient_norm_curve(runs))

"""What every study does around its question: options, the figure, and the data beside it."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import TypeVar

import numpy as np
import xarray as xr
import zarr
from matplotlib.figure import Figure

from gradsim import plot as plots
from gradsim.machine.workers import available_threads

Data = Mapping[str, xr.Dataset]
"""What a figure shows: datasets by name."""

Job, Found = TypeVar("Job"), TypeVar("Found")


def run(
    script: str,
    compute: Callable[[bool], Data],
    draw: Callable[[Data], Figure],
    table: Callable[[Data], str] | None = None,
) -> None:
    """Compute, then write <stem>.png, <stem>.svg and <stem>.zarr.zip; and print a table if there is one."""
    here = Path(script).resolve()
    parser = argparse.ArgumentParser(description=f"Make the figure {here.stem} and its data.")
    parser.add_argument("--quick", action="store_true", help="a smaller size, for a look or a test")
    parser.add_argument("--out", type=Path, default=here.parent, help="folder (default: beside the script)")
    parser.add_argument("--redraw", action="store_true", help="draw again from the data of an earlier run")
    options = parser.parse_args()
    stem = options.out / here.stem
    data = read(stem) if options.redraw else compute(options.quick)
    for path in plots.save(draw(data), stem):
        print(path)
    if not options.redraw:
        print(write(data, stem))
    if table:
        print(table(data))


def in_processes(function: Callable[[Job], Found], jobs: Sequence[Job]) -> Iterator[Found]:
    """What a function finds in each job, in their order, by a process for each core; says what is done."""
    with ProcessPoolExecutor(available_threads(None), get_context("spawn")) as pool:
        try:
            for i, (job, found) in enumerate(zip(jobs, pool.map(function, jobs), strict=True), 1):
                print(f"{i}/{len(jobs)}  {job}", flush=True)
                yield found
        except BaseException:  # after Ctrl-C, too, nothing more is begun
            for process in active_children():
                process.kill()
            raise


def write(data: Data, stem: Path) -> Path:
    """One file: a zipped zarr store with one group for each dataset."""
    path = stem.with_name(f"{stem.name}.zarr.zip")
    tree = xr.DataTree.from_dict({name: _rounded(ds) for name, ds in data.items()})
    with zarr.storage.ZipStore(path, mode="w") as store, warnings.catch_warnings():
        # zipfile warns when zarr writes the metadata of a group a second time.
        warnings.filterwarnings("ignore", "Duplicate name", UserWarning)
        tree.to_zarr(store, consolidated=False)
    return path


def _rounded(ds: xr.Dataset) -> xr.Dataset:
    """Steps of 2**-10 where there are many values: half the size, and no eye can tell."""
    # zarr has no specification yet of texts of a fixed length, which NumPy makes.
    texts = {n: c.astype(object) for n, c in ds.coords.items() if c.dtype.kind == "U"}
    return ds.assign_coords(texts).map(
        lambda v: (np.round(v * 1024) / 1024 if v.size > 10_000 else v).astype("float32"), keep_attrs=True
    )


def read(stem: Path) -> dict[str, xr.Dataset]:
    """What `write` wrote."""
    path = stem.with_name(f"{stem.name}.zarr.zip")
    with zarr.storage.ZipStore(path, mode="r") as store:
        tree = xr.open_datatree(store, engine="zarr", consolidated=False)
        return {name: group.to_dataset(inherit=False).load() for name, group in tree.children.items()}

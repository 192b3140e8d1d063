"""A configuration run by gradsim, with all recorders that are held against plain loops."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from loops.drawing import LOSSES, Configuration
from loops.recorders import AdjointGap, SumSoFar
from loops.reference import Given
from probes.recorders import InputGradient, LargestState

import gradsim
from gradsim.contracts import registry
from gradsim.contracts.pieces import GradientByLag
from gradsim.engine import layout, segments

ELSEWHERE = (
    *("gradient_bias", "gradient_cosine", "contribution_bias", "contribution_cosine"),
    *("gradient_bias_by_lag", "gradient_cosine_by_lag"),
    "adjoint_energy_removed",
)
"""Recorders that have loops of their own in tests/plugins."""

LONGEST = 50
"""Steps of a run of which all products are taken together."""

OF_SHORT_RUNS = ("parallelizability", "gradient_by_lag", "gradient_norm_by_lag")
"""Recorders that take them together."""


def held() -> list[Any]:
    """The shipped recorders that are held against plain loops here."""
    return [r for n, r in registry.catalogue().plugins["recorders"].items() if n not in ELSEWHERE]


def recorded(config: Configuration) -> list[Any]:
    """Every recorder that exists for this run."""
    shipped = [r for r in held() if config.steps <= LONGEST or r.name not in OF_SHORT_RUNS]
    if not config.plain.paths:
        shipped = [r for r in shipped if r.name != "gate" and not r.name.startswith("path")]
    raw = [r for r in (*shipped, InputGradient, LargestState, SumSoFar) if r.raw]
    twins = [r for r in (*shipped, InputGradient, SumSoFar) if r.twin and not r.both]
    rule, changed = any(a.rule for a in config.acts), any(a.adjoint for a in config.acts)
    if rule or changed or any(a.contributions or a.gradient for a in config.acts):
        twins = [r for r in twins if r.stream is not GradientByLag]
    if rule:
        twins = [r for r in twins if r.name.startswith("gradient")]
    elif changed:
        back = ("adjoint", "contribution", "gradient", "input_gradient", "input_adjoint", "loops_sum")
        twins = [r for r in twins if r.name.startswith(back)]
    both = [] if rule or config.extreme else [AdjointGap()]  # beyond the range there is no difference
    return [*(r() for r in raw), *(r(effective=True) for r in twins), *both]


@contextlib.contextmanager
def machine(config: Configuration) -> Iterator[None]:
    """With or without compiled kernels; as gradsim cuts a run, or in small pieces."""
    with contextlib.ExitStack() as stack:
        compiled = {"GRADSIM_COMPILED": "1" if config.compiled else "0"}
        stack.enter_context(mock.patch.dict(os.environ, compiled))
        if config.cut:
            one = config.batch * config.plain.size**2 * np.dtype(config.dtype).itemsize
            cuts = {"_STATE_BYTES": 1, "_JACOBIAN_BYTES": 3 * one}
            stack.enter_context(mock.patch.multiple(segments, **cuts))
            tiles = {"_TILE_BYTES": 3 * one, "_JOBS": 64, "_WRITTEN_BYTES": 5 * one, "_CHAIN_BYTES": one}
            stack.enter_context(mock.patch.multiple(layout, **tiles))
        yield


def run(config: Configuration):
    """(setup, dataset) of a run as it is configured."""
    arguments = config.arguments | {"pairs": config.pairs, "record": recorded(config)}
    if config.first is not None:
        arguments["initial_state"] = config.first
    prepared = gradsim.prepare(config.cell, **arguments, in_memory=not config.stored)
    memory = None if config.room is None else prepared.plan.memory_bytes + config.room
    more = {"threads": config.threads, "memory": memory}
    with tempfile.TemporaryDirectory() as folder:
        if config.stored:
            more["store"] = Path(folder) / "run"
        ds = gradsim.simulate(config.cell, **arguments, **more)
        if config.stored:
            ds.close()
            ds = gradsim.open_run(Path(folder) / "run")
        ds.load()
        ds.close()
    return prepared.setup, ds


def given(config: Configuration, setup) -> Given:
    """What the plain loops start from: what was drawn, rounded to the dtype of the run."""
    index = np.broadcast_to(np.arange(1, config.steps + 1)[:, None], (config.steps, config.batch))
    drawn = {n: np.asarray(x) for n, x in setup.step_data.items() if n != "step_index"}
    first = config.plain.start() if config.first is None else config.first
    rounded = lambda x: np.asarray(x).astype(config.dtype).astype(float)
    params = {n: rounded(p) for n, p in setup.params.items()}
    task, cell = config.task, setup.cell
    assert cell.paths == config.plain.paths
    found = Given(
        config.plain,
        params,
        {n: rounded(p) for n, p in setup.readout.items()},
        rounded(config.inputs),
        rounded(first),
        {"step_index": index, **drawn},
        LOSSES[task.kind] if task else None,
        task.episode.targets if task else None,
        task.episode.weights if task else None,
        config.acts,
        setup.draws,
        {name: cell.block(name) for name in cell.blocks},
        cell.recurrent_weights,
    )
    for act in config.acts:
        if act.check:
            act.check(found)
        if act.data:
            found.data |= act.data(found)
    return found

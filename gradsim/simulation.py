"""The verb: run a cell and record how gradients travel through time."""

from __future__ import annotations

from dataclasses import replace

import xarray as xr

from gradsim.contracts.hooks import RunHooks
from gradsim.contracts.moment import Moment
from gradsim.contracts.plugin import described
from gradsim.contracts.problem import EVERY_PAIR, Problem
from gradsim.data import schema
from gradsim.engine.streams import BACKWARD
from gradsim.plan.plan import planned
from gradsim.run.arguments import (
    checked_inputs,
    checked_params,
    checked_state,
    chosen_recorders,
    float_dtype,
    prepared_cell,
)
from gradsim.run.budget import FEW
from gradsim.run.derivatives import derivation, seconds
from gradsim.run.given import drawn, read
from gradsim.run.launch import launch
from gradsim.run.parameters import (
    PreparationParameters,
    SimulateParameters,
    SimulationParameters,
    verb,
)
from gradsim.run.prepared import Simulation
from gradsim.run.seeds import Seeds
from gradsim.run.setup import Model
from gradsim.types import Params


@verb(SimulateParameters)
def simulate(given: SimulateParameters) -> xr.Dataset:
    """Run a cell over inputs and record how gradients travel through time.

    Returns
    -------
    xarray.Dataset
        The recorded variables with labelled dims; provenance as JSON in ``attrs["provenance"]``.

    Raises
    ------
    InputError, UnknownNameError
        An argument does not fit.
    NonFiniteError
        NaN or infinity in inputs, parameters, states or Jacobians; names the first place.
    BudgetError
        The run does not fit into memory or disk.
    PluginError
        A cell or mitigation breaks its contract.
    StoreError
        The run folder cannot be written or is there already.
    """
    in_memory = given.store is None
    if (given.batch or 1) > FEW:
        given = replace(given, rng=Seeds(given.rng).seed)  # of a Generator, once
        _prepared(given, in_memory, tried=True).refuse_beyond(given.memory, None)
    return launch(_prepared(given, in_memory), given)


@verb(PreparationParameters)
def prepare(given: PreparationParameters) -> Simulation:
    """Check all arguments of a run and plan it, without running it; see `simulate`."""
    return _prepared(given, given.in_memory, given.tried, given.replicate)


def _prepared(
    given: SimulationParameters, in_memory: bool, tried: bool = False, replicate: int = 0
) -> Simulation:
    task, kind = given.task, float_dtype(given.dtype)
    seeds, hooks = Seeds(given.rng), RunHooks(given.mitigations)
    prepared = prepared_cell(given.cell, hooks, task)
    arrays = read(params=given.params, inputs=given.inputs, initial_state=given.initial_state)
    params: Params | None = arrays.get("params")
    most = FEW if tried else None
    x, episode = checked_inputs(prepared, arrays.get("inputs"), task, given.batch, seeds, kind, most)
    steps, drawn_batch = x.shape[:2]
    size = given.batch or drawn_batch
    own, readout = checked_params(prepared, task, params, hooks, seeds, kind, lambda: x)
    state = checked_state(prepared, arrays.get("initial_state"), size, kind)[:drawn_batch].copy()
    model = Model(given.cell, prepared, task, hooks, kind)
    recorders = chosen_recorders(given.record, hooks)
    shapes = {n: p.shape for n, p in {**own, **readout}.items()}
    pairs = given.pairs or EVERY_PAIR
    pairs.refuse_none(steps)
    problem = Problem(prepared, steps, size, kind, shapes, pairs)
    plan = planned(problem, recorders, hooks, in_memory, given.snapshots)
    problem = plan.problem
    setup = model.setup(seeds, own, readout, x, episode, state, Moment(), replicate)
    backward = plan.asks(*BACKWARD)
    expected = seconds(problem, backward, plan.makes_jacobians)
    derived = derivation(given.derivatives, prepared, expected, backward, lambda: setup.start)
    provenance = schema.provenance(
        problem,
        task=task,
        hooks=hooks,
        given_cell=given.cell,
        record=[r.full_name for r in recorders],
        seed=seeds.description,
        drawn=drawn(seeds.used(), own, readout, params),
        given=described(arrays),
        snapshots=given.snapshots,
    )
    provenance |= schema.derivatives(prepared, derived.provider.name, derived.because)
    return Simulation(setup, plan, provenance, derived)

"""What several tests compute."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradsim
from gradsim import Cell, Mitigation, hookimpl
from gradsim_optimizers import Adam
from gradsim_tasks import Adding

OWN_CELL = """
from dataclasses import dataclass
from gradsim import Dense

@dataclass(frozen=True, eq=False)
class Mine(Dense):
    name = "mine"
    slope: float = 1.0

    def unit(self, sums, old, xp):
        return xp.tanh(self.slope * sums[0])
"""
"""A file that holds a cell of one's own."""


@dataclass(frozen=True, eq=False)
class Stripped(Cell):
    """Another cell with nothing but its step."""

    name = "stripped"
    cell: Any = None

    @property
    def input_size(self):
        return self.cell.input_size

    @property
    def blocks(self):
        return self.cell.blocks

    @property
    def jacobian_groups(self):
        return self.cell.jacobian_groups

    @property
    def output_blocks(self):
        return self.cell.output_blocks

    @property
    def paths(self):
        return self.cell.paths

    def init_params(self, rng):
        return self.cell.init_params(rng)

    def step(self, params, state, inputs, xp):
        return self.cell.step(params, state, inputs, xp)


@dataclass(frozen=True, eq=False)
class Henon(Cell):
    """x' = 1 - 1.4 x^2 + y, y' = 0.3 x, as a cell with nothing but its step."""

    name = "henon"
    input_size: int = 1

    @property
    def blocks(self):
        return {"x": 1, "y": 1}

    def init_params(self, rng):
        return {"a": np.array(1.4), "b": np.array(0.3)}

    def step(self, params, state, inputs, xp):
        x, y = self.split(state)
        return xp.concat((1 - params["a"] * x * x + y, params["b"] * x), axis=-1)


@dataclass(frozen=True, eq=False)
class OneBlock(Cell):
    """h = tanh(U h + W x), a cell with nothing but its step; others are made of it."""

    name = "one_block"
    input_size: int = 2

    @property
    def blocks(self):
        return {"h": 3}

    def init_params(self, rng):
        m = self.state_size
        return {"U": rng.standard_normal((m, m)) / 2, "W": rng.standard_normal((m, self.input_size))}

    def step(self, params, state, inputs, xp):
        return xp.tanh(state @ params["U"].T + inputs @ params["W"].T)


@contextmanager
def refused(error, *parts):
    """Within it this error is raised, and its message holds these parts."""
    with pytest.raises(error) as caught:
        yield
    for part in parts:
        assert part in str(caught.value), str(caught.value)


def reconfigured(run, **changes):
    """Let the run in a folder seem to have been begun otherwise."""
    file = Path(run) / "run.json"
    record = json.loads(file.read_text())
    text = json.dumps(record["configuration"] | changes, sort_keys=True)
    changed = {"configuration": json.loads(text), "configuration_hash": sha256(text.encode()).hexdigest()}
    file.write_text(json.dumps(record | changed))


def broken(hook, implementation, **members):
    """A mitigation with this one hook implementation."""
    members = {"name": "broken", "__annotations__": {}, hook: implementation, **members}
    cls = type("Broken", (Mitigation,), members)
    return dataclass(frozen=True, eq=False)(cls)()


def returning(change):
    """A wrapper that hands on what `change` makes of the result so far."""

    @hookimpl(wrapper=True)
    def implementation(self):
        return change((yield))

    return implementation


def loss_of(cell, params, **arguments):
    """The loss of a run with these parameters, for finite differences."""
    return gradsim.simulate(cell, params=params, record=["loss"], **arguments).attrs["loss"]


def numerical_gradient(function, params, name, h=1e-6):
    """Central differences of a scalar function of the parameters, component by component."""
    gradient = np.zeros(params[name].shape)
    for i in np.ndindex(gradient.shape):
        values = []
        for sign in (1, -1):
            moved = {n: p.copy() for n, p in params.items()}
            moved[name][i] += sign * h
            values.append(function(moved))
        gradient[i] = (values[0] - values[1]) / (2 * h)
    return gradient


def assert_gradient_of_the_loss(cell, inputs):
    """The recorded gradient is that of the loss by central differences, parameter by parameter."""
    params = cell.init_params(np.random.default_rng(5))
    ds = gradsim.simulate(cell, inputs, params=params, record=["gradient"], rng=3)
    for name in params:
        expected = numerical_gradient(lambda p: loss_of(cell, p, inputs=inputs, rng=3), params, name)
        np.testing.assert_allclose(ds[f"gradient_{name}"], expected, rtol=1e-6, atol=1e-8)


def assert_trained_and_derived_by_jax(cell):
    """A few updates of a training are sound, and derivatives by JAX those by autograd."""
    task = Adding(length=20)
    ds = gradsim.train(cell, task, optimizer=Adam(), updates=3, batch=4, rng=0)
    assert np.isfinite(ds.train_loss).all()
    assert (ds.train_gradient_norm > 0).all()
    one, other = (
        gradsim.simulate(cell, task=task, batch=2, rng=0, record=["gradient", "adjoint"], derivatives=by)
        for by in ("autograd", "jax")
    )
    for name in one.data_vars:
        np.testing.assert_allclose(other[name], one[name], rtol=1e-9, atol=1e-12)


def exponential(a):
    """Of a skew-symmetric matrix, by the eigenvectors of i A, which is Hermitian."""
    phases, vectors = np.linalg.eigh(1j * a)
    return ((vectors * np.exp(-1j * phases)) @ vectors.conj().T).real


def descent(optimizer, start, gradient, updates):
    """The parameters after each update; `gradient` is a function of the update, from 1, and of them."""
    params = np.array(start)
    slots = {n: np.zeros_like(params) for n in optimizer.slots}
    found = []
    for u in range(1, updates + 1):
        given = np.asarray(gradient(u, params), dtype=params.dtype)
        params = params + optimizer.change(params, given, slots, optimizer.rate(u, updates), u)
        found.append(params)
    return np.stack(found)


def flat(ds, prefix="effective_gradient"):
    names = [n for n in sorted(ds) if n.startswith(f"{prefix}_") and not n.endswith("_factor")]
    return np.concatenate([ds[n].values.ravel() for n in names])

"""One work in gradsim, JAX and PyTorch: loss, adjoints, gradient; compared first, then timed in rounds."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import torch
from measured import spread

import gradsim
from gradsim import Episode, Task, squared_error

HERE = Path(__file__).parent
INPUT, BATCH, STEPS = 4, 32, 200
JAX = SimpleNamespace(**vars(jnp) | {"sigmoid": jax.nn.sigmoid})
REST = 0.05
"""Seconds between two runs, in which the threads of the one before stop spinning."""


@dataclass(frozen=True, eq=False)
class Follow(Task):
    """One target (time, batch, 1) at every step, on given inputs."""

    name = "follow"
    inputs: np.ndarray
    targets: np.ndarray

    @property
    def input_size(self):
        return INPUT

    @property
    def output_size(self):
        return 1

    def sample(self, rng, batch):
        return Episode(self.inputs, self.targets, np.full(self.targets.shape[:2], 1 / len(self.targets)))

    def loss(self, outputs, targets, xp):
        return squared_error(outputs, targets, xp)


def jax_run(step, m, params, task, by_step=False):
    """Loss, adjoints, gradient (by step: contributions, from a copy of the parameters for each step)."""
    p, readout = ({k: jnp.asarray(v) for k, v in part.items()} for part in apart(params))
    x, y = jnp.asarray(task.inputs), jnp.asarray(task.targets)
    added, width = jnp.zeros((*x.shape[:2], m), x.dtype), params["readout_W"].shape[1]
    if by_step:
        p = {name: jnp.broadcast_to(v, (len(x), *v.shape)) for name, v in p.items()}

    def loss(p, readout, added):
        def advance(s, now):
            copy, u, more = now
            s = step(JAX, copy if by_step else p, s, u) + more
            return s, s[:, :width]

        start = jnp.zeros((x.shape[1], m), x.dtype)
        outputs = jax.lax.scan(advance, start, (p if by_step else x[:, 0, 0], x, added))[1]
        return jnp.mean((outputs @ readout["readout_W"].T + readout["readout_b"] - y) ** 2)

    whole = jax.jit(jax.value_and_grad(loss, (0, 1, 2)))

    def run():
        value, (gradient, _, adjoint) = whole(p, readout, added)
        return float(value), np.asarray(adjoint), {name: np.asarray(v) for name, v in gradient.items()}

    return run


def apart(params):
    """(those of the cell, those of the readout)."""
    readout = {n: p for n, p in params.items() if n.startswith("readout")}
    return {n: p for n, p in params.items() if n not in readout}, readout


class Modules:
    """PyTorch modules with our weights, and the loss."""

    def __init__(self, cell, params, task, names):
        self.module = getattr(torch.nn, names[cell.name])(INPUT, cell.hidden_size)
        self.readout = torch.nn.Linear(cell.hidden_size, 1)
        self.inputs, self.targets = torch.from_numpy(task.inputs), torch.from_numpy(task.targets)
        ours = {"ih": "W", "hh": "U"}
        with torch.no_grad():
            self.readout.weight.copy_(torch.from_numpy(params["readout_W"]))
            self.readout.bias.copy_(torch.from_numpy(params["readout_b"]))
            for name, value in self.module.named_parameters():
                kind, side = name.split("_")[:2]
                own = ours[side] if kind == "weight" else {"ih": "b", "hh": "c"}[side]
                value.copy_(torch.from_numpy(params[own]) if own in params else torch.zeros_like(value))

    def loss(self, outputs):
        """Backwards too."""
        for part in (self.module, self.readout):
            part.zero_grad()
        loss = torch.mean((self.readout(outputs) - self.targets) ** 2)
        loss.backward()
        return loss.item()


def torch_fused(cell, params, task):
    t = Modules(cell, params, task, {"elman": "RNN", "gru": "GRU", "lstm": "LSTM"})
    return lambda: (t.loss(t.module(t.inputs)[0]), None, None)


def torch_loop(cell, params, task):
    t = Modules(cell, params, task, {"elman": "RNNCell", "gru": "GRUCell", "lstm": "LSTMCell"})

    def run():
        h = c = torch.zeros(BATCH, cell.hidden_size)
        kept = []
        for row in t.inputs:
            if cell.name == "lstm":
                h, c = t.module(row, (h, c))
            else:
                h = t.module(row, h)
            h.retain_grad()
            kept.append(h)
        loss = t.loss(torch.stack(kept))
        return loss, torch.stack([h.grad for h in kept]).numpy(), None

    return run


def ours(cell, params, task, by_step=False, **more):
    kind = "contribution" if by_step else "gradient"
    given = {"task": task, "batch": task.inputs.shape[1], "params": params, "dtype": "float32", **more}

    def run():
        ds = gradsim.simulate(cell, record=["loss", "adjoint", kind], **given)
        values = {n: ds[f"{kind}_{n}"].values for n in apart(params)[0]}
        return ds.attrs["loss"], ds.adjoint.values[1:], values

    return run


@contextmanager
def without_numba():
    os.environ["GRADSIM_COMPILED"] = "0"
    yield
    del os.environ["GRADSIM_COMPILED"]


def in_numpy(run):
    with without_numba():
        return run()


def seconds(run):
    """Of a run that comes right after one like it, as in a loop: what it needs is in the caches."""
    time.sleep(REST)
    run()
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def given(cell, batch, steps):
    """Parameters with a readout, and a task, in float32."""
    rng = np.random.default_rng(0)
    n = cell.output_size
    drawn = cell.init_params(rng) | {
        "readout_W": rng.standard_normal((1, n)) / n**0.5,
        "readout_b": np.ones(1),
    }
    params = {name: p.astype(np.float32) for name, p in drawn.items()}
    return params, Follow(*(rng.standard_normal((steps, batch, k)).astype(np.float32) for k in (INPUT, 1)))


def timed(runs, rounds):
    """Seconds of each run in each round."""
    times = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            times[name].append(seconds(run))
    return times


def agree(runs, n):
    """Everything that a peer gives is the same to single precision."""
    loss, adjoint, parts = runs["gradsim"]()

    def close(name, one, other):
        error = np.abs(one - other).max() / np.abs(other).max()
        if not error < 1e-3:
            raise SystemExit(f"{name} does not agree with gradsim: relative difference {error:.1e}")

    for name, run in runs.items():
        other_loss, other_adjoint, other_parts = run()
        close(f"{name}: loss", np.array(loss), np.array(other_loss))
        if other_adjoint is not None:
            close(f"{name}: adjoint", adjoint[..., :n], other_adjoint[..., :n])
        for p in other_parts or {}:
            close(f"{name}: {p}", parts[p], other_parts[p])


def cold(codes, rounds):
    """Seconds from the start of a process to its end: of each {name: (code, environment)}."""
    times = {name: [] for name in codes}
    for turn in range(rounds + 1):
        for name, (code, more) in codes.items():
            start = time.perf_counter()
            environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), *sys.path[1:]])} | more
            subprocess.run(
                [sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL, env=environment
            )
            if turn:  # the first one fills the caches on disk
                times[name].append(time.perf_counter() - start)
    return {name: {"label": name, "seconds": spread(found)} for name, found in times.items()}

"""Backpropagation through time: gradsim next to JAX and PyTorch, on the same work.

    python benchmarks/bptt.py                   # all works, at least five rounds each
    python benchmarks/bptt.py --works lstm_64 --rounds 9

The work is the forward pass, a loss at every step (the squared error of a linear readout), the adjoint at
every step and the gradient, in float32; last, the contribution of every step to the gradient too. Each
round runs gradsim (through `gradsim.simulate`) and the peers once, one after the other, with the same
weights, inputs and threads; what is quoted is the median of the ratios of the rounds, with its quartiles.
Before anything is timed the numbers are compared. Compilation is not timed.

The peers:

- jax: a scan, jitted, with the adjoints as the gradient of something added to each state;
- fused: `torch.nn.LSTM`, `GRU`, `RNN`, which cannot give adjoints: forward, loss and gradient alone;
- loop: a loop over `torch.nn.LSTMCell`, ... that retains the gradient of every h, as people write it;
- numpy: gradsim without numba.

Afterwards gradsim alone with the loss at the last step, at gains at which adjoints vanish and at which they
do not, and the time that a process takes to its first result, for gradsim with and without numba and for JAX.
Writes bptt.json and bptt.png beside this file, and the tables of the pages. Needs the extra `bench`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
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
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from measured import dots, machine, middle, ratios, spread
from steps import STEPS as STEP
from tables import put
from threadpoolctl import threadpool_limits

import gradsim
from gradsim import Episode, Task, squared_error
from gradsim_cells import GRU, LRU, LSTM, Elman
from gradsim_initializers import Ring

HERE = Path(__file__).parent
INPUT, BATCH, STEPS = 4, 32, 200
KINDS = {"elman": Elman, "gru": GRU, "lstm": LSTM}
WORKS = {f"{kind}_{n}": cell(INPUT, n) for kind, cell in KINDS.items() for n in (32, 64, 128, 256)}
COLUMNS = ("jax", "fused", "loop", "numpy")
GAINS = (0.5, 1.0, 2.0)
GAINED = {
    "Elman 64": lambda gain: Elman(INPUT, 64, recurrent_scale=gain),
    "GRU 64": lambda gain: GRU(INPUT, 64, recurrent_scale=gain),
    "LSTM 64": lambda gain: LSTM(INPUT, 64, recurrent_scale=gain, forget_bias=4 * (gain - 1)),
    "LRU 64": lambda gain: LRU(INPUT, 64, recurrent_init=Ring(0.4 * gain, 0.4 * gain + 0.19)),
}
"""Adjoints of the last loss vanish at the first of the gains, and are about as large as it at the last."""
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


def compare(cell, rounds, by_step=False):
    """The ratios peer / ours with spread, and the median of our seconds."""
    params, task = given(cell, BATCH, STEPS)
    mine = ours(cell, params, task, by_step)
    jax_one = jax_run(STEP[cell.name], cell.state_size, params, task, by_step)
    runs = {"gradsim": mine, "jax": jax_one, "numpy": lambda: in_numpy(mine)}
    if not by_step:
        runs |= {"fused": torch_fused(cell, params, task), "loop": torch_loop(cell, params, task)}
    agree(runs, cell.hidden_size)
    times = timed(runs, rounds)
    return ratios(times) | {"seconds": statistics.median(times["gradsim"])}


@dataclass(frozen=True, eq=False)
class Last(Follow):
    """The loss at the last step alone."""

    name = "last"

    def sample(self, rng, batch):
        weights = np.zeros(self.targets.shape[:2])
        weights[-1] = 1
        return Episode(self.inputs, self.targets, weights)


def vanishing(kind, dtype, rounds):
    """Seconds at each gain, and those of the slowest over those of the fastest."""
    runs = {}
    for gain in GAINS:
        cell = GAINED[kind](gain)
        params, task = given(cell, 16, STEPS)
        runs[gain] = ours(cell, params, Last(task.inputs, task.targets), dtype=dtype)
        runs[gain]()
    times = timed(runs, rounds)
    share = [max(row) / min(row) for row in zip(*times.values(), strict=True)]
    return {str(gain): statistics.median(found) for gain, found in times.items()} | {"share": spread(share)}


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


OURS_COLD = """
import numpy as np, gradsim
from gradsim_cells import LSTM
x = np.random.default_rng(0).standard_normal((200, 32, 4))
gradsim.simulate(LSTM(4, 64), x, record=["loss", "adjoint", "gradient"], dtype="float32")
"""

JAX_COLD = """
import jax, jax.numpy as jnp, numpy as np
rng = np.random.default_rng(0)
x = jnp.asarray(rng.standard_normal((200, 32, 4)), jnp.float32)
p = {"W": (256, 4), "U": (256, 64), "b": (256,)}
p = {n: jnp.asarray(rng.standard_normal(s) / 8, jnp.float32) for n, s in p.items()}
def loss(p, added, x):
    def advance(s, now):
        h, c = s
        i, f, g, o = jnp.split(now[0] @ p["W"].T + h @ p["U"].T + p["b"], 4, axis=1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return (jax.nn.sigmoid(o) * jnp.tanh(c) + now[1], c), None
    zero = jnp.zeros((32, 64))
    return jax.lax.scan(advance, (zero, zero), (x, added))[0][0].sum() / 32
value, (gradient, adjoint) = jax.jit(jax.value_and_grad(loss, (0, 1)))(p, jnp.zeros((200, 32, 64)), x)
print(value, np.asarray(adjoint).sum())
"""


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


def label(work):
    return f"{type(WORKS[work]).__name__} {WORKS[work].hidden_size}"


def table(results):
    lines = [f"{'work':22}" + "".join(f"{c:>9}" for c in COLUMNS) + f"{'ours':>12}"]
    for work, row in results.items():
        cells = [f"{middle(row[c]):.2f}x" if c in row else "-" for c in COLUMNS]
        lines.append(f"{work:22}" + "".join(f"{c:>9}" for c in cells) + f"{1e3 * row['seconds']:9.1f} ms")
    return "\n".join(lines)


LOOKS = {
    "jax": ("s", "#0072B2", "JAX"),
    "fused": ("o", "#D55E00", "PyTorch, fused"),
    "loop": ("D", "#CC79A7", "PyTorch, loop over a cell"),
    "numpy": ("^", "#009E73", "gradsim without numba"),
}


def draw(results, looks, xlabel, path):
    """Ratios by work, one marker for each of the peers in `looks`."""
    figure = Figure(figsize=(6.4, 0.36 * len(results) + 1.2), layout="constrained")
    ax = figure.subplots()
    dots(ax, results, looks)
    ax.set(xscale="log", xlabel=xlabel)
    ax.set_xticks([0.5, 1, 2, 4], ["0.5", "1", "2", "4"])
    ax.xaxis.set_minor_formatter(NullFormatter())
    figure.legend(frameon=False, loc="outside upper center", ncols=2)
    figure.savefig(path, dpi=200)


def chosen(description):
    """What the command line asks for: `works` and `rounds`."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--works", nargs="*", default=list(WORKS), choices=list(WORKS))
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


def main():
    options = chosen(__doc__)
    torch.set_num_threads(os.cpu_count() or 1)
    results = {}
    with threadpool_limits(os.cpu_count()):
        for work in options.works:
            results[work] = {"label": label(work), **compare(WORKS[work], options.rounds)}
            print(table({work: results[work]}).splitlines()[-1], flush=True)
        if options.works != list(WORKS):
            return
        by_step = compare(WORKS["lstm_64"], options.rounds, by_step=True)
        results["lstm_64 by step"] = {"label": f"{label('lstm_64')}, gradient by step", **by_step}
        gains = {}
        for kind, dtype in itertools.product(GAINED, ("float32", "float64")):
            gains[f"{kind} {dtype}"] = {"label": f"{kind}, {dtype}", **vanishing(kind, dtype, options.rounds)}
    codes = {
        "gradsim": (OURS_COLD, {}),
        "gradsim without numba": (OURS_COLD, {"GRADSIM_COMPILED": "0"}),
        "JAX": (JAX_COLD, {}),
    }
    record = {
        "machine": machine(np, torch, jax),
        "rounds": options.rounds,
        "results": results,
        "gains": gains,
        "first": cold(codes, options.rounds),
    }
    (HERE / "bptt.json").write_text(json.dumps(record, indent=2) + "\n")
    draw(results, LOOKS, "Time of the peer over time of gradsim (1)", HERE / "bptt.png")
    put("bptt")


if __name__ == "__main__":
    main()

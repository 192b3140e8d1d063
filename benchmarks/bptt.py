"""Backpropagation through time: gradsim next to JAX and PyTorch, on the same work.

    python benchmarks/bptt.py                   # all works, at least five rounds each
    python benchmarks/bptt.py --works lstm_64 --rounds 9

The work is the forward pass, a loss at every step (the squared error of a linear readout), the adjoint at
every step and the gradient, in float32; last, the contribution of every step to the gradient too. Each
round runs gradsim (through `gradsim.simulate`) and the peers once, one after the other, with the same
weights, inputs and threads; what is quoted is the median of the ratios of the rounds. Before anything is
timed the numbers are compared. Compilation is not timed.

The peers:

- jax: a scan, jitted, with the adjoints as the gradient of something added to each state;
- fused: `torch.nn.LSTM`, `GRU`, `RNN`, which cannot give adjoints: forward, loss and gradient alone;
- loop: a loop over `torch.nn.LSTMCell`, ... that retains the gradient of every h, as people write it;
- numpy: gradsim without numba.

Afterwards the time from the start of a process to the first result, for gradsim with and without numba and
for JAX. Writes bptt.json and bptt.png beside this file, and the table of the README. Needs the extra `bench`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from tables import put
from threadpoolctl import threadpool_limits

import gradsim
from gradsim import Episode, Task, squared_error
from gradsim_cells import GRU, LSTM, Elman

HERE = Path(__file__).parent
INPUT, BATCH, STEPS = 4, 32, 200
KINDS = {"elman": Elman, "gru": GRU, "lstm": LSTM}
WORKS = {f"{kind}_{n}": cell(INPUT, n) for kind, cell in KINDS.items() for n in (32, 64, 128, 256)}
COLUMNS = ("jax", "fused", "loop", "numpy")
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
        return Episode(self.inputs, self.targets, np.full((STEPS, BATCH), 1 / STEPS))

    def loss(self, outputs, targets, xp):
        return squared_error(outputs, targets, xp)


def jax_step(kind, p, s, x):
    """One step in JAX; the equations of the cells of gradsim."""
    n = p["b"].shape[0] // {"elman": 1, "gru": 3, "lstm": 4}[kind]
    if kind == "elman":
        return jnp.tanh(s @ p["W"].T + x @ p["U"].T + p["b"])
    a = x @ p["W"].T + p["b"]
    if kind == "gru":
        u = s @ p["U"].T + p["c"]
        r, z = jnp.split(jax.nn.sigmoid(a[:, : 2 * n] + u[:, : 2 * n]), 2, axis=1)
        return z * s + (1 - z) * jnp.tanh(a[:, 2 * n :] + r * u[:, 2 * n :])
    h, c = s[:, :n], s[:, n:]
    i, f, g, o = jnp.split(a + h @ p["U"].T, 4, axis=1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jnp.concatenate((jax.nn.sigmoid(o) * jnp.tanh(c), c), axis=1)


def jax_run(cell, params, task, by_step=False):
    """Loss, adjoints, gradient (by step: contributions, from a copy of the parameters for each step)."""
    n, m = cell.hidden_size, cell.state_size
    p, readout = ({k: jnp.asarray(v) for k, v in part.items()} for part in apart(params))
    x, y, added = jnp.asarray(task.inputs), jnp.asarray(task.targets), jnp.zeros((STEPS, BATCH, m))
    if by_step:
        p = {name: jnp.broadcast_to(v, (STEPS, *v.shape)) for name, v in p.items()}

    def loss(p, readout, added):
        def advance(s, now):
            copy, u, more = now
            s = jax_step(cell.name, copy if by_step else p, s, u) + more
            return s, s[:, :n]

        start = jnp.zeros((BATCH, m))
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
        ours = {"ih": "U", "hh": "W"} if cell.name == "elman" else {"ih": "W", "hh": "U"}
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


def ours(cell, params, task, by_step=False):
    kind = "contribution" if by_step else "gradient"
    record = ["loss", "adjoint", kind]

    def run():
        ds = gradsim.simulate(cell, task=task, batch=BATCH, params=params, record=record, dtype="float32")
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
    time.sleep(REST)
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def compare(cell, rounds, by_step=False):
    """Medians of the ratios peer / ours, and of our seconds."""
    rng = np.random.default_rng(0)
    n = cell.hidden_size
    drawn = cell.init_params(rng) | {
        "readout_W": rng.standard_normal((1, n)) / n**0.5,
        "readout_b": np.ones(1),
    }
    params = {name: p.astype(np.float32) for name, p in drawn.items()}
    task = Follow(*(rng.standard_normal((STEPS, BATCH, k)).astype(np.float32) for k in (INPUT, 1)))
    mine = ours(cell, params, task, by_step)
    runs = {"gradsim": mine, "jax": jax_run(cell, params, task, by_step), "numpy": lambda: in_numpy(mine)}
    if not by_step:
        runs |= {"fused": torch_fused(cell, params, task), "loop": torch_loop(cell, params, task)}
    agree(runs, cell.hidden_size)
    times = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            times[name].append(seconds(run))
    result = {
        name: statistics.median(t / o for t, o in zip(times[name], times["gradsim"], strict=True))
        for name in COLUMNS
        if name in runs
    }
    return result | {"seconds": statistics.median(times["gradsim"])}


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


def first_results(rounds):
    """Seconds from the start of a process to the first result of LSTM 64."""

    def cold(code):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - start

    cold(OURS_COLD)  # fills numba's cache on disk
    times = {"gradsim": [], "gradsim without numba": [], "jax": []}
    for _ in range(rounds):
        times["gradsim"].append(cold(OURS_COLD))
        with without_numba():
            times["gradsim without numba"].append(cold(OURS_COLD))
        times["jax"].append(cold(JAX_COLD))
    return {name: statistics.median(t) for name, t in times.items()}


def label(work):
    return f"{type(WORKS[work]).__name__} {WORKS[work].hidden_size}"


def table(results):
    lines = [f"{'work':22}" + "".join(f"{c:>9}" for c in COLUMNS) + f"{'ours':>12}"]
    for work, row in results.items():
        cells = [f"{row[c]:.2f}x" if c in row else "-" for c in COLUMNS]
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
    for name, (marker, colour, label) in looks.items():
        there = [(row[name], i) for i, row in enumerate(results.values()) if name in row]
        ax.plot(*zip(*there, strict=True), marker, color=colour, label=label)
    ax.set_yticks(range(len(results)), [row["label"] for row in results.values()])
    ax.axvline(1, color="0.6", linewidth=0.8, zorder=0)
    ax.set(xscale="log", xlabel=xlabel)
    ax.set_xticks([0.5, 1, 2, 4], ["0.5", "1", "2", "4"])
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.invert_yaxis()
    figure.legend(frameon=False, loc="outside upper center", ncols=2)
    ax.spines[["top", "right"]].set_visible(False)
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
    if options.works == list(WORKS):
        by_step = compare(WORKS["lstm_64"], options.rounds, by_step=True)
        results["lstm_64 by step"] = {"label": f"{label('lstm_64')}, gradient by step", **by_step}
        first = first_results(options.rounds)
        machine = {"processor": platform.machine(), "cores": os.cpu_count(), "numpy": np.__version__}
        versions = {"torch": torch.__version__, "jax": jax.__version__}
        record = {
            "machine": machine | versions,
            "rounds": options.rounds,
            "results": results,
            "first result of lstm_64, seconds": first,
        }
        (HERE / "bptt.json").write_text(json.dumps(record, indent=2) + "\n")
        draw(results, LOOKS, "Time of the peer over time of gradsim (1)", HERE / "bptt.png")
        put("bptt")
        print("\n".join(f"first result of lstm_64, {name}: {s:.2f} s" for name, s in first.items()))
    print("\n" + table(results))


if __name__ == "__main__":
    main()

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

Afterwards gradsim alone with the loss at the last step, with weights at which adjoints vanish and at which
they do not, and the time that a process takes to its first result, for gradsim with and without numba and for
JAX. Writes bptt.json and bptt.png beside this file, and the tables of the pages. Needs the extra `bench`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from measured import dots, machine, middle, ratios, spread
from peers import (
    BATCH,
    INPUT,
    STEPS,
    Follow,
    agree,
    cold,
    given,
    in_numpy,
    jax_run,
    ours,
    timed,
    torch_fused,
    torch_loop,
)
from steps import STEPS as STEP
from tables import put
from threadpoolctl import threadpool_limits

from gradsim import Episode
from gradsim_cells import GRU, LRU, LSTM, Elman
from gradsim_initializers import Ring

HERE = Path(__file__).parent
KINDS = {"elman": Elman, "gru": GRU, "lstm": LSTM}
WORKS = {f"{kind}_{n}": cell(INPUT, n) for kind, cell in KINDS.items() for n in (32, 64, 128, 256)}
COLUMNS = ("jax", "fused", "loop", "numpy")
SCALES = (0.5, 1.0, 2.0)
SCALED = {
    "Elman 64": lambda scale: Elman(INPUT, 64, recurrent_scale=scale),
    "GRU 64": lambda scale: GRU(INPUT, 64, recurrent_scale=scale),
    "LSTM 64": lambda scale: LSTM(INPUT, 64, recurrent_scale=scale, forget_bias=4 * (scale - 1)),
    "LRU 64": lambda scale: LRU(INPUT, 64, recurrent_init=Ring(0.4 * scale, 0.4 * scale + 0.19)),
}
"""Adjoints of the last loss vanish at the first of the scales, and are about as large as it at the last."""


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
    """Seconds at each scale, and those of the slowest over those of the fastest."""
    runs = {}
    for scale in SCALES:
        cell = SCALED[kind](scale)
        params, task = given(cell, 16, STEPS)
        runs[scale] = ours(cell, params, Last(task.inputs, task.targets), dtype=dtype)
        runs[scale]()
    times = timed(runs, rounds)
    share = [max(row) / min(row) for row in zip(*times.values(), strict=True)]
    return {str(scale): statistics.median(found) for scale, found in times.items()} | {"share": spread(share)}


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
        scales = {}
        for kind, dtype in itertools.product(SCALED, ("float32", "float64")):
            found = vanishing(kind, dtype, options.rounds)
            scales[f"{kind} {dtype}"] = {"label": f"{kind}, {dtype}", **found}
    codes = {
        "gradsim": (OURS_COLD, {}),
        "gradsim without numba": (OURS_COLD, {"GRADSIM_COMPILED": "0"}),
        "JAX": (JAX_COLD, {}),
    }
    record = {
        "machine": machine(np, torch, jax),
        "rounds": options.rounds,
        "results": results,
        "scales": scales,
        "first": cold(codes, options.rounds),
    }
    (HERE / "bptt.json").write_text(json.dumps(record, indent=2) + "\n")
    draw(results, LOOKS, "Time of the peer over time of gradsim (1)", HERE / "bptt.png")
    put("bptt")


if __name__ == "__main__":
    main()

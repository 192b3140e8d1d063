"""Training: gradsim next to PyTorch and JAX, on the same work.

    python benchmarks/training.py                    # all works, at least five rounds each
    python benchmarks/training.py --works lstm_64 --rounds 9

The work is an update: the forward pass, the squared error of a linear readout at every step, the backward
pass and Adam, in float32, with a batch of 32 sequences of 200 steps that is the same every time. gradsim goes
through `gradsim.train`, with everything on that it notes of every update, and once more with that off. Each
round does 20 updates with gradsim and with each peer, one after the other, from the same parameters and with
the same threads; what is quoted is the median of the ratios of the rounds. Before anything is timed the
parameters after these updates are compared. Compilation is not timed.

The peers:

- jax: a scan, jitted together with optax.adam;
- fused: `torch.nn.LSTM`, `GRU`, `RNN` with torch.optim.Adam;
- loop: a loop over `torch.nn.LSTMCell`, ... with torch.optim.Adam, as people write it.

Writes training.json and training.png beside this file, and the tables of the pages. Needs the extra `bench`.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from bptt import LOOKS, WORKS, chosen, draw, label
from measured import machine, middle, ratios
from peers import BATCH, JAX, REST, STEPS, Modules, given
from steps import STEPS as STEP
from tables import put
from threadpoolctl import threadpool_limits

import gradsim
from gradsim_optimizers import Adam

HERE = Path(__file__).parent
UPDATES, RATE = 20, 1e-3
PEERS = ("jax", "fused", "loop")


class Clock:
    """Seconds of all updates but the first, from the report of a training."""

    def __init__(self):
        self.times = []

    def __call__(self, event):
        if event["event"] == "update":
            self.times.append(time.perf_counter())

    @property
    def seconds(self):
        return self.times[-1] - self.times[0]


def ours(cell, params, task, **more):
    """Parameters after the updates, and the seconds that they took."""

    def run():
        clock = Clock()
        ds = gradsim.train(
            cell,
            task,
            optimizer=Adam(learning_rate=RATE),
            updates=UPDATES + 1,
            batch=task.inputs.shape[1],
            params=params,
            dtype="float32",
            progress=False,
            report=clock,
            **more,
        )
        return gradsim.trained_params(ds), clock.seconds

    return run


def in_jax(step, m, params, task):
    width = params["readout_W"].shape[1]
    x, y = jnp.asarray(task.inputs), jnp.asarray(task.targets)
    optimizer = optax.adam(RATE)

    def loss(p):
        def advance(s, u):
            s = step(JAX, p, s, u)
            return s, s[:, :width]

        outputs = jax.lax.scan(advance, jnp.zeros((x.shape[1], m)), x)[1]
        return jnp.mean((outputs @ p["readout_W"].T + p["readout_b"] - y) ** 2)

    @jax.jit
    def update(p, state):
        value, gradient = jax.value_and_grad(loss)(p)
        change, state = optimizer.update(gradient, state)
        return optax.apply_updates(p, change), state, value

    def run():
        p = {name: jnp.asarray(v) for name, v in params.items()}
        p, state, value = update(p, optimizer.init(p))
        value.block_until_ready()
        start = time.perf_counter()
        for _ in range(UPDATES):
            p, state, value = update(p, state)
            float(value)
        return {name: np.asarray(v) for name, v in p.items()}, time.perf_counter() - start

    return run


def in_torch(cell, params, task, names, outputs):
    """With a module of these names; `outputs` are those at every step."""

    def run():
        t = Modules(cell, params, task, names)
        theirs = {**dict(t.module.named_parameters()), "R": t.readout.weight, "r": t.readout.bias}
        trained = [p for name, p in theirs.items() if not _doubled(cell, name)]
        optimizer = torch.optim.Adam(trained, lr=RATE)

        def update():
            t.loss(outputs(t))  # backwards too
            optimizer.step()

        update()
        start = time.perf_counter()
        for _ in range(UPDATES):
            update()
        taken = time.perf_counter() - start
        return {"readout_W": t.readout.weight.detach().numpy()}, taken

    return run


def _doubled(cell, name):
    """PyTorch adds two biases; the second one, which ours has not, stays zero."""
    return "bias_hh" in name and cell.name != "gru"


def fused(cell, params, task):
    names = {"elman": "RNN", "gru": "GRU", "lstm": "LSTM"}
    return in_torch(cell, params, task, names, lambda t: t.module(t.inputs)[0])


def loop(cell, params, task):
    names = {"elman": "RNNCell", "gru": "GRUCell", "lstm": "LSTMCell"}

    def outputs(t):
        h = c = torch.zeros(BATCH, cell.hidden_size)
        kept = []
        for row in t.inputs:
            if cell.name == "lstm":
                h, c = t.module(row, (h, c))
            else:
                h = t.module(row, h)
            kept.append(h)
        return torch.stack(kept)

    return in_torch(cell, params, task, names, outputs)


def compare(cell, rounds):
    """The ratios peer / ours and what watching costs, with spread, and our updates per second."""
    params, task = given(cell, BATCH, STEPS)
    runs = {
        "gradsim": ours(cell, params, task),
        "unwatched": ours(cell, params, task, watch=False),
        "jax": in_jax(STEP[cell.name], cell.state_size, params, task),
        "fused": fused(cell, params, task),
        "loop": loop(cell, params, task),
    }
    agree(runs)
    times = timed(runs, rounds)
    found = ratios(times)
    found["overhead"] = [1 / share - 1 for share in found.pop("unwatched")[::-1]]
    return found | {"updates_per_second": UPDATES / statistics.median(times["gradsim"])}


def timed(runs, rounds):
    """The seconds that each run says it took, in each round."""
    times = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            time.sleep(REST)
            times[name].append(run()[1])
    return times


def agree(runs):
    """The parameters that a peer gives are the same to single precision."""
    mine, _ = runs["gradsim"]()
    for name, run in runs.items():
        for p, value in run()[0].items():
            error = np.abs(mine[p] - value).max() / np.abs(value).max()
            if not error < 1e-3:
                raise SystemExit(f"{name} does not agree with gradsim: {p} differs by {error:.1e}")


def table(results):
    lines = [f"{'work':12}" + "".join(f"{c:>9}" for c in PEERS) + f"{'overhead':>10}{'updates/s':>11}"]
    for work, row in results.items():
        cells = "".join(f"{middle(row[c]):8.2f}x" for c in PEERS)
        lines.append(
            f"{work:12}{cells}{100 * middle(row['overhead']):9.1f}%{row['updates_per_second']:11.1f}"
        )
    return "\n".join(lines)


def main():
    options = chosen(__doc__)
    torch.set_num_threads(os.cpu_count() or 1)
    results = {}
    with threadpool_limits(os.cpu_count()):
        for work in options.works:
            results[work] = {"label": label(work), **compare(WORKS[work], options.rounds)}
            print(table({work: results[work]}).splitlines()[-1], flush=True)
    if options.works == list(WORKS):
        record = {
            "machine": machine(np, torch, jax, optax),
            "rounds": options.rounds,
            "results": results,
        }
        (HERE / "training.json").write_text(json.dumps(record, indent=2) + "\n")
        xlabel = "Time of an update of the peer over that of gradsim (1)"
        draw(results, {peer: LOOKS[peer] for peer in PEERS}, xlabel, HERE / "training.png")
        put("training")
    print("\n" + table(results))


if __name__ == "__main__":
    main()

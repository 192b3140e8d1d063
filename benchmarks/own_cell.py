"""A cell of one's own: gradsim with nothing but its `step`, next to JAX and PyTorch as a user writes them.

    python benchmarks/own_cell.py                       # some twenty works, five rounds each
    python benchmarks/own_cell.py --works lstm_64_16_200 --rounds 9
    python benchmarks/own_cell.py --works all --rounds 3

A work is a cell, its size, the batch and the steps. The work is the forward pass, a loss at every step (the
squared error of a linear readout), the adjoint at every step and the gradient, in float32. All cells are the
same lines in every library (`steps.py`). Each round runs gradsim with derivatives from JAX and all others
once, one after the other, with the same weights, inputs and threads; what is quoted is the median of the
ratios of the rounds, with its quartiles. Before anything is timed the numbers are compared. Compilation is
not timed.

- jax: a scan, jitted, with the adjoints as the gradient of something added to each state;
- torch: a loop that retains the gradient of every state;
- shipped: the cell of gradsim with derivatives by hand;
- autograd: gradsim with derivatives from autograd;
- training: an update with Adam in JAX and optax, over one of `gradsim.train`.

Afterwards the time from the start of a process to its first result. Writes own_cell.json and own_cell.png
beside this file, and the tables of the pages. Needs the extra `bench`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import tempfile
from pathlib import Path

import jax
import numpy as np
import optax
import torch
import training
from measured import dot_figure, machine, middle, ratios
from own_cells import SHIPPED, Own
from peers import agree, apart, cold, given, jax_run, ours, timed
from steps import STEPS
from tables import put
from threadpoolctl import threadpool_limits

HERE = Path(__file__).parent
SIZES, BATCHES, LENGTHS = (16, 64, 256), (1, 16, 32), (50, 200, 1000)
WORKS = {"_".join(map(str, work)): work for work in itertools.product(STEPS, SIZES, BATCHES, LENGTHS)}
SHAPES = [(16, 1, 1000), (16, 32, 50), (64, 16, 200), (256, 16, 50)]
DEFAULT = ["_".join(map(str, (kind, *shape))) for shape in SHAPES for kind in STEPS]
LOOKS = {
    "jax": ("s", "#0072B2", "JAX"),
    "torch": ("D", "#CC79A7", "PyTorch, loop"),
    "shipped": ("o", "#009E73", "shipped cell"),
    "autograd": ("^", "#E69F00", "ours by autograd"),
    "training": ("v", "#56B4E9", "update, JAX and optax"),
}
COLD = 64, 16, 200


def torch_run(step, m, params, task):
    """Loss, adjoints and gradient."""
    mine, readout = ({k: torch.from_numpy(v) for k, v in part.items()} for part in apart(params))
    x, y = torch.from_numpy(task.inputs), torch.from_numpy(task.targets)
    width = readout["readout_W"].shape[1]

    def run():
        p = {name: v.detach().requires_grad_() for name, v in mine.items()}
        state, states = torch.zeros(x.shape[1], m), []
        for row in x:
            state = step(torch, p, state, row)
            state.retain_grad()
            states.append(state)
        outputs = torch.stack(states)[..., :width] @ readout["readout_W"].T + readout["readout_b"]
        loss = torch.mean((outputs - y) ** 2)
        loss.backward()
        adjoints = torch.stack([s.grad for s in states]).numpy()
        return loss.item(), adjoints, {name: v.grad.numpy() for name, v in p.items()}

    return run


def compare(kind, n, batch, steps, rounds):
    """The ratios to gradsim by JAX with spread, and the median of its seconds."""
    cell, shipped, step = Own(kind, 4, n), SHIPPED[kind](4, n), STEPS[kind]
    params, task = given(cell, batch, steps)
    m = cell.state_size
    runs = {
        "gradsim": ours(cell, params, task, derivatives="jax"),
        "jax": jax_run(step, m, params, task),
        "torch": torch_run(step, m, params, task),
        "shipped": ours(shipped, params, task),
        "autograd": ours(cell, params, task, derivatives="autograd"),
    }
    agree(runs, m)
    times = timed(runs, rounds)
    updates = {
        "gradsim": training.ours(cell, params, task, derivatives="jax"),
        "training": training.in_jax(step, m, params, task),
        "training shipped": training.ours(shipped, params, task),
    }
    training.agree(updates)
    found = ratios(times) | ratios(training.timed(updates, rounds))
    return found | {"seconds": statistics.median(times["gradsim"])}


OURS_COLD = """
import numpy as np, gradsim
from own_cells import SHIPPED, Own
x = np.random.default_rng(0).standard_normal(({2}, {1}, 4))
gradsim.simulate({cell}, x, record=["loss", "adjoint", "gradient"], dtype="float32"{more})
"""

PEER_COLD = """
import numpy as np
from steps import STEPS
rng = np.random.default_rng(0)
x = rng.standard_normal(({2}, {1}, 4)).astype(np.float32)
shapes = {{"W": (4 * {0}, 4), "U": (4 * {0}, {0}), "b": (4 * {0},)}}
p = {{n: (rng.standard_normal(s) / 8).astype(np.float32) for n, s in shapes.items()}}
"""

JAX_COLD = """
import jax, jax.numpy as jnp
def loss(p, added, x):
    def advance(s, now):
        s = STEPS["lstm"](jnp, p, s, now[0]) + now[1]
        return s, s[:, :{0}].sum()
    return jax.lax.scan(advance, jnp.zeros(({1}, 2 * {0})), (x, added))[1].sum()
value, found = jax.jit(jax.value_and_grad(loss, (0, 1)))(p, jnp.zeros(({2}, {1}, 2 * {0})), x)
print(value, np.asarray(found[1]).sum())
"""

TORCH_COLD = """
import torch
p = {{n: torch.from_numpy(v).requires_grad_() for n, v in p.items()}}
s, states = torch.zeros({1}, 2 * {0}), []
for row in torch.from_numpy(x):
    s = STEPS["lstm"](torch, p, s, row)
    s.retain_grad()
    states.append(s)
torch.stack(states)[..., :{0}].sum().backward()
print(torch.stack([s.grad for s in states]).sum())
"""


def first_results(rounds):
    """Of LSTM in fresh processes."""
    own, shipped = f"Own('lstm', 4, {COLD[0]})", f"SHIPPED['lstm'](4, {COLD[0]})"

    def code(cell, derivatives=None):
        more = f', derivatives="{derivatives}"' if derivatives else ""
        return OURS_COLD.format(*COLD, cell=cell, more=more)

    with tempfile.TemporaryDirectory() as folder:
        codes = {
            "gradsim, own step by JAX": (code(own, "jax"), {}),
            "gradsim, own step by JAX, kept on disk": (code(own, "jax"), {"GRADSIM_JAX_CACHE": folder}),
            "gradsim, own step by autograd": (code(own, "autograd"), {}),
            "gradsim, shipped cell": (code(shipped), {}),
            "JAX": ((PEER_COLD + JAX_COLD).format(*COLD), {}),
            "PyTorch, loop": ((PEER_COLD + TORCH_COLD).format(*COLD), {}),
        }
        return cold(codes, rounds)


def label(work):
    kind, n, batch, steps = WORKS[work]
    return f"{SHIPPED[kind].__name__} {n}, batch {batch}, {steps} steps"


def draw(results):
    dot_figure(
        results, LOOKS, "Time over that of gradsim with nothing but the step (1)", HERE / "own_cell.png"
    )


def line(work, row):
    cells = "".join(f"{name} {middle(row[name]):.2f}x  " for name in LOOKS)
    return f"{work:20} {cells}{1e3 * row['seconds']:.1f} ms"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--works", nargs="*", default=DEFAULT, choices=[*WORKS, "all"], metavar="WORK")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    works = list(WORKS) if "all" in options.works else options.works
    torch.set_num_threads(os.cpu_count() or 1)
    results = {}
    with threadpool_limits(os.cpu_count()):
        for work in works:
            results[work] = {"label": label(work), **compare(*WORKS[work], options.rounds)}
            print(line(work, results[work]), flush=True)
    for peer in ("jax", "shipped", "training"):
        found = [middle(row[peer]) for row in results.values()]
        print(f"{peer}: median {statistics.median(found):.2f}x, least {min(found):.2f}x")
    if not set(DEFAULT) <= set(works):
        return
    record = {
        "machine": machine(np, torch, jax, optax),
        "rounds": options.rounds,
        "results": results,
        "first": first_results(options.rounds),
    }
    (HERE / "own_cell.json").write_text(json.dumps(record, indent=2) + "\n")
    draw(results)
    put("own_cell")


if __name__ == "__main__":
    main()

"""Rules in place of backpropagation: gradsim next to JAX and PyTorch as an expert writes them.

    python benchmarks/rules.py                  # all works, five rounds each
    python benchmarks/rules.py --works rtrl_elman_64 --rounds 9

The work is the forward pass, a loss at every step (the squared error of a linear readout), and the gradient
of the cell by the rule, with the influence carried forward through all steps, in float32. All cells are the
same lines in the peers (`steps.py`). Each round runs gradsim and the peers once, one after the other, with
the same weights and inputs and on one core; what is quoted is the median of the ratios of the rounds, of the
time of the processor, with its quartiles. Before anything is timed the gradients are compared. Compilation
is not timed.

- jax: a scan, jitted: J_t and I_t of a sequence by `jacrev`, M_t = J_t M_{t-1} + I_t, under `vmap`;
- torch: the same in a loop, by `torch.func`, of the smallest cells;
- backpropagation: gradsim without a rule.

SnAp-1 and e-prop keep of M_t what a parameter acts on in its own unit: row i of a matrix feeds unit i mod n,
and I_t is one way back for each block of the state. On an LRU that is RTRL itself, and the peers do that.

Writes rules.json and rules.png beside this file, and the tables of the pages. Needs the extra `bench`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import torch
from measured import dot_figure, machine, middle, ratios
from own_cells import SHIPPED
from peers import INPUT, JAX, apart, given
from steps import STEPS
from tables import put
from threadpoolctl import threadpool_limits

import gradsim
from gradsim_mitigations import RTRL, EProp, SnAp

HERE = Path(__file__).parent
RULES = {"rtrl": RTRL(), "snap": SnAp(), "e_prop": EProp()}
NAMES = {"rtrl": "RTRL", "snap": "SnAp-1", "e_prop": "e-prop"}
SIZES = {
    "rtrl": {"elman": (16, 32, 64), "gru": (16, 32), "lru": (64, 256)},
    "snap": {"elman": (64, 128), "gru": (64, 128)},
    "e_prop": {"lstm": (16, 64)},
}
WORKS = {f"{r}_{kind}_{n}": (r, kind, n) for r, kinds in SIZES.items() for kind in kinds for n in kinds[kind]}
BATCH, LENGTH = 8, 50
LOOKS = {
    "jax": ("s", "#0072B2", "JAX"),
    "torch": ("D", "#CC79A7", "PyTorch, loop"),
    "backpropagation": ("o", "#009E73", "backpropagation"),
}


class Whole:
    """RTRL: M_t (batch, m, *param) for each parameter."""

    def __init__(self, step, m, params, lib, xp):
        self.step, self.m, self.lib, self.xp = step, m, lib, xp

    def start(self, p, batch):
        return {n: self.xp.zeros((batch, self.m, *v.shape)) for n, v in p.items()}

    def take(self, p, s, x, influence):
        """J M + I."""
        jac = self.lib.jacrev
        jacobian, added = (self.lib.vmap(jac(self.step, i), (None, 0, 0))(p, s, x) for i in (1, 0))
        return {n: added[n] + self.xp.einsum("zij,zj...->zi...", jacobian, m) for n, m in influence.items()}

    def seen(self, q, influence):
        """q M."""
        return {n: self.xp.einsum("zi,zi...->...", q, m) for n, m in influence.items()}


class InUnit:
    """SnAp-1 and e-prop: M_t (batch, blocks, *param), of each row on the unit that it feeds."""

    def __init__(self, step, m, params, lib, xp):
        n = params["readout_W"].shape[1] // (2 if "nu" in params else 1)
        self.step, self.n, self.blocks, self.lib, self.xp = step, n, m // n, lib, xp
        self.ones = xp.asarray(np.repeat(np.eye(m // n, dtype=np.float32), n, axis=1))

    def start(self, p, batch):
        return {n: self.xp.zeros((batch, self.blocks, *v.shape)) for n, v in p.items()}

    def take(self, p, s, x, influence):
        def alone(s, x):
            jacobian = self.lib.jacrev(self.step, 1)(p, s, x).reshape(2 * (self.blocks, self.n))
            _, back = self.lib.vjp(lambda p: self.step(p, s, x), p)
            return jacobian.diagonal(0, 1, 3), self.lib.vmap(back)(self.ones)[0]

        jacobian, added = self.lib.vmap(alone)(s, x)
        return {
            n: added[n] + self.xp.einsum("zabi,zbi...->zai...", self._rows(jacobian, m), m)
            for n, m in influence.items()
        }

    def seen(self, q, influence):
        q = q.reshape(len(q), self.blocks, self.n)
        return {n: self.xp.einsum("zai,zai...->i...", self._rows(q, m), m) for n, m in influence.items()}

    def _rows(self, by_unit, influence):
        """What units have, for the rows of a parameter."""
        return by_unit[..., np.arange(influence.shape[2]) % self.n]


KINDS = {"rtrl": Whole, "snap": InUnit, "e_prop": InUnit}


def by_state(s, y, readout, count):
    """q, the derivative of one step's share of the mean squared error."""
    n = readout["readout_W"].shape[1]
    errors = 2 / count * (s[:, :n] @ readout["readout_W"].T + readout["readout_b"] - y)
    return errors @ readout["readout_W"], s.shape[1] - n


def jax_run(kind, step, m, params, task):
    """The gradient of the cell by name."""
    p, readout = ({k: jnp.asarray(v) for k, v in part.items()} for part in apart(params))
    x, y = jnp.asarray(task.inputs), jnp.asarray(task.targets)
    step = partial(step, JAX)
    rule = KINDS[kind](step, m, params, jax, jnp)

    @jax.jit
    def whole(p):
        def advance(carry, now):
            s, influence, gradient = carry
            influence = rule.take(p, s, now[0], influence)
            s = step(p, s, now[0])
            q, more = by_state(s, now[1], readout, y.size)
            seen = rule.seen(jnp.pad(q, ((0, 0), (0, more))), influence)
            return (s, influence, {n: g + seen[n] for n, g in gradient.items()}), None

        zeros = {n: jnp.zeros_like(v) for n, v in p.items()}
        start = jnp.zeros((x.shape[1], m)), rule.start(p, x.shape[1]), zeros
        return jax.lax.scan(advance, start, (x, y))[0][2]

    return lambda: {n: np.asarray(g) for n, g in whole(p).items()}


def torch_run(kind, step, m, params, task):
    """The same in a loop."""
    p, readout = ({k: torch.from_numpy(v) for k, v in part.items()} for part in apart(params))
    x, y = torch.from_numpy(task.inputs), torch.from_numpy(task.targets)
    step = partial(step, torch)
    rule = KINDS[kind](step, m, params, torch.func, torch)

    def run():
        s, influence = torch.zeros(x.shape[1], m), rule.start(p, x.shape[1])
        gradient = {n: torch.zeros_like(v) for n, v in p.items()}
        for u, target in zip(x, y, strict=True):
            influence = rule.take(p, s, u, influence)
            s = step(p, s, u)
            q, more = by_state(s, target, readout, y.numel())
            seen = rule.seen(torch.nn.functional.pad(q, (0, more)), influence)
            gradient = {n: g + seen[n] for n, g in gradient.items()}
        return {n: g.numpy() for n, g in gradient.items()}

    return run


def ours(cell, params, task, *rule):
    """By the rule, or by backpropagation."""
    kind = "effective_gradient" if rule else "gradient"
    setting = {"task": task, "batch": BATCH, "params": params, "dtype": "float32", "mitigations": rule}

    def run():
        ds = gradsim.simulate(cell, record=[kind], **setting)
        return {n: ds[f"{kind}_{n}"].values for n in apart(params)[0]}

    return run


def agree(runs):
    """Gradients are the same to single precision."""
    found = runs["gradsim"]()
    for name, run in runs.items():
        for n, other in run().items():
            error = np.abs(found[n] - other).max() / np.abs(other).max()
            if not error < 1e-3:
                raise SystemExit(f"{name} does not agree with gradsim: {n}, relative difference {error:.1e}")


def seconds(run):
    """Of the processor, in a run that comes right after one like it."""
    run()
    start = time.process_time()
    run()
    return time.process_time() - start


def compare(rule, kind, n, rounds):
    """The ratios peer / ours with spread, and the median of our seconds."""
    cell = SHIPPED[kind](INPUT, n)
    params, task = given(cell, BATCH, LENGTH)
    peer = "snap" if kind == "lru" else rule
    runs = {
        "gradsim": ours(cell, params, task, RULES[rule]),
        "jax": jax_run(peer, STEPS[kind], cell.state_size, params, task),
    }
    if n <= 16:
        runs["torch"] = torch_run(peer, STEPS[kind], cell.state_size, params, task)
    agree(runs)
    runs["backpropagation"] = ours(cell, params, task)
    times = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            times[name].append(seconds(run))
    return ratios(times) | {"seconds": statistics.median(times["gradsim"])}


def label(work):
    rule, kind, n = WORKS[work]
    return f"{NAMES[rule]}, {SHIPPED[kind].__name__} {n}"


def draw(results):
    dot_figure(results, LOOKS, "Time over that of gradsim (1)", HERE / "rules.png")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--works", nargs="*", default=list(WORKS), choices=list(WORKS), metavar="WORK")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):  # before JAX counts the cores
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    results = {}
    with threadpool_limits(1):
        for work in options.works:
            row = results[work] = {"label": label(work), **compare(*WORKS[work], options.rounds)}
            cells = "".join(f"{name} {middle(row[name]):.2f}x  " for name in LOOKS if name in row)
            print(f"{work:16} {cells}{1e3 * row['seconds']:.1f} ms", flush=True)
    if options.works != list(WORKS):
        return
    record = {"machine": machine(np, torch, jax), "rounds": options.rounds, "results": results}
    (HERE / "rules.json").write_text(json.dumps(record, indent=2) + "\n")
    draw(results)
    put("rules")


if __name__ == "__main__":
    main()

"""Norms of all Jacobian products: gradsim next to PyTorch and JAX, on the same work.

    python benchmarks/products.py                  # all works, at least five rounds each
    python benchmarks/products.py --works elman_64 --rounds 9

Each round runs gradsim (through `gradsim.simulate`) and the peers once, one after the other, with
the same weights, inputs, dtype (float32) and threads; what is quoted is the median of the ratios of the
rounds. Before anything is timed the norms are compared. Compilation is not timed.

The peers, from what people write to what an expert would:

- torch: `vmap(jacrev(step))` over time and batch, then one batched matmul a step;
- jax: the same, jitted, the products in a scan;
- jax by hand: as little work as the mathematics allows, for each cell (see `jax_by_hand`).

Writes products.json and products.png beside this file. Needs the extra `bench`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import torch
from matplotlib.figure import Figure
from threadpoolctl import threadpool_limits

import gradsim
from gradsim_cells import LRU, LSTM, Elman, MinGRU

HERE = Path(__file__).parent
INPUT = 4

# name: cell, batch, steps, and whether to wait for the peers that do all the work there is (minutes).
WORKS = {
    "elman_16": (Elman(INPUT, 16), 32, 200, True),
    "elman_32": (Elman(INPUT, 32), 32, 200, True),
    "elman_64": (Elman(INPUT, 64), 32, 100, True),
    "lstm_64": (LSTM(INPUT, 64), 8, 100, True),
    "elman_128": (Elman(INPUT, 128), 8, 100, True),
    "elman_256": (Elman(INPUT, 256), 8, 100, False),
    "min_gru_64_short": (MinGRU(INPUT, 64), 8, 100, True),
    "min_gru_256": (MinGRU(INPUT, 256), 8, 500, False),
    "lru_256": (LRU(INPUT, 256), 8, 500, False),
}


def elman(xp, p, s, x):
    return xp.tanh(s @ p["W"].T + x @ p["U"].T + p["b"])


def lstm(xp, p, s, x):
    n = s.shape[-1] // 2
    h, c = s[..., :n], s[..., n:]
    a = x @ p["W"].T + h @ p["U"].T + p["b"]
    i, f, g, o = (a[..., j * n : (j + 1) * n] for j in range(4))
    c = xp.sigmoid(f) * c + xp.sigmoid(i) * xp.tanh(g)
    return xp.concatenate((xp.sigmoid(o) * xp.tanh(c), c), axis=-1)


def min_gru(xp, p, s, x):
    a = x @ p["W"].T + p["b"]
    z = xp.sigmoid(a[..., : s.shape[-1]])
    return (1 - z) * s + z * a[..., s.shape[-1] :]


def lru(xp, p, s, x):
    n = s.shape[-1] // 2
    size, phase, gamma = xp.exp(-xp.exp(p["nu"])), xp.exp(p["theta"]), xp.exp(p["log_gamma"])
    a, b, re, im = size * xp.cos(phase), size * xp.sin(phase), s[..., :n], s[..., n:]
    return xp.concatenate(
        (a * re - b * im + gamma * (x @ p["B_re"].T), a * im + b * re + gamma * (x @ p["B_im"].T)), axis=-1
    )


STEPS = {"elman": elman, "lstm": lstm, "min_gru": min_gru, "lru": lru}


class JaxNames:
    """jax.numpy with the one name that it keeps elsewhere."""

    sigmoid = staticmethod(jax.nn.sigmoid)

    def __getattr__(self, name):
        return getattr(jnp, name)


def torch_user(step, params, x, m):
    """Norms (T+1, T+1, B), zero where t < k."""
    p = {n: torch.from_numpy(v) for n, v in params.items()}
    x = torch.from_numpy(x)

    def run():
        with torch.no_grad():
            states = [torch.zeros(x.shape[1], m)]
            for row in x:
                states.append(step(torch, p, states[-1], row))
            one = torch.func.jacrev(lambda s, u: step(torch, p, s, u))
            jacobians = torch.vmap(torch.vmap(one))(torch.stack(states[:-1]), x)
            norms = torch.zeros(len(x) + 1, len(x) + 1, x.shape[1])
            norms[0, 0] = m**0.5
            products = torch.eye(m).expand(1, x.shape[1], m, m)
            for t, jacobian in enumerate(jacobians, 1):
                products = torch.cat((jacobian @ products, torch.eye(m).expand(1, x.shape[1], m, m)))
                norms[t, : t + 1] = torch.linalg.matrix_norm(products)
            return norms.numpy()

    return run


def jax_states(step, p, x, m):
    def forward(s, u):
        return step(JaxNames(), p, s, u), s

    return jax.lax.scan(forward, jnp.zeros((x.shape[1], m), x.dtype), x)[1]


def jax_user(step, params, x, m):
    steps, batch = x.shape[:2]

    @jax.jit
    def run(p, x):
        one = jax.jacrev(lambda s, u: step(JaxNames(), p, s, u))
        jacobians = jax.vmap(jax.vmap(one))(jax_states(step, p, x, m), x)
        start = jnp.broadcast_to(jnp.eye(m, dtype=x.dtype), (steps + 1, batch, m, m))

        def advance(products, now):
            t, jacobian = now
            moved = jnp.einsum("bij,kbjl->kbil", jacobian, products)
            products = jnp.where((jnp.arange(steps + 1) < t)[:, None, None, None], moved, products)
            return products, jnp.sqrt(jnp.sum(products**2, axis=(-2, -1)))

        _, norms = jax.lax.scan(advance, start, (jnp.arange(1, steps + 1), jacobians))
        return jnp.concatenate((jnp.full((1, steps + 1, batch), m**0.5), norms))

    p = {n: jnp.asarray(v) for n, v in params.items()}
    return lambda: np.asarray(run(p, jnp.asarray(x)))


def jax_by_hand(kind, step, params, x, m):
    """Structure exploited, triangular work only: blocks of 20 sources that start where they begin.

    Elman: J P = diag(1 - h^2) (W P), one large matrix product with the shared W. MinGRU and LRU:
    products of numbers, real or complex. LSTM: the dense Jacobian, in blocks of sources.
    """
    steps, batch = x.shape[:2]
    diagonal = kind in ("min_gru", "lru")
    length = steps if diagonal else 20

    def matrices(p, states, x):
        if kind == "elman":
            return 1 - elman(JaxNames(), p, states, x) ** 2
        if kind == "min_gru":
            return 1 - jax.nn.sigmoid((x @ p["W"].T + p["b"])[..., :m])
        if kind == "lru":
            one = jnp.exp(-jnp.exp(p["nu"]))  # the rotation does not change a norm
            return jnp.broadcast_to(one, (steps, batch, m // 2))
        return jax.vmap(jax.vmap(jax.jacrev(lambda s, u: step(JaxNames(), p, s, u))))(states, x)

    def multiply(p, j, products):
        if kind == "elman":
            return j[..., None] * jnp.einsum("ij,kbjl->kbil", p["W"], products)
        return j * products if diagonal else jnp.einsum("bij,kbjl->kbil", j, products)

    @jax.jit
    def run(p, x):
        j = matrices(p, jax_states(step, p, x, m), x)
        shape = (j.shape[-1],) if diagonal else (m, m)
        unit = jnp.ones(shape, x.dtype) if diagonal else jnp.eye(m, dtype=x.dtype)
        columns = []
        for first in range(0, steps + 1, length):
            sources = jnp.arange(first, min(first + length, steps + 1))

            def advance(products, now, sources=sources):
                t, jacobian = now
                started = (sources < t).reshape(-1, 1, *(1,) * len(shape))
                products = jnp.where(started, multiply(p, jacobian, products), products)
                axes = tuple(range(2, products.ndim))
                return products, jnp.sqrt(jnp.sum(products**2, axis=axes))

            start = jnp.broadcast_to(unit, (len(sources), batch, *shape))
            _, norms = jax.lax.scan(advance, start, (jnp.arange(first + 1, steps + 1), j[first:]))
            scale = 2**0.5 if kind == "lru" else 1
            own = jnp.full((1, len(sources), batch), m**0.5)
            above = jnp.zeros((first, len(sources), batch))
            columns.append(jnp.concatenate((above, own, scale * norms)))
        return jnp.concatenate(columns, axis=1)

    p = {n: jnp.asarray(v) for n, v in params.items()}
    return lambda: np.asarray(run(p, jnp.asarray(x)))


def ours(cell, params, x):
    def run():
        ds = gradsim.simulate(cell, x, params=params, record=["product_norm"], dtype="float32")
        return ds.product_norm.values

    return run


def peak():
    """Operations per second of a large single-precision matrix product, with all threads."""
    a = np.random.default_rng(0).standard_normal((2048, 2048)).astype(np.float32)
    start = time.perf_counter()
    a @ a
    return 2 * 2048**3 / (time.perf_counter() - start)


def seconds(run):
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def compare(cell, batch, steps, dense, rounds):
    """Medians of the ratios peer / ours, and of our share of the peak."""
    rng = np.random.default_rng(0)
    params = {n: p.astype(np.float32) for n, p in cell.init_params(rng).items()}
    x = rng.standard_normal((steps, batch, INPUT)).astype(np.float32)
    step, m = STEPS[cell.name], cell.state_size
    runs = {"gradsim": ours(cell, params, x)}
    if dense:
        runs["torch"] = torch_user(step, params, x, m)
        runs["jax"] = jax_user(step, params, x, m)
    runs["jax by hand"] = jax_by_hand(cell.name, step, params, x, m)
    agree(runs, steps)
    times = {name: [] for name in runs}
    peaks = []
    for _ in range(rounds):
        peaks.append(peak())
        for name, run in runs.items():
            times[name].append(seconds(run))
    flops = steps * (steps - 1) / 2 * batch * 2 * m * (m // cell.jacobian_groups) ** 2
    result = {
        name: statistics.median(t / o for t, o in zip(times[name], times["gradsim"], strict=True))
        for name in runs
        if name != "gradsim"
    }
    result["of peak"] = statistics.median(flops / t / p for t, p in zip(times["gradsim"], peaks, strict=True))
    result["seconds"] = statistics.median(times["gradsim"])
    return result


def agree(runs, steps):
    """All norms are the same to single precision, where it can hold them."""
    lower = np.tril_indices(steps + 1)
    reference = runs["gradsim"]()[lower]
    for name, run in runs.items():
        found = run()[lower]
        held = reference > 1e-15
        error = np.abs(found[held] / reference[held] - 1).max()
        if not error < 1e-2:
            raise SystemExit(f"{name} does not agree with gradsim: relative difference {error:.1e}")


def table(results):
    columns = ["torch", "jax", "jax by hand", "of peak"]
    lines = [f"{'work':18}" + "".join(f"{c:>14}" for c in columns)]
    for work, row in results.items():
        cells = [f"{row[c]:.2f}x" if c in row else "-" for c in columns[:-1]] + [f"{row['of peak']:.0%}"]
        lines.append(f"{work:18}" + "".join(f"{c:>14}" for c in cells))
    return "\n".join(lines)


def draw(results):
    figure = Figure(figsize=(6.4, 0.42 * len(results) + 1.2), layout="constrained")
    ax = figure.subplots()
    looks = {"torch": ("o", "#D55E00"), "jax": ("s", "#0072B2"), "jax by hand": ("^", "#009E73")}
    for name, (marker, colour) in looks.items():
        there = [(row[name], i) for i, row in enumerate(results.values()) if name in row]
        ax.plot(*zip(*there, strict=True), marker, color=colour, label=name)
    ax.set_yticks(range(len(results)), list(results))
    ax.axvline(1, color="0.6", linewidth=0.8, zorder=0)
    ax.set(xscale="log", xlabel="Time of the peer over time of gradsim (1)")
    ax.invert_yaxis()
    ax.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, 1.15), ncols=3)
    ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(HERE / "products.png", dpi=200)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--works", nargs="*", default=list(WORKS), choices=list(WORKS))
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    results = {}
    with threadpool_limits(os.cpu_count()):
        for work in options.works:
            results[work] = compare(*WORKS[work], options.rounds)
            print(table({work: results[work]}).splitlines()[-1], flush=True)
    print("\n" + table(results))
    if options.works == list(WORKS):
        machine = {"processor": platform.machine(), "cores": os.cpu_count(), "numpy": np.__version__}
        versions = {"torch": torch.__version__, "jax": jax.__version__}
        record = {"machine": machine | versions, "rounds": options.rounds, "results": results}
        (HERE / "products.json").write_text(json.dumps(record, indent=2) + "\n")
        draw(results)


if __name__ == "__main__":
    main()

"""Norms of all Jacobian products: gradsim next to PyTorch and JAX, on the same work.

    python benchmarks/products.py                  # all works, five rounds each, three of the longest
    python benchmarks/products.py --works elman_64 --rounds 9

Each round runs gradsim (through `gradsim.simulate`) and the peers once, one after the other, with
the same weights, inputs, dtype (float32) and threads; what is quoted is the median of the ratios of the
rounds. Before anything is timed the norms are compared. Compilation is not timed.

The peers, from what people write to what an expert would:

- torch: `vmap(jacrev(step))` over time and batch, then one batched matmul a step;
- jax: the same, jitted, the products in a scan;
- jax diagonal: for MinGRU and LRU, a scan over products of numbers instead of matrices;
- jax by hand: as little work as products take, for each cell (see `jax_by_hand`);
- jax grams: our own algorithm, without its checks (see `jax_grams`).

"Of peak" counts our operations as if every product were multiplied out, over a large matrix product;
"of copy" the bytes of our result, over copying as many from memory to memory. The last work, full
products into a run folder, is compared with writing a file of the same size and flushing it to disk.

Writes products.json and products.png beside this file, and the tables of the pages. Needs the extra `bench`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import torch
from measured import dot_figure, machine, middle, ratios
from peers import JAX
from steps import STEPS, elman
from tables import TABLES, put
from threadpoolctl import threadpool_limits

import gradsim
from gradsim.errors import OutOfRangeWarning
from gradsim_cells import LRU, LSTM, Elman, MinGRU

HERE = Path(__file__).parent
INPUT = 4

# name: cell, batch, steps, and whether to wait for the peers that take diagonal Jacobians for dense ones.
WORKS = {
    "elman_16": (Elman(INPUT, 16), 32, 200, True),
    "elman_32": (Elman(INPUT, 32), 32, 200, True),
    "elman_64": (Elman(INPUT, 64), 32, 100, True),
    "lstm_64": (LSTM(INPUT, 64), 8, 100, True),
    "elman_128": (Elman(INPUT, 128), 8, 100, True),
    "elman_256": (Elman(INPUT, 256), 8, 100, True),
    "min_gru_256_short": (MinGRU(INPUT, 256), 8, 50, True),
    "lru_256_short": (LRU(INPUT, 256), 4, 25, True),
    "min_gru_256": (MinGRU(INPUT, 256), 8, 500, False),
    "lru_256": (LRU(INPUT, 256), 8, 500, False),
}
LONG = {"elman_256": 3}
"""Works that take minutes a round, and how often they are repeated at most."""

STORED = (Elman(INPUT, 64), 4, 200)
"""Cell, batch and steps of the products that are written out."""


DIAGONAL = ("min_gru", "lru")


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
        return step(JAX, p, s, u), s

    return jax.lax.scan(forward, jnp.zeros((x.shape[1], m), x.dtype), x)[1]


def jax_user(step, params, x, m):
    steps, batch = x.shape[:2]

    @jax.jit
    def run(p, x):
        one = jax.jacrev(lambda s, u: step(JAX, p, s, u))
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

    Elman: J P = diag(1 - h^2) (U P), one large matrix product with the shared U. MinGRU and LRU:
    products of numbers, real or complex. LSTM: the dense Jacobian, in blocks of sources.
    """
    return jax_blocks(kind, step, params, x, m, length=20)


def jax_diagonal(kind, step, params, x, m):
    """One scan over all sources, who wait for their turn."""
    return jax_blocks(kind, step, params, x, m, length=len(x) + 1)


def jax_matrices(kind, step, p, states, x, m):
    """What makes a step Jacobian: for Elman diag(1 - h^2), for diagonal cells one number a unit."""
    if kind == "elman":
        return 1 - elman(JAX, p, states, x) ** 2
    if kind == "min_gru":
        return 1 - jax.nn.sigmoid((x @ p["W"].T + p["b"])[..., :m])
    if kind == "lru":
        one = jnp.exp(-jnp.exp(p["nu"]))  # the rotation does not change a norm
        return jnp.broadcast_to(one, (*x.shape[:2], m // 2))
    return jax.vmap(jax.vmap(jax.jacrev(lambda s, u: step(JAX, p, s, u))))(states, x)


def jax_blocks(kind, step, params, x, m, length):
    """A scan for each block of so many sources, from the first of them on."""
    steps, batch = x.shape[:2]
    diagonal = kind in DIAGONAL

    def multiply(p, j, products):
        if kind == "elman":
            return j[..., None] * jnp.einsum("ij,kbjl->kbil", p["U"], products)
        return j * products if diagonal else jnp.einsum("bij,kbjl->kbil", j, products)

    @jax.jit
    def run(p, x):
        j = jax_matrices(kind, step, p, jax_states(step, p, x, m), x, m)
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


def jax_grams(kind, step, params, x, m):
    """What an expert could do who has read `gradsim/engine/norms/tree.py`: intervals of time are multiplied
    out up to 13 steps, then joined two and two, where norms across are inner products of Gram matrices. Those
    are in float64, as in ours; nothing that has lost digits or left the range is looked for. Diagonal cells
    take squares of numbers for products and Gram matrices alike.
    """
    steps, batch = x.shape[:2]
    diagonal = kind in DIAGONAL
    width = steps
    while width > 13:
        width = -(-width // 2)
    count = 1
    while count * width < steps:
        count *= 2

    def times(a, b):
        return a * b if diagonal else a @ b

    def gram(a, transposed):
        """A^T A or A A^T of each matrix, as a vector: (batch, interval, time, m^2)."""
        if diagonal:
            return a
        a = a.astype(jnp.float64)
        left, right = (a.swapaxes(-1, -2), a) if transposed else (a, a.swapaxes(-1, -2))
        return (left @ right).reshape(*a.shape[:3], -1)

    @jax.jit
    def run(p, x):
        j = jax_matrices(kind, step, p, jax_states(step, p, x, m), x, m)
        if kind == "elman":
            j = j[..., None] * p["U"]
        if diagonal:
            j = j.astype(jnp.float64) ** 2
        unit = jnp.ones_like(j[:1]) if diagonal else jnp.broadcast_to(jnp.eye(m, dtype=j.dtype), j[:1].shape)
        j = jnp.concatenate((j, jnp.repeat(unit, count * width - steps, axis=0)))
        j = jnp.moveaxis(j, 1, 0).reshape(batch, count, width, *j.shape[2:])
        squares = jnp.zeros((batch, count, width, count, width))
        same, after, before = jnp.arange(count), j[:, :, :0], []
        for k in reversed(range(width)):
            after = jnp.concatenate((j[:, :, k : k + 1], times(after, j[:, :, k : k + 1])), axis=2)
            axes = tuple(range(3, after.ndim))
            found = jnp.sum(after if diagonal else after.astype(jnp.float64) ** 2, axis=axes)
            squares = squares.at[:, same, k:, same, k].set(jnp.moveaxis(found, 1, 0))
            before.insert(0, after[:, :, -1])
        before, size = jnp.stack(before, axis=2), width
        while size < count * width:
            a, b = after[:, 1::2], before[:, ::2]
            across = jnp.einsum("bitm,bikm->ibtk", gram(a, True), gram(b, False))
            same = jnp.arange(across.shape[0])
            squares = squares.reshape(batch, len(same), 2 * size, len(same), 2 * size)
            squares = squares.at[:, same, size:, same, :size].set(across)
            first, last = after[:, ::2, -1:], after[:, 1::2, -1:]
            after = jnp.concatenate((after[:, ::2], times(a, first)), axis=2)
            before = jnp.concatenate((times(last, b), before[:, 1::2]), axis=2)
            size *= 2
        squares = squares.reshape(batch, size, size)[:, :steps, :steps]
        norms = jnp.pad(jnp.sqrt(squares * (2 if kind == "lru" else 1)), ((0, 0), (1, 0), (0, 1)))
        return jnp.moveaxis(norms, 0, 2) + m**0.5 * jnp.eye(steps + 1)[..., None]

    with jax.enable_x64(True):
        p, x = {n: jnp.asarray(v) for n, v in params.items()}, jnp.asarray(x)

    def in_64_bits():
        with jax.enable_x64(True):
            return np.asarray(run(p, x))

    return in_64_bits


def ours(cell, params, x):
    def run():
        ds = gradsim.simulate(cell, x, params=params, record=["product_norm"], dtype="float32")
        return ds.product_norm.values

    return run


def peak():
    """Operations per second of a large single-precision matrix product, with all threads."""
    a = np.random.default_rng(0).standard_normal((2048, 2048)).astype(np.float32)
    return 2 * 2048**3 / seconds(lambda: a @ a)


def copied():
    """Bytes per second that a thread copies from memory to memory."""
    a = np.ones(2**25)
    b = np.zeros_like(a)
    return a.nbytes / seconds(lambda: np.copyto(b, a))


def seconds(run):
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def compare(cell, batch, steps, dense, rounds):
    """Medians of the ratios peer / ours, and of our share of what the machine can do."""
    rng = np.random.default_rng(0)
    params = {n: p.astype(np.float32) for n, p in cell.init_params(rng).items()}
    x = rng.standard_normal((steps, batch, INPUT)).astype(np.float32)
    step, m, diagonal = STEPS[cell.name], cell.state_size, cell.name in DIAGONAL
    runs = {"gradsim": ours(cell, params, x)}
    if dense:
        runs["torch"] = torch_user(step, params, x, m)
        runs["jax"] = jax_user(step, params, x, m)
    if diagonal:
        runs["jax diagonal"] = jax_diagonal(cell.name, step, params, x, m)
    runs["jax by hand"] = jax_by_hand(cell.name, step, params, x, m)
    runs["jax grams"] = jax_grams(cell.name, step, params, x, m)
    agree(runs, steps)
    times = {name: [] for name in runs}
    machine = []
    for _ in range(rounds):
        machine.append(copied() if diagonal else peak())
        for name, run in runs.items():
            times[name].append(seconds(run))
    work = 2 * 8 * (steps + 1) ** 2 * batch if diagonal else steps * (steps - 1) / 2 * batch * 2 * m**3
    share = statistics.median(work / t / r for t, r in zip(times["gradsim"], machine, strict=True))
    result = ratios(times)
    result["of copy" if diagonal else "of peak"] = share
    return result | {"seconds": statistics.median(times["gradsim"]), "rounds": rounds}


def stored(rounds):
    """Full products into a run folder: bytes per second, over those of one file flushed to disk."""
    cell, batch, steps = STORED
    x = np.random.default_rng(0).standard_normal((steps, batch, INPUT))
    rates, shares = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(dir=HERE) as folder:
            run = partial(gradsim.simulate, cell, x, record=["jacobian_product"], dtype="float32")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", OutOfRangeWarning)
                ours = seconds(lambda: (run(store=Path(folder, "run")).close(), os.sync()))  # noqa: B023
            size = sum(f.stat().st_size for f in Path(folder).rglob("*") if f.is_file())
            disk = seconds(lambda: flushed(Path(folder, "file"), size))  # noqa: B023
        rates.append(size / ours)
        shares.append(disk / ours)
    return {"of disk": statistics.median(shares), "bytes per second": statistics.median(rates)}


def flushed(path, size):
    """Write a file of this size in pieces of 16 MiB, and wait for the disk."""
    piece = np.random.default_rng(0).bytes(2**24)
    with path.open("wb") as file:
        for _ in range(0, size, len(piece)):
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())


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


PEERS = ["torch", "jax", "jax diagonal", "jax by hand", "jax grams"]


def table(results):
    columns = [*PEERS, "of peak", "of copy"]
    lines = [f"{'work':18}" + "".join(f"{c:>14}" for c in columns)]
    for work, row in results.items():
        cells = [
            (f"{middle(row[c]):.2f}x" if c in PEERS else f"{row[c]:.0%}") if c in row else "-"
            for c in columns
        ]
        lines.append(f"{work:18}" + "".join(f"{c:>14}" for c in cells))
    return "\n".join(lines)


def draw(results):
    colours = ["#D55E00", "#0072B2", "#CC79A7", "#009E73", "#E69F00"]
    heads = [TABLES["products"][0][2][name][0] for name in PEERS]
    looks = {name: look for name, *look in zip(PEERS, "osD^v", colours, heads, strict=True)}
    dot_figure(results, looks, "Time of the peer over time of gradsim (1)", HERE / "products.png", row=0.42)


def label(work):
    cell, batch, steps, _ = WORKS[work]
    return f"{type(cell).__name__} {cell.hidden_size}, batch {batch}, {steps} steps"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--works", nargs="*", default=[*WORKS, "stored"], choices=[*WORKS, "stored"])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    results = {}
    with threadpool_limits(os.cpu_count()):
        for work in [w for w in WORKS if w in options.works]:
            rounds = min(options.rounds, LONG.get(work, options.rounds))
            results[work] = {"label": label(work), **compare(*WORKS[work], rounds)}
            print(table({work: results[work]}).splitlines()[-1], flush=True)
    print("\n" + table(results))
    disk = stored(options.rounds) if "stored" in options.works else {}
    if disk:
        print(f"full products: {disk['bytes per second'] / 1e6:.0f} MB/s, {disk['of disk']:.0%} of the disk")
    if options.works == [*WORKS, "stored"]:
        record = {
            "machine": machine(np, torch, jax),
            "rounds": options.rounds,
            "results": results,
            "stored": disk,
        }
        (HERE / "products.json").write_text(json.dumps(record, indent=2) + "\n")
        draw(results)
        put("products")


if __name__ == "__main__":
    main()

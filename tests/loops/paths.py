"""What recorders of paths, of influence and of what units do for themselves should show."""

from __future__ import annotations

import numpy as np
from loops.expected import Expected, sized
from loops.reference import WIDE, norm


def of_paths(raw):
    """Shares of the step Jacobians, what would be left of products by one path, values of gates."""
    g, paths = raw.given.cell.groups, raw.given.cell.paths
    if not paths:
        return {}
    shares = np.stack(list(raw.shares.values()), axis=2)
    blocks = np.stack([shares[..., j::g, j::g] for j in range(g)], axis=-3)
    blocks = blocks if g > 1 else blocks[..., 0, :, :]
    largest = abs(raw.jacobians).max(axis=(-1, -2))[:, :, None]
    by_entry = np.expand_dims(largest, tuple(range(3, blocks.ndim))) + 0 * blocks
    found = {
        "path_jacobian": Expected(blocks, scale=by_entry),
        "path_norm": Expected(norm(shares, (-2, -1)), scale=largest + np.zeros(shares.shape[:3])),
        "gate": Expected(_gates(raw)),
    }
    alone = np.stack([raw.opened(path) for path in ((), *((path,) for path in paths))], axis=1)
    product = np.broadcast_to(np.eye(raw.states.shape[-1], dtype=WIDE), alone.shape[1:])
    norms = [norm(product, (-2, -1))]
    for step in alone.astype(WIDE):
        product = step @ product
        norms.append(norm(product, (-2, -1)))
    return found | sized("path_product_norm", np.moveaxis(np.array(norms), 1, 2))


def _gates(raw):
    """(step, batch, path, unit), NaN where a path has fewer units than another one."""
    given, noted = raw.given, {}
    given.cell.step(given.params, raw.states[:-1], given.inputs, given.data | {"noted": noted})
    values = [np.concatenate(noted[path], axis=-1) for path in given.cell.paths]
    found = np.full((raw.steps, raw.batch, 1 + len(values), max(v.shape[-1] for v in values)), np.nan)
    for i, value in enumerate(values):
        found[:, :, i + 1, : value.shape[-1]] = value
    return found


def of_influence(raw):
    """ds_t/dparams, and the norms of it."""
    carried = {n: [np.zeros(x.shape[1:], dtype=WIDE)] for n, x in raw.immediate.items()}
    for t in range(raw.steps):
        for n, immediate in raw.immediate.items():
            more = np.einsum("bij,bj...->bi...", raw.jacobians[t], carried[n][-1])
            carried[n].append(more + immediate[t])
    found, norms = {}, []
    for n, by_time in carried.items():
        whole, axes = np.array(by_time), tuple(range(2, len(by_time[0].shape) + 1))
        found[f"influence_{n}"] = Expected(whole, axes)
        norms.append(norm(whole, axes))
    none = [np.zeros(norms[0].shape)] * len(raw.given.readout)
    norms = np.stack([*norms, *none], axis=-1)
    return found | sized("influence_norm", norms, norms.max(axis=(1, 2), keepdims=True))


def envelope(raw, matrices, out, into):
    """The sums of |P_qq| over units q, (..., to_block, from_block), of products (..., m, m) or such."""
    blocks = raw.given.blocks
    found = np.full((*matrices.shape[:-2], len(out), len(into)), np.nan, dtype=WIDE)
    for i, a in enumerate(out):
        for j, b in enumerate(into):
            part = matrices[..., blocks[a], blocks[b]]
            if part.shape[-2] == part.shape[-1]:
                found[..., i, j] = abs(np.diagonal(part, axis1=-2, axis2=-1)).sum(axis=-1)
    return found


def diagonals(raw, pairs):
    """{(t, k): (batch, m, m)}: D from k to t, and the sums of such products with one R in the place of D."""
    unit = np.full(raw.jacobians.shape[-1], -1)
    size = unit.copy()
    for block in raw.given.blocks.values():
        size[block] = block.stop - block.start
        unit[block] = range(block.stop - block.start)
    same = (unit[:, None] == unit) & (size[:, None] == size)
    direct = raw.jacobians if not raw.given.cell.paths else raw.opened(())
    kept, rest = (same * x.astype(WIDE) for x in (direct, raw.jacobians - direct))
    found = {}
    for k in {k for _, k in pairs}:
        product = np.broadcast_to(np.eye(len(unit), dtype=WIDE), raw.jacobians.shape[1:])
        sums = 0 * product
        for t in range(k, max(t for t, source in pairs if source == k) + 1):
            if t > k:
                product, sums = kept[t - 1] @ product, kept[t - 1] @ sums + rest[t - 1] @ product
            found[t, k] = product + sums
    return found

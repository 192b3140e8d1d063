"""Which mitigations a random run has."""

from __future__ import annotations

import numpy as np
from loops.acts import around, backward, gradient, loss, rules

from gradsim_cells import LSTM, Elman


def log_uniform(rng, low, high):
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def choose(rng, cell, plain, task, steps, extreme):
    """Some of all those that make sense here, in any order."""
    limit = lambda: log_uniform(rng, 1e-3, 1)
    k1 = int(rng.integers(1, 9))
    span = k1 + int(rng.integers(0, 9))
    kinds = [_back(rng, cell, plain, k1, span, limit, steps > 40, extreme)]
    if not extreme:
        kinds += [_around(rng, cell, task), _loss(rng, cell, plain, limit, steps), _gradient(rng, limit)]
    chosen, count = {}, int(rng.choice([0, 1, 1, 2, 2, 3, 4]))
    if count and rng.random() < 0.2 and not extreme:
        known = _rules(rng, cell, plain, k1, span)
        name = str(rng.choice([*known, *known.keys() & {"kf_rtrl"}]))
        chosen = {name: known[name]}
        # In place of the way back; two of them take units as the cell alone has them.
        kinds = kinds[2 if name in ("e_prop", "kf_rtrl") else 1 :]
    while len(chosen) < count:
        known = kinds[rng.integers(len(kinds))]
        name = str(rng.choice(list(known)))
        chosen[name] = known[name]
    names = list(rng.permutation(list(chosen)))
    if count and names[0] in ("truncate", "clip_norm", "leak") and rng.random() < 0.3:
        names.append(names[0])  # two of a kind
    return [chosen[name]() for name in names]


def _around(rng, cell, task):
    """By name, what makes them; of those that add to the state only one."""
    read = {name: cell.block(name) for name in cell.output_blocks}
    units = np.concatenate([np.arange(cell.state_size)[block] for block in read.values()])
    per = str(rng.choice(["sequence", "step"]))
    found = {
        "gate": lambda: around.gate(float(rng.normal())),
        "leak": lambda: around.leak(rng.uniform(0.1, 1)),
        "residual": lambda: around.residual(rng.uniform(0.05, 0.5)),
        "zoneout": lambda: around.zoneout(rng.uniform(0.1, 0.9)),
        "dropout": lambda: around.dropout(rng.uniform(0.1, 0.6), per, units),
    }
    if cell.state_size <= 5:
        delay = int(rng.integers(2, 4))
        found["remember"] = [lambda: around.skip(delay, rng.uniform(0.1, 0.9)), lambda: around.dilate(delay)][
            rng.integers(2)
        ]
    if min(cell.blocks[name] for name in read) >= 3:  # two are 1 and -1 whatever they are
        found["layer_norm"] = lambda: around.layer_norm(read, log_uniform(rng, 1e-3, 0.1))
    if not cell.own_output:
        found["weight_noise"] = lambda: around.weight_noise(log_uniform(rng, 0.01, 0.5))
    start = cell.block(cell.output_blocks[0])
    if task and task.kind != "cross_entropy" and task.outputs <= start.stop - start.start:
        found["teacher_forcing"] = lambda: around.teacher_forcing(
            float(rng.choice([1.0, rng.uniform(0.1, 0.9)])), int(rng.integers(1, 4)), start.start
        )
        decay, k = [("linear", None), ("exponential", 0.9), ("inverse_sigmoid", 3.0)][rng.integers(3)]
        found["scheduled_sampling"] = lambda: around.scheduled_sampling(
            rng.uniform(0.5, 1), rng.uniform(0, 0.5), decay, k, start.start
        )
    return found


def _back(rng, cell, plain, k1, span, limit, far, extreme):
    found = {
        "truncate": lambda: backward.truncate(k1, span),
        "adaptive": lambda: backward.adaptive(rng.uniform(0.01, 0.9), k1),
        "artbp": lambda: backward.artbp(rng.uniform(1.1, 9), rng.choice([None, 2.5, 4.0])),
        "annealed": lambda: backward.annealed(int(rng.integers(1, 9))),
        "by_step": lambda: backward.by_step(rng.uniform(-0.02, 0.02)),
        "unit_gain": backward.unit_gain,
        "clip_adjoint": lambda: backward.clip_adjoint(limit()),
        "turn": backward.turn,
        "clip_adjoint_value": lambda: backward.clip_adjoint_value(limit()),
        "chunk_edges": lambda: backward.clip_chunk_edges(
            k1, 10 * limit(), rng.uniform(0.1, 1), limit(), [cell.block(name) for name in cell.blocks]
        ),
        "clip_contributions": lambda: backward.clip_contributions(limit()),
        "clip_contributions_value": lambda: backward.clip_contributions_value(limit()),
    }
    if plain.paths:
        names = rng.permuted(["direct", *plain.paths])[:2]
        found["h_detach"] = lambda: backward.h_detach(rng.random())
        found["scale_paths"] = lambda: backward.scale_paths({str(n): rng.uniform(0, 1.5) for n in names})
        if rng.random() < 0.3:
            return {name: found[name] for name in ("h_detach", "scale_paths")}
    if far:  # mitigations of the adjoint take plain numbers, which vanish; those of a gradient that has grown
        for name in ("clip_adjoint", "clip_adjoint_value", "chunk_edges", "turn", "by_step"):
            del found[name]
    kept = ("truncate", "annealed", "artbp", "by_step") if extreme else tuple(found)
    return {name: make for name, make in found.items() if name in kept}


def _gradient(rng, limit):
    return {
        "clip_norm": lambda: gradient.clip_norm(limit()),
        "clip_value": lambda: gradient.clip_value(limit()),
        "clip_parameters": lambda: gradient.clip_parameters(limit()),
        "clip_adaptive": lambda: gradient.clip_adaptive(limit(), limit()),
        "gradient_noise": lambda: gradient.gradient_noise(limit()),
        "auto_clip": lambda: gradient.auto_clip(rng.uniform(5, 50)),
        "gradient_centralisation": gradient.gradient_centralisation,
    }


def _loss(rng, cell, plain, limit, steps):
    read = [i for name in cell.output_blocks for i in range(cell.state_size)[cell.block(name)]]
    found = {
        "weight_decay": lambda: loss.weight_decay(limit(), limit()),
        "steady_norm": lambda: loss.steady_norm(limit()),
        "activity": lambda: loss.activity(limit(), limit(), read),
        "norm_stabiliser": lambda: loss.norm_stabiliser(limit(), read),
    }
    if plain.smooth:  # what the plain loops take differences of
        form = str(rng.choice(["ratio", "squared_ratio"]))
        found["jacobian_penalty"] = lambda: loss.jacobian_penalty(limit(), form)
        found["jacobian_regulariser"] = lambda: loss.jacobian_regulariser(limit())
        if steps <= 25:
            count, transient = int(rng.integers(1, min(3, cell.state_size + 1))), int(rng.integers(steps))
            found["flossing"] = lambda: loss.flossing(limit(), count, rng.normal(), transient)
    if cell.recurrent_weights:
        found["orthogonal"] = lambda: around.orthogonal(rng.uniform(0.5, 1.2))
        found["soft_orthogonality"] = lambda: loss.soft_orthogonality(limit())
    return found


def _rules(rng, cell, plain, k1, span):
    found = {
        "rtrl": rules.rtrl,
        "snap": rules.snap,
        "forward_windows": lambda: rules.forward_windows(k1, span),
        "immediate": rules.immediate,
        "rflo": lambda: rules.rflo(rng.uniform(0.1, 1)),
        "e_prop": lambda: rules.e_prop(_units(cell)),
    }
    if not plain.derived:  # or parameters of the cell inside are balanced, and not these
        found["uoro"] = rules.uoro
    if isinstance(cell, Elman | LSTM):
        found["kf_rtrl"] = rules.kf_rtrl
    return found


def _units(cell):
    """The unit of each component: layer, size of its block, and place in it."""
    found = []
    for name, size in cell.blocks.items():
        layer = name.split("_")[0] if name.startswith("layer") else ""
        found += [(layer, size, place) for place in range(size)]
    return found

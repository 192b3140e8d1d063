"""What a training gives, and the same worked out with nothing of gradsim but the step of the cell."""

from __future__ import annotations

import numpy as np
from autograd import grad

from gradsim.numerics.autodiff import xp
from gradsim.training.verb import train


def start(cell, task, seed=1):
    """Parameters of a cell and a readout."""
    rng = np.random.default_rng(seed)
    seen = sum(cell.blocks[name] for name in cell.output_blocks)
    readout = {
        "readout_W": rng.standard_normal((task.output_size, seen)),
        "readout_b": rng.standard_normal(task.output_size),
    }
    return {**cell.init_params(rng), **readout}


def unrolled(cell, params, inputs, state=None):
    """(states after each step, last state)."""
    state = np.tile(cell.initial_state(), (inputs.shape[1], 1)) if state is None else state
    states = []
    for x in inputs:
        state = cell.step(params, state, x, xp)
        states.append(state)
    return xp.stack(states), state


def loss_by_hand(params, cell, episode, state=None):
    """The mean over the batch of the weighted losses; targets of type int are classes."""
    states, _ = unrolled(cell, params, episode.inputs, state)
    seen = np.concatenate([np.arange(cell.state_size)[cell.block(n)] for n in cell.output_blocks])
    outputs = states[..., seen] @ params["readout_W"].T + params["readout_b"]
    if episode.targets.dtype.kind == "i":
        at_target = (outputs * np.eye(outputs.shape[-1])[episode.targets]).sum(-1)
        losses = xp.log(xp.exp(outputs).sum(-1)) - at_target
    else:
        losses = ((outputs - episode.targets) ** 2).mean(-1)
    return (episode.weights * losses).sum() / episode.inputs.shape[1]


gradient_by_hand = grad(loss_by_hand)


def trained(ds):
    """The parameters at the end, by name."""
    prefix = "trained_"
    return {n.removeprefix(prefix): v.values for n, v in ds.data_vars.items() if n.startswith(prefix)}


def identical(a, b):
    """Whether two datasets are the same to the last bit."""
    a, b = a.load(), b.load()
    told = [(sorted(map(repr, ds.attrs.items())), set(ds.variables), ds.sizes) for ds in (a, b)]
    if told[0] != told[1]:
        return False
    return all(_same(a[n], b[n]) for n in a.variables)


def _same(a, b):
    labels = (a.dims, a.dtype, a.attrs) == (b.dims, b.dtype, b.attrs)
    return labels and a.values.tobytes() == b.values.tobytes()


def after(update, cell, task, **setting):
    """The parameters after some updates."""
    if not update:
        return setting["params"]
    return trained(train(cell, task, updates=int(update), **setting))

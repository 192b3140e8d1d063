"""What is put around a cell, and what its parameters start from."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
from loops.acts.act import Act
from loops.plain import sigmoid, via

from gradsim_mitigations import (
    Dilate,
    Dropout,
    Gate,
    LayerNorm,
    Leak,
    OrthogonalInit,
    Residual,
    ScheduledSampling,
    Skip,
    TeacherForcing,
    WeightNoise,
    Zoneout,
)


def _around(made, step, **more):
    """`step(inside, depth)`: the step of a cell with the given one inside, at this depth of wrappers."""

    def wrapped(cell):
        named = {n: change(cell) for n, change in more.items()}
        return replace(cell, step=step(cell, cell.layers + 1), layers=cell.layers + 1, **named)

    return Act(made, cell=wrapped)


def gate(bias):
    def gated(cell, depth):
        def step(p, s, x, data):
            w, u, b = (p[f"gated{depth}_{n}"] for n in "WUb")
            keep = sigmoid(x @ w.T + s @ u.T + b)
            return keep * s + (1 - keep) * cell.step(p, s, x, data)

        return step

    return _around(Gate(bias), gated, groups=lambda cell: 1)


def leak(rate):
    def leaky(cell, depth):
        return lambda p, s, x, data: (1 - rate) * s + rate * cell.step(p, s, x, data)

    return _around(Leak(rate), leaky)


def residual(scale):
    def added(cell, depth):
        return lambda p, s, x, data: via(data, "skip", s) + scale * cell.step(p, s, x, data)

    return _around(Residual(scale), added, paths=_with_skip)


def _with_skip(cell):
    return tuple(dict.fromkeys([*cell.paths, "skip"]))


def zoneout(rate):
    def zoned(cell, depth):
        def step(p, s, x, data):
            kept = data[f"zoneout{depth}_kept"]
            assert np.isin(kept, (0, 1)).all()
            return np.where(kept == 1, s, cell.step(p, s, x, data))

        return step

    return _around(Zoneout(rate), zoned)


def layer_norm(blocks, epsilon):
    """`blocks`: those that are read, by name."""

    def normalised(cell, depth):
        def step(p, s, x, data):
            new = cell.step(p, s, x, data)
            parts, end = [], 0
            for name, block in sorted(blocks.items(), key=lambda item: item[1].start):
                away = new[..., block] - new[..., block].mean(-1, keepdims=True)
                scale = np.sqrt((away**2).mean(-1, keepdims=True) + epsilon)
                g, b = (p[f"layer_norm{depth}_{n}_{name}"] for n in "gb")
                parts += [new[..., end : block.start], g * away / scale + b]
                end = block.stop
            return np.concatenate([*parts, new[..., end:]], axis=-1)

        return step

    return _around(LayerNorm(epsilon=epsilon), normalised, groups=lambda cell: 1)


def dropout(rate, per, units):
    """`units`: those that are read; all others are seen as they are."""

    def dropping(cell, depth):
        def step(p, s, x, data):
            return cell.step(p, s * data[f"dropping{depth}_keep"], x, data)

        return step

    act = _around(Dropout(rate, per), dropping)

    def check(given):
        (keep,) = (x for n, x in given.data.items() if re.fullmatch(r"dropping\d_keep", str(n)))
        chosen = np.isin(np.arange(keep.shape[-1]), units)
        assert (keep[..., ~chosen] == 1).all()
        np.testing.assert_allclose(keep[..., chosen] * (keep[..., chosen] * (1 - rate) - 1), 0, atol=1e-6)
        assert per == "step" or (keep == keep[:1]).all()

    return replace(act, check=check)


def teacher_forcing(alpha, every, start):
    """Of the units from `start` on, as many as there are targets."""

    def share(given, time):
        return alpha * (time % every == 0) * np.ones(given.inputs.shape[1])

    return _forcing(TeacherForcing(alpha, every), start, share)


def scheduled_sampling(first, last, decay, k, start):
    made = ScheduledSampling(first, last, decay, k)
    decayed = k / (k + 1) if decay == "inverse_sigmoid" else 1.0  # before the first update

    def share(given, time):
        return given.draws[made]["drawn"][time] < last + (first - last) * decayed

    return _forcing(made, start, share)


def _forcing(made, start, share):
    """`share(given, time)`: how much of the target at this time is in what the next step sees, (batch,)."""

    def data(given):
        steps, batch, k = given.targets.shape
        found = np.zeros((steps, batch, 1 + k))
        for time in range(1, steps):
            found[time, :, 0] = share(given, time) * (given.weights[time - 1] != 0)
            found[time, :, 1:] = given.targets[time - 1]
        return {made: found}

    def forced(cell, depth):
        def step(p, s, x, data):
            part, target = data[made][..., :1], data[made][..., 1:]
            seen, units = s.copy(), slice(start, start + target.shape[-1])
            seen[..., units] = (1 - part) * s[..., units] + part * target
            return cell.step(p, seen, x, data)

        return step

    return replace(_around(made, forced), data=data)


def skip(delay, scale):
    def new(cell, p, s, x, data):
        m = cell.size
        return cell.step(p, s[..., :m], x, data) + scale * via(data, "skip", s[..., -m:])

    def first(cell):
        return np.concatenate([cell.start(), np.zeros((delay - 1) * cell.size)])

    return _remembering(Skip(delay, scale), delay, new, first=first, paths=_with_skip)


def dilate(delay):
    def new(cell, p, s, x, data):
        return cell.step(p, s[..., -cell.size :], x, data)

    return _remembering(Dilate(delay), delay, new, first=lambda cell: np.tile(cell.start(), delay))


def _remembering(made, delay, new, **more):
    """The state holds the last ones, the newest first."""

    def remembering(cell, depth):
        def step(p, s, x, data):
            return np.concatenate([new(cell, p, s, x, data), s[..., : -cell.size]], axis=-1)

        return step

    def seen(cell):
        return lambda p, s, x: cell.seen(p, s[..., : cell.size], x)

    return _around(made, remembering, size=lambda cell: delay * cell.size, seen=seen, **more)


def weight_noise(size):
    def noisy(cell):
        def step(p, s, x, data):
            seed = data[f"noisy_weights{cell.derived + 1}_noise"].reshape(-1, 4)[0, 0]
            rng = np.random.default_rng(int(seed))
            outer = tuple(f"gated{depth}_" for depth in range(cell.layers + 1, 9))
            inside = [n for n in p if p[n].ndim >= 2 and not n.startswith(outer)]
            seen = {n: p[n] + size * rng.standard_normal(p[n].shape) for n in inside}
            return cell.step(p | seen, s, x, data)

        return replace(cell, step=step, derived=cell.derived + 1)

    return Act(WeightNoise(size), cell=noisy)


def orthogonal(scale):
    def check(given):
        for name in given.recurrent:
            n = given.params[name].shape[1]
            for q in given.params[name].reshape(-1, n, n) / scale:
                np.testing.assert_allclose(q @ q.T, np.eye(n), atol=1e-5)

    return Act(OrthogonalInit(scale), check=check)

"""What changes the gradient of a run."""

from __future__ import annotations

import numpy as np
from loops.acts.act import Act, total
from loops.reference import norm

from gradsim_mitigations import (
    AutoClip,
    ClipAdaptive,
    ClipNorm,
    ClipValue,
    GradientCentralisation,
    GradientNoise,
)


def clip_norm(limit):
    def change(gradient, raw):
        return {n: g * min(1, limit / (total(gradient) or limit)) for n, g in gradient.items()}

    return Act(ClipNorm(limit), gradient=change)


def clip_parameters(limit):
    def change(gradient, raw):
        return {n: g * min(1, limit / (norm(g, None) or limit)) for n, g in gradient.items()}

    return Act(ClipNorm(limit, where="parameter"), gradient=change)


def clip_adaptive(limit, floor):
    def change(gradient, raw):
        found, params = {}, {**raw.given.params, **raw.given.readout}
        for name, g in gradient.items():
            units = [(g[i], params[name][i]) for i in range(len(g))] if g.ndim > 1 else [(g, params[name])]
            cut = [
                x * min(1, limit * max(norm(w, None), floor) / (norm(x, None) or 1e-300)) for x, w in units
            ]
            found[name] = np.array(cut).reshape(g.shape)
        return found

    return Act(ClipAdaptive(limit, floor), gradient=change)


def gradient_noise(eta):
    made = GradientNoise(eta)
    return Act(
        made, gradient=lambda gradient, raw: {n: g + raw.given.draws[made][n] for n, g in gradient.items()}
    )


def clip_value(limit):
    def change(gradient, raw):
        return {n: np.minimum(np.maximum(g, -limit), limit) for n, g in gradient.items()}

    return Act(ClipValue(limit), gradient=change)


def auto_clip(percentile):
    """A run on its own remembers no norm but that of its gradient, which is any percentile."""
    return Act(AutoClip(percentile), gradient=lambda gradient, raw: gradient)


def gradient_centralisation():
    def change(gradient, raw):
        centred = {}
        for name, g in gradient.items():
            several = g.ndim > 1 and g.shape[1] > 1
            centred[name] = np.array([row - sum(row) / len(row) for row in g]) if several else g
        return centred

    return Act(GradientCentralisation(), gradient=change)

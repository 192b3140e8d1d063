"""The unitary evolution network."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from gradsim import Cell, Weighted
from gradsim_cells.algebra import normal
from gradsim_cells.derived_weights import DerivedWeights


@dataclass(frozen=True, eq=False)
class URNN(Weighted, DerivedWeights):
    """h_t = modrelu(V h_{t-1} + W x_t) with the unitary V = D3 R2 F^-1 D2 P R1 F D1.

    modrelu(z) = max(1 + b / |z|, 0) z changes the size of a number by b, and keeps its phase.

    h: complex state, blocks re and im, each hidden_size = n. x: input. D_i = diag(exp(i theta_i)), theta
    (3, n) uniform between -pi and pi; R_i = I - 2 v_i v_i^* / |v_i|^2 with v_i = v_re[i] + i v_im[i], (2, n)
    each, uniform between -1 and 1; F: the unitary Fourier transform; P (n, n): a permutation, which is
    drawn and not trained. W (2n, input_size), rows re and then im, ~ N(0, 1 / (2 input_size)), b (n) = 0.

    With b = 0 the cell is linear and J_t = V, which keeps every norm; with b < 0 J_t shrinks some
    directions, and only with b > 0 it may stretch: |z| grows by b, and what turns z by (|z| + b) / |z|. The
    authors also train the first state, which here is 0 unless it is given.

    Arjovsky, Shah & Bengio (2016), Unitary evolution recurrent neural networks, eq. 6 to 8.
    """

    name = "urnn"
    fixed = ("P",)

    @property
    def blocks(self):
        return dict.fromkeys(("re", "im"), self.hidden_size)

    @property
    def gates(self):
        return {"W": ("re", "im")}

    @cached_property
    def cell(self):
        return _Inside(self)

    def init_params(self, rng):
        n = self.hidden_size
        return {
            "W": normal(rng, 2 * n, self.input_size) / np.sqrt(2),
            "theta": rng.uniform(-np.pi, np.pi, (3, n)),
            "v_re": rng.uniform(-1, 1, (2, n)),
            "v_im": rng.uniform(-1, 1, (2, n)),
            "P": np.eye(n)[rng.permutation(n)],
            "b": np.zeros(n),
        }

    def weights(self, params, xp):
        """V as a real matrix (2n, 2n), made of what becomes of each unit vector, which are the rows here."""
        n = self.hidden_size
        place = np.arange(n)
        angle = 2 * np.pi * np.outer(place, place) / n
        dtype = params["theta"].dtype
        cos, sin = (xp.asarray(f(angle) / np.sqrt(n), dtype=dtype) for f in (np.cos, np.sin))

        def turn(z, i):
            theta = params["theta"][i, :]
            return _times(z, xp.cos(theta), xp.sin(theta))

        def reflect(z, i):
            re, im = params["v_re"][i, :], params["v_im"][i, :]
            along = z[0] @ re + z[1] @ im, z[1] @ re - z[0] @ im
            twice = 2 / xp.sum(re * re + im * im)
            part = _times(tuple(twice * a[:, None] for a in along), re, im)
            return z[0] - part[0], z[1] - part[1]

        def transform(z, sin):
            return z[0] @ cos - z[1] @ sin, z[0] @ sin + z[1] @ cos

        z = xp.eye(n, dtype=dtype), xp.zeros((n, n), dtype=dtype)
        z = reflect(transform(turn(z, 0), -sin), 0)
        z = tuple(part @ xp.matrix_transpose(params["P"]) for part in z)
        re, im = turn(reflect(transform(turn(z, 1), sin), 1), 2)
        v = xp.concat((xp.concat((re, im), axis=1), xp.concat((-im, re), axis=1)))
        return {"V": xp.matrix_transpose(v), "W": params["W"], "b": params["b"]}


def _times(z, re, im):
    return z[0] * re - z[1] * im, z[0] * im + z[1] * re


@dataclass(frozen=True, eq=False)
class _Inside(Cell):
    """The cell that `outer` describes, with V as it is."""

    name = "inside"

    outer: Any = field()

    @property
    def input_size(self):
        return self.outer.input_size

    @property
    def blocks(self):
        return self.outer.blocks

    @property
    def output_blocks(self):
        return ("re", "im")

    def init_params(self, rng):
        return self.outer.weights(self.outer.init_params(rng), np)

    def step(self, params, state, inputs, xp):
        z = state @ params["V"].T + inputs @ params["W"].T
        re, im = self.split(z)
        square = re * re + im * im
        size = xp.sqrt(xp.where(square > 0, square, 1.0))  # at 0 there is no phase to keep
        scale = 1 + params["b"] / size
        scale = xp.where(scale > 0, scale, 0.0)
        return xp.concat((scale * re, scale * im), axis=-1)

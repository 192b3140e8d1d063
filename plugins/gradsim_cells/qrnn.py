"""The quasi-recurrent network: gates from a window of inputs, and pooling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from gradsim import Dense, Term, through
from gradsim.types import PositiveInt
from gradsim_cells.algebra import normal, sigmoid


@dataclass(frozen=True, eq=False)
class QRNN(Dense):
    """c_t = f * c_{t-1} + (1 - f) * z, read as o * c_t: f-, fo- and ifo-pooling of a convolution.

    Of the last `window` inputs, a = sum over j of W_j x_{t-j} + b, with x = 0 before the sequence, gives
    z = tanh(a_z), f = sigmoid(a_f), o = sigmoid(a_o). With ``pooling="f"`` c_t itself is read, and with "ifo"
    i = sigmoid(a_i) takes the place of 1 - f.

    c: state (hidden_size = n). Rows of W = W_0, of W_1, W_2 ... (each (gates * n, input_size)) and of b are
    in the order z, f, o, i, as far as they are there. W_j ~ N(0, 1 / (window * input_size)), b = 0.

    No gate sees the state: dc_t/dc_k = diag of the product of f. Over a window of one input that is all of
    J_t, which is why one is the default; the paper takes two or more. What inputs that are past add to the
    gates is then state, too: blocks z1, f1 ... of what was added so far to the sums j steps ahead, and a
    block o of the sums of the output gate, so that each unit has a triangular block of J_t.

    Bradbury, Merity, Xiong & Socher (2017), Quasi-recurrent neural networks, eq. 1-5.
    """

    name = "qrnn"
    keeps = ("forget",)
    admits = ("input",)

    window: PositiveInt = 1
    pooling: Literal["f", "fo", "ifo"] = "fo"

    @property
    def gate_names(self):
        return ("candidate", "forget", "output", "input")[: len(self.pooling) + 1]

    @property
    def sums(self):
        """Those of the gates now, and what is added to those of each of the next steps."""
        return len(self.gate_names) * self.window

    @property
    def terms(self):
        rows = len(self.gate_names) * self.hidden_size
        later = (Term(f"W_{j}", "x", column=j * rows) for j in range(1, self.window))
        return Term("W", "x"), Term("b", "1"), *later

    @property
    def gates(self):
        return dict.fromkeys((t.param for t in self.terms), self.gate_names)

    @property
    def paths(self):
        return tuple(name for name in self.gate_names if name != "output")

    @property
    def blocks(self):
        later = [
            f"{name[0] if name != 'candidate' else 'z'}{j}" for j in self._ahead for name in self.gate_names
        ]
        output = ["o"] if self.window > 1 and self.pooling != "f" else []
        return dict.fromkeys(("c", *later, *output), self.hidden_size)

    @property
    def _ahead(self):
        return range(1, self.window)

    def init_params(self, rng):
        rows = len(self.gate_names) * self.hidden_size
        gain = 1 / np.sqrt(self.window)
        names = ("W", *(f"W_{j}" for j in self._ahead))
        return {name: normal(rng, rows, self.input_size, gain) for name in names} | {"b": np.zeros(rows)}

    def unit(self, sums, old, xp):
        gates = len(self.gate_names)
        c, before = old[0], old[1 : 1 + gates * (self.window - 1)]
        sums = [a + before[i] if i < len(before) else a for i, a in enumerate(sums)]
        z, f, o, i = (*sums[:gates], None, None)[:4]
        z, f = through(xp.tanh(z), "candidate"), through(sigmoid(f, xp), "forget")
        i = through(sigmoid(i, xp), "input") if self.pooling == "ifo" else 1 - f
        output = [o] if self.window > 1 and self.pooling != "f" else []
        return f * c + i * z, *sums[gates:], *output

    def output(self, params, state, inputs, xp):
        n = self.hidden_size
        c = state[..., :n]
        if self.pooling == "f":
            return c
        if self.window > 1:
            return sigmoid(state[..., -n:], xp) * c
        rows = slice(2 * n, 3 * n)
        return sigmoid(inputs @ params["W"][rows, :].T + params["b"][rows], xp) * c

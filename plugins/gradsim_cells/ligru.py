"""The light gated recurrent unit."""

from __future__ import annotations

from dataclasses import dataclass

from gradsim import Dense, through
from gradsim_cells.algebra import sigmoid


@dataclass(frozen=True, eq=False)
class LiGRU(Dense):
    """h_t = z * h_{t-1} + (1 - z) * n: a GRU without reset gate, and with a candidate that does not saturate.

    Gate z = sigmoid(.) and candidate n = relu(.) of W x_t + U h_{t-1} + b.

    h: state (hidden_size = n). x: input. Rows of W (2n, input_size), U (2n, n) and b (2n) are in
    the order z, n. W ~ N(0, 1 / input_size), U ~ N(0, 1 / n), b = 0.

    The state is never negative, and not bounded. The slope of relu at 0 is taken as 0.

    Ravanelli, Brakel, Omologo & Bengio (2018), Light gated recurrent units for speech recognition.
    The paper puts batch normalisation on W x_t, which keeps the state in bounds and couples the
    sequences of a batch; here there is none.
    """

    name = "ligru"
    gate_names = ("update", "candidate")
    keeps = ("update",)

    def unit(self, sums, old, xp):
        z = through(sigmoid(sums[0], xp), "update")
        candidate = xp.where(sums[1] > 0, sums[1], 0.0)  # of a maximum, autograd takes the slope 1/2 at 0
        return z * old[0] + (1 - z) * through(candidate, "candidate")

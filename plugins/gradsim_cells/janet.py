"""The LSTM with nothing left but its forget gate."""

from __future__ import annotations

from dataclasses import dataclass

from gradsim import Dense, through
from gradsim_cells.algebra import sigmoid


@dataclass(frozen=True, eq=False)
class JANET(Dense):
    """h_t = sigmoid(s) * h_{t-1} + (1 - sigmoid(s - beta)) * c.

    Sum s and candidate c = tanh(.), both of W x_t + U h_{t-1} + b.

    h: state (hidden_size = n), which is the cell as well. x: input. Rows of W (2n, input_size), U (2n, n)
    and b (2n) are in the order s, c. W ~ N(0, 1 / input_size), U ~ N(0, 1 / n), b = 0 except
    b_s = forget_bias; the paper starts it with `bias_init` = chrono.

    With beta > 0 a unit admits more than it forgets, and one that hardly forgets may still learn; once there,
    the state stays within [-e^beta, e^beta]. With beta = 0 it is the UGRNN.

    Van der Westhuizen & Lasenby (2018), The unreasonable effectiveness of the forget gate.
    """

    name = "janet"
    gate_names = ("forget", "candidate")
    keeps = ("forget",)

    beta: float = 1.0
    forget_bias: float = 1.0

    def init_params(self, rng):
        params = super().init_params(rng)
        params["b"][: self.hidden_size] = self.forget_bias
        return params

    def unit(self, sums, old, xp):
        kept = through(sigmoid(sums[0], xp), "forget")
        admitted = through(1 - sigmoid(sums[0] - self.beta, xp), "forget")
        return kept * old[0] + admitted * through(xp.tanh(sums[1]), "candidate")

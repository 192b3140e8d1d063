"""The layouts of the ONNX operators RNN, GRU and LSTM: W, R and B, with an axis for the direction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from gradsim import Layout, Model
from gradsim.errors import InputError
from gradsim_cells import GRU, LSTM, Elman, PeepholeLSTM
from gradsim_layouts.rows import reordered


def _weights(arrays, name, gates):
    """(W, R, the bias from the inputs, that from the state, n)."""
    shape = arrays["R"].shape
    n = shape[-1]
    if shape != (1, gates * n, n):
        raise InputError(
            f"{name}: R has shape {shape}, where (1, {gates} n, n) is needed: one direction, as the state at "
            "time t of a second one depends on inputs after t"
        )
    rows, recurrent = gates * n, arrays["R"][0]
    weight = arrays.take("W", (1, rows, arrays["W"].shape[-1]))[0]
    biases = arrays.take("B", (1, 2 * rows))[0] if "B" in arrays else np.zeros(2 * rows)
    return weight, recurrent, *np.split(biases, 2), n


@dataclass(frozen=True, eq=False)
class OnnxRNN(Layout):
    """The operator RNN: W (1, n, inputs), R (1, n, n), B (1, 2 n).

    With `clip` it is another cell, and weights do not tell; in the direction "reverse" it wants its inputs
    reversed.
    """

    name = "onnx_rnn"

    activation: Literal["Tanh", "Relu", "Sigmoid"] = "Tanh"

    def model(self, arrays):
        weight, recurrent, b, c, n = _weights(arrays, self.name, 1)
        activation = {"Tanh": "tanh", "Relu": "relu", "Sigmoid": "logistic"}[self.activation]
        return Model(Elman(weight.shape[1], n, activation), {"W": weight, "U": recurrent, "b": b + c})


@dataclass(frozen=True, eq=False)
class OnnxGRU(Layout):
    """The operator GRU: gates in the order z, r, h.

    The reset gate acts on the state with linear_before_reset=0, the default there, and with 1 on what U makes
    of it. With `clip` or other `activations` than the default it is another cell, and weights do not tell; in
    the direction "reverse" it wants its inputs reversed.
    """

    name = "onnx_gru"

    linear_before_reset: Literal[0, 1] = 0

    def model(self, arrays):
        weight, recurrent, b, c, n = _weights(arrays, self.name, 3)
        given = {"W": weight, "U": recurrent, "b": b, "c": c}
        params = {name: reordered(p, "zrh", "rzh") for name, p in given.items()}
        return Model(GRU(weight.shape[1], n, reset_after=bool(self.linear_before_reset)), params)


@dataclass(frozen=True, eq=False)
class OnnxLSTM(Layout):
    """The operator LSTM: gates in the order i, o, f, c; with peepholes P (1, 3 n) in the order i, o, f.

    With `clip`, `input_forget` or other `activations` than the default it is another cell, and weights do not
    tell; in the direction "reverse" it wants its inputs reversed.
    """

    name = "onnx_lstm"

    def model(self, arrays):
        weight, recurrent, b, c, n = _weights(arrays, self.name, 4)
        params = {
            name: reordered(p, "iofc", "ifco")
            for name, p in {"W": weight, "U": recurrent, "b": b + c}.items()
        }
        if "P" not in arrays:
            return Model(LSTM(weight.shape[1], n), params)
        peepholes = reordered(arrays.take("P", (1, 3 * n))[0], "iof", "ifo")
        return Model(PeepholeLSTM(weight.shape[1], n), params | {"p": peepholes})

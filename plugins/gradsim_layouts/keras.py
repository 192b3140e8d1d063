"""The layouts of Keras: kernel, recurrent_kernel and bias, with gates as columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from gradsim import Layout, Model
from gradsim_cells import GRU, LSTM, Elman
from gradsim_layouts.rows import reordered


def _weights(arrays, gates):
    """(W, U), rows by gate, and n."""
    n = len(arrays["recurrent_kernel"])
    recurrent = arrays.take("recurrent_kernel", (n, gates * n)).T
    return arrays.take("kernel", (len(arrays["kernel"]), gates * n)).T, recurrent, n


def _bias(arrays, shape):
    return arrays.take("bias", shape) if "bias" in arrays else np.zeros(shape)


@dataclass(frozen=True, eq=False)
class KerasRNN(Layout):
    """`keras.layers.SimpleRNN`: kernel (inputs, n), recurrent_kernel (n, n), bias (n)."""

    name = "keras_rnn"

    activation: Literal["tanh", "relu", "sigmoid"] = "tanh"

    def model(self, arrays):
        weight, recurrent, n = _weights(arrays, 1)
        activation = "logistic" if self.activation == "sigmoid" else self.activation
        params = {"W": weight, "U": recurrent, "b": _bias(arrays, (n,))}
        return Model(Elman(weight.shape[1], n, activation), params)


@dataclass(frozen=True, eq=False)
class KerasGRU(Layout):
    """`keras.layers.GRU`: gates in the order z, r, h.

    A bias (2, 3 n) says that the reset comes after the product, which is the default there, and one of (3 n)
    that it does not; without a bias `reset_after` says so.

    Gates are sigmoids and the candidate is a tanh, as by default there; with another activation, such as the
    hard_sigmoid of Keras 1, it is another cell, and weights do not tell. A layer with go_backwards wants its
    inputs reversed.
    """

    name = "keras_gru"

    reset_after: bool | None = None

    def model(self, arrays):
        weight, recurrent, n = _weights(arrays, 3)
        after = "bias" not in arrays or arrays["bias"].ndim == 2
        after = after if self.reset_after is None else self.reset_after
        b, c = _bias(arrays, (2, 3 * n)) if after else (_bias(arrays, (3 * n,)), np.zeros(3 * n))
        given = {"W": weight, "U": recurrent, "b": b, "c": c}
        params = {name: reordered(p, "zrh", "rzh") for name, p in given.items()}
        return Model(GRU(weight.shape[1], n, reset_after=after), params)


@dataclass(frozen=True, eq=False)
class KerasLSTM(Layout):
    """`keras.layers.LSTM`: gates in the order i, f, c, o, which is ours; bias (4 n).

    Gates are sigmoids, and tanh what they let in and out, as by default there; with another activation it is
    another cell, and weights do not tell. A layer with go_backwards wants its inputs reversed.
    """

    name = "keras_lstm"

    def model(self, arrays):
        weight, recurrent, n = _weights(arrays, 4)
        params = {"W": weight, "U": recurrent, "b": _bias(arrays, (4 * n,))}
        return Model(LSTM(weight.shape[1], n), params)

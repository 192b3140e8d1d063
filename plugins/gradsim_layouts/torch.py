"""The layout of PyTorch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np

from gradsim import Layout, Model
from gradsim.errors import InputError
from gradsim_cells import GRU, LSTM, Elman, Stack

_KINDS = {1: "RNN", 3: "GRU", 4: "LSTM"}


@dataclass(frozen=True, eq=False)
class Torch(Layout):
    """`nn.RNN`, `nn.GRU`, `nn.LSTM` and their Cell classes: weight_ih, weight_hh, bias_ih, bias_hh by layer.

    The kind is known by the rows of weight_hh: n, 3 n or 4 n. The gates lie in our order. An RNN and an LSTM
    have two biases where one does the same; they are added. Layers are a `Stack`.
    `nonlinearity` is that of an RNN.
    """

    name = "torch"

    nonlinearity: Literal["tanh", "relu"] = "tanh"

    def model(self, arrays):
        for name in arrays:
            if name.endswith("_reverse"):
                raise InputError(
                    f"torch: {name} belongs to a network in two directions, whose state at time t depends on "
                    "inputs after t; give one of the directions, by its names without _reverse"
                )
            if "weight_hr" in name:
                raise InputError(f"torch: {name} is the projection of an LSTM, which no cell of gradsim has")
        last = max((int(m[1]) for n in arrays if (m := re.fullmatch(r"weight_ih_l(\d+)", n))), default=None)
        if last is None:
            return self._layer(arrays, "")
        layers = [self._layer(arrays, f"_l{i}") for i in range(last + 1)]
        if len(layers) == 1:
            return layers[0]
        params = {f"layer{i}_{n}": p for i, layer in enumerate(layers) for n, p in layer.params.items()}
        return Model(Stack(tuple(layer.cell for layer in layers)), params)

    def _layer(self, arrays, suffix):
        recurrent = arrays[f"weight_hh{suffix}"]
        if recurrent.ndim != 2 or (kind := _KINDS.get(len(recurrent) / recurrent.shape[1])) is None:
            raise InputError(
                f"torch: weight_hh{suffix} is {recurrent.shape}, where (n, n), (3 n, n) or (4 n, n) is needed"
            )
        rows, n = recurrent.shape
        inputs = arrays[f"weight_ih{suffix}"]
        weight = arrays.take(f"weight_ih{suffix}", (rows, inputs.shape[-1]))
        biased = f"bias_ih{suffix}" in arrays
        b, c = (
            arrays.take(f"bias_{way}{suffix}", (rows,)) if biased else np.zeros(rows) for way in ("ih", "hh")
        )
        params, size = {"W": weight, "U": recurrent}, weight.shape[1]
        if kind == "GRU":
            return Model(GRU(size, n), params | {"b": b, "c": c})
        cell = LSTM(size, n) if kind == "LSTM" else Elman(size, n, self.nonlinearity)
        return Model(cell, params | {"b": b + c})

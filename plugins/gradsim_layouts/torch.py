"""The layout of PyTorch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np

from gradsim import Layout, Model
from gradsim.errors import InputError
from gradsim_cells import GRU, LSTM, Elman, LSTMProjected, Stack

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
            if name.startswith("parametrizations."):
                raise InputError(
                    f"torch: {name} makes a weight that is not kept itself; call "
                    "torch.nn.utils.parametrize.remove_parametrizations(module, weight) first"
                )
        last = max((int(m[1]) for n in arrays if (m := re.fullmatch(r"weight_ih_l(\d+)", n))), default=None)
        if last is None:
            return self._layer(arrays, "")
        layers = [self._layer(arrays, f"_l{i}") for i in range(last + 1)]
        if len(layers) == 1:
            return layers[0]
        params = {f"layer{i}_{n}": p for i, layer in enumerate(layers) for n, p in layer.params.items()}
        return Model(Stack(tuple(layer.cell for layer in layers)), params)

    def _layer(self, arrays, suffix):
        if f"weight_hr{suffix}" in arrays:
            return self._projected(arrays, suffix)
        recurrent = arrays[f"weight_hh{suffix}"]
        if recurrent.ndim != 2 or (kind := _KINDS.get(len(recurrent) / recurrent.shape[1])) is None:
            raise InputError(
                f"torch: weight_hh{suffix} is {recurrent.shape}, where (n, n), (3 n, n) or (4 n, n) is needed"
            )
        rows, n = recurrent.shape
        weight, b, c = self._inputs(arrays, suffix, rows)
        params, size = {"W": weight, "U": recurrent}, weight.shape[1]
        if kind == "GRU":
            return Model(GRU(size, n), params | {"b": b, "c": c})
        cell = LSTM(size, n) if kind == "LSTM" else Elman(size, n, self.nonlinearity)
        return Model(cell, params | {"b": b + c})

    def _projected(self, arrays, suffix):
        p, n = len(arrays[f"weight_hr{suffix}"]), arrays[f"weight_hr{suffix}"].shape[-1]
        projection = arrays.take(f"weight_hr{suffix}", (p, n))
        weight, b, c = self._inputs(arrays, suffix, 4 * n)
        recurrent = arrays.take(f"weight_hh{suffix}", (4 * n, p))
        params = {"W": weight, "U": recurrent, "V": projection, "b": b + c}
        return Model(LSTMProjected(weight.shape[1], n, p), params)

    def _inputs(self, arrays, suffix, rows):
        """(the weight from the inputs, the biases beside it and beside that from the state)."""
        weight = arrays.take(f"weight_ih{suffix}", (rows, arrays[f"weight_ih{suffix}"].shape[-1]))
        if f"bias_ih{suffix}" not in arrays:
            return weight, np.zeros(rows), np.zeros(rows)
        return weight, *(arrays.take(f"bias_{way}{suffix}", (rows,)) for way in ("ih", "hh"))

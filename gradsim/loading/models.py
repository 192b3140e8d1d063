"""A cell and its parameters, of weights in the layout of another library."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradsim.contracts import registry
from gradsim.contracts.layout import Arrays, Layout, Model
from gradsim.contracts.plugin import calling
from gradsim.errors import InputError, shown
from gradsim.loading.files import read_arrays, tensors
from gradsim.types import Array

if TYPE_CHECKING:
    import torch


def load_weights(
    weights: str | PathLike[str] | Mapping[str, Any], layout: str | Layout, *, prefix: str = ""
) -> Model:
    """A model that was trained elsewhere, as a cell and its parameters.

    Parameters
    ----------
    weights
        A file (.safetensors, .npz, or .pt and .pth, which PyTorch reads with ``weights_only=True``), or named
        arrays.
    layout
        How the library names and orders them: a name that ``gradsim list layouts`` tells, or a `Layout`.
    prefix
        What the names of this network begin with in a larger model, such as ``"encoder.rnn."``; all others
        are passed over.

    Returns
    -------
    Model
        ``(cell, params)``, for ``simulate(cell, ..., params=params)``.

    Raises
    ------
    InputError, UnknownNameError
        The file cannot be read, or a weight is missing, has another shape than is needed, or would not be
        used.
    """
    arrays = _named(weights)
    chosen = {n.removeprefix(prefix): x for n, x in arrays.items() if n.startswith(prefix)}
    if not chosen:
        raise InputError(f"no weight begins with {prefix!r}; there are: {', '.join(arrays) or 'none'}")
    made = registry.build("layouts", layout) if isinstance(layout, str) else layout
    given = Arrays(chosen, made.name)
    with calling(made, "model", chosen):
        model = made.model(given)
    given.refuse_rest()
    return model


def from_torch(module: torch.nn.Module | Mapping[str, Any], *, prefix: str = "") -> Model:
    """A recurrent network of PyTorch, as a cell and its parameters.

    Parameters
    ----------
    module
        An `nn.RNN`, `nn.GRU` or `nn.LSTM`, of one or more layers, one of their Cell classes, or a state_dict
        of one, whose kind is known by its shapes (an activation is taken to be tanh). Networks in two
        directions are refused: at time t the state of the way back depends on inputs after t.
    prefix
        See `load_weights`.

    Returns
    -------
    Model
        ``(cell, params)``.

    Raises
    ------
    InputError, UnknownNameError
        It is something else, or has what no cell has.
    """
    if isinstance(module, Mapping):
        return load_weights(tensors(module) or module, "torch", prefix=prefix)
    if not hasattr(module, "state_dict"):
        raise InputError(f"from_torch needs a module of PyTorch or its state_dict, not {shown(module)}")
    options = {"nonlinearity": n} if (n := getattr(module, "nonlinearity", None)) is not None else {}
    layout = registry.build("layouts", "torch", options)
    return load_weights(tensors(module.state_dict()), layout, prefix=prefix)


def _named(weights: str | PathLike[str] | Mapping[str, Any]) -> dict[str, Array]:
    if isinstance(weights, Mapping):
        return dict(weights)
    return read_arrays(Path(weights))

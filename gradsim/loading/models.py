"""A cell and its parameters, of weights in the layout of another library."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradsim.contracts import registry
from gradsim.contracts.layout import Arrays, Layout, Model
from gradsim.contracts.plugin import calling
from gradsim.errors import InputError, listed, shown
from gradsim.loading.files import named, read_arrays
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
        arrays or tensors; those in dicts within are called by the names of both, ``"model.weight_hh_l0"``.
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
    if not isinstance(prefix, str):
        raise InputError(f"prefix should be text, such as 'encoder.rnn.' (got {shown(prefix)})")
    arrays = _named(weights)
    chosen = {n.removeprefix(prefix): x for n, x in arrays.items() if n.startswith(prefix)}
    if not chosen:
        raise InputError(f"no weight begins with {shown(prefix)}; there are: {listed(arrays)}")
    made = registry.build("layouts", layout) if isinstance(layout, str) else layout
    if not isinstance(made, Layout):
        raise InputError(f"layout should be a name, such as 'torch', or a Layout (got {shown(made)})")
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
        directions are refused: at time t the state of the way back depends on inputs after t. Dropout between
        layers is left out.
    prefix
        Where it is in a larger module, or what its names begin with, such as ``"encoder.rnn."``.

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
        return load_weights(module, "torch", prefix=prefix)
    if isinstance(module, type) or not hasattr(module, "state_dict"):
        raise InputError(f"from_torch needs a module of PyTorch or its state_dict, not {shown(module)}")
    inside = dict(module.named_modules()).get(str(prefix).removesuffix("."))
    options = {"nonlinearity": n} if (n := getattr(inside, "nonlinearity", None)) is not None else {}
    layout = registry.build("layouts", "torch", options)
    return load_weights(module.state_dict(), layout, prefix=prefix)


def _named(weights: str | PathLike[str] | Mapping[str, Any]) -> dict[str, Array]:
    if isinstance(weights, Mapping):
        return named(weights)
    if not isinstance(weights, str | PathLike):
        raise InputError(f"weights should be a file or named arrays (got {shown(weights)})")
    return read_arrays(Path(weights))

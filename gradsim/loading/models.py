"""A cell and its parameters, of weights in the layout of another library."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from gradsim.contracts import registry
from gradsim.contracts.layout import Arrays, Layout, Model
from gradsim.contracts.plugin import calling
from gradsim.contracts.torch_cell import TorchModule
from gradsim.errors import InputError, listed, shown
from gradsim.loading.files import named, read_arrays
from gradsim.numerics import autodiff
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


def from_torch(
    module: torch.nn.Module | Mapping[str, Any] | Callable[..., Any],
    params: Mapping[str, Any] | None = None,
    *,
    prefix: str = "",
    input_size: int | None = None,
    blocks: Mapping[str, int] | None = None,
    exact: bool = True,
) -> Model:
    """A recurrent network of PyTorch, or any step of one's own, as a cell and its parameters.

    Parameters
    ----------
    module
        An `nn.RNN`, `nn.GRU` or `nn.LSTM`, of one or more layers, one of their Cell classes, or a state_dict
        of one, whose kind is known by its shapes (an activation is taken to be tanh). Networks in two
        directions are refused: at time t the state of the way back depends on inputs after t. Dropout between
        layers is left out.

        With `input_size` and `blocks` any step: a module, ``module(x, h)`` gives the new h, or a function
        ``step(params, x, h)``. Of several blocks the state is a tuple, as with `nn.LSTMCell`. PyTorch takes
        the steps and derives them; see `gradsim.TorchCell`. The module is copied, to the CPU.
    params
        Those of a function: named tensors or arrays.
    prefix
        Where it is in a larger module, or what its names begin with, such as ``"encoder.rnn."``.
    input_size, blocks
        Of a step of one's own: the size of x, and those of the blocks of its state, in order, such as
        ``{"h": 8, "c": 8}``.
    exact
        False for a step whose backward pass is not its derivative on purpose, such as one of spiking neurons.

    Returns
    -------
    Model
        ``(cell, params)``. Of a step of one's own, ``module.load_state_dict(cell.state_dict(params))`` takes
        parameters back after a training.

    Raises
    ------
    InputError, UnknownNameError
        It is something else, or has what no cell has.
    PluginError
        What it makes is no state like that of `blocks`; it changes what it is given, or itself; or it draws
        random numbers, as dropout does before ``module.eval()``.
    """
    if isinstance(module, Mapping):
        return load_weights(module, "torch", prefix=prefix)
    if input_size is not None or blocks is not None or params is not None:
        return _own_step(module, params, prefix, input_size, blocks, exact)
    if isinstance(module, type) or not callable(module):
        raise InputError(f"from_torch needs a module of PyTorch or its state_dict, not {shown(module)}")
    parts = dict(cast("torch.nn.Module", module).named_modules()) if hasattr(module, "state_dict") else {}
    inside = parts.get(str(prefix).removesuffix("."), None if parts else module)
    if inside is not None and not _is_known(type(inside)):
        raise InputError(
            f"from_torch knows nn.RNN, nn.GRU, nn.LSTM and their Cell classes, and {_title(inside)} is none; "
            "of a step of your own, module(x, h), say what goes in: "
            'from_torch(module, input_size=3, blocks={"h": 8})'
        )
    options = {"nonlinearity": n} if (n := getattr(inside, "nonlinearity", None)) is not None else {}
    layout = registry.build("layouts", "torch", options)
    return load_weights(cast("torch.nn.Module", module).state_dict(), layout, prefix=prefix)


def _is_known(cls: type) -> bool:
    """Whether it is a recurrent network of PyTorch, and not a class of one's own that is made of one."""
    bases = {base.__module__ for base in cls.__mro__}
    return cls.__module__.startswith("torch.nn.") and "torch.nn.modules.rnn" in bases


def _own_step(
    module: Any,
    params: Mapping[str, Any] | None,
    prefix: str,
    input_size: int | None,
    blocks: Mapping[str, int] | None,
    exact: bool,
) -> Model:
    by_torch = autodiff.load_torch()
    if input_size is None or blocks is None or not blocks:
        raise InputError(
            f"from_torch needs input_size and blocks of {_title(module)}, such as input_size=3 and "
            'blocks={"h": 8}'
        )
    if not isinstance(blocks, Mapping):
        raise InputError(f'blocks should be sizes by name, such as {{"h": 8}} (got {shown(blocks)})')
    if isinstance(module, type):
        raise InputError(f"from_torch needs a module, and {_title(module)} is the class; call it")
    if prefix:
        raise InputError(f"from_torch takes no prefix ({prefix!r}) with blocks; give the module inside")
    if hasattr(module, "state_dict"):
        if params is not None:
            raise InputError(f"{_title(module)} has parameters of its own; leave out params")
        given = by_torch.copied(module)
    elif callable(module) and params is not None:
        given = by_torch.Function(module, params)
    else:
        raise InputError(
            "from_torch needs a module of PyTorch, or a function step(params, x, h) and its params, not "
            f"{shown(module)}"
        )
    cell = TorchModule(given, input_size, dict(blocks), exact)
    with calling(cell, "module"):
        found = Model(cell, cell.init_params(np.random.default_rng(0)))
        cell.try_out()
    return found


def _title(module: Any) -> str:
    return getattr(module, "__name__", type(module).__name__)


def _named(weights: str | PathLike[str] | Mapping[str, Any]) -> dict[str, Array]:
    if isinstance(weights, Mapping):
        return named(weights)
    if not isinstance(weights, str | PathLike):
        raise InputError(f"weights should be a file or named arrays (got {shown(weights)})")
    return read_arrays(Path(weights))

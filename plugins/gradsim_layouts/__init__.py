"""The layouts of weights that ship with gradsim: one file, one library."""

from gradsim import hookimpl
from gradsim_layouts.keras import KerasGRU, KerasLSTM, KerasRNN
from gradsim_layouts.onnx import OnnxGRU, OnnxLSTM, OnnxRNN
from gradsim_layouts.torch import Torch

__all__ = ["KerasGRU", "KerasLSTM", "KerasRNN", "OnnxGRU", "OnnxLSTM", "OnnxRNN", "Torch"]


@hookimpl
def gradsim_register_layouts():
    """Our layouts."""
    return [Torch, KerasRNN, KerasGRU, KerasLSTM, OnnxRNN, OnnxGRU, OnnxLSTM]

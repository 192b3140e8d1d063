"""The cells that ship with gradsim: one file, one idea and its reference."""

from gradsim import hookimpl
from gradsim_cells.elman import Elman
from gradsim_cells.gru import GRU
from gradsim_cells.linear import Linear
from gradsim_cells.lru import LRU
from gradsim_cells.lstm import LSTM
from gradsim_cells.min_gru import MinGRU
from gradsim_cells.stack import Stack

__all__ = ["GRU", "LRU", "LSTM", "Elman", "Linear", "MinGRU", "Stack"]


@hookimpl
def gradsim_register_cells():
    """Our cells."""
    return [Linear, Elman, GRU, LSTM, MinGRU, LRU, Stack]

"""Cells whose units see each other through dense weights only."""

from gradsim.contracts.dense.cell import Dense
from gradsim.contracts.dense.slopes import Slopes
from gradsim.contracts.dense.weights import Term

__all__ = ["Dense", "Slopes", "Term"]

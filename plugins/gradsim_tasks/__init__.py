"""The tasks that ship with gradsim: one file, one task and its reference."""

from gradsim import hookimpl
from gradsim_tasks.adding import Adding
from gradsim_tasks.sunspots import Sunspots
from gradsim_tasks.temporal_order import TemporalOrder

__all__ = ["Adding", "Sunspots", "TemporalOrder"]


@hookimpl
def gradsim_register_tasks():
    """Our tasks."""
    return [Adding, TemporalOrder, Sunspots]

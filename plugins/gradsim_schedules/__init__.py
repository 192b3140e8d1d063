"""The learning-rate schedules that ship with gradsim: one file, one idea and its reference."""

from gradsim import hookimpl
from gradsim_schedules.cosine import Cosine
from gradsim_schedules.exponential import Exponential
from gradsim_schedules.inverse_sqrt import InverseSqrt
from gradsim_schedules.step_decay import StepDecay
from gradsim_schedules.warmup import Warmup

__all__ = ["Cosine", "Exponential", "InverseSqrt", "StepDecay", "Warmup"]


@hookimpl
def gradsim_register_schedules():
    """Our schedules."""
    return [StepDecay, Exponential, Cosine, InverseSqrt, Warmup]

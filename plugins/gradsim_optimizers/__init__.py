"""The optimizers that ship with gradsim: one file, one idea and its reference."""

from gradsim import hookimpl
from gradsim_optimizers.adam import Adam, AdamW
from gradsim_optimizers.rmsprop import RMSprop
from gradsim_optimizers.sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "RMSprop"]


@hookimpl
def gradsim_register_optimizers():
    """Our optimizers."""
    return [SGD, RMSprop, Adam, AdamW]

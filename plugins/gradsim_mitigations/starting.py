"""Mitigations that only say how parameters start."""

from __future__ import annotations

from abc import abstractmethod

from gradsim import Mitigation, hookimpl
from gradsim.errors import InputError


class Starting(Mitigation):
    """One that starts some parameters in its own way; what is trained afterwards is up to the training."""

    @property
    @abstractmethod
    def start(self):
        """How they start: a `gradsim.contracts.start.Start`."""

    @hookimpl(wrapper=True)
    def gradsim_params(self, cell, rng):
        params = yield
        return started(self, cell, params, rng, self.start)


def started(mitigation, cell, params, rng, start):
    """The parameters, with those in place that start as told."""
    for _, lack in start.lacking(cell.factors(params).values()):
        raise InputError(f"{mitigation.name}: {cell.name} has {lack}; leave it out")
    try:
        return cell.started(params, rng, start)
    except InputError as error:
        raise InputError(f"{mitigation.name}: {cell.name} cannot start so; {error}") from error

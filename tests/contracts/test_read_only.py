"""What a hook is given can be read, and not written to."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
import pytest
from helpers import broken

import gradsim
from gradsim import Cell, Episode, Wrapper, hookimpl
from gradsim.contracts import hookspecs
from gradsim.contracts.trajectory import Trajectory
from gradsim.training.verb import train
from gradsim_cells import Elman
from gradsim_optimizers import SGD
from gradsim_tasks import Adding


def arrays(value):
    """All arrays in what a hook is given."""
    match value:
        case np.ndarray():
            yield value
        case Mapping():
            for inner in value.values():
                yield from arrays(inner)
        case gradsim.Jacobians():
            yield value.blocks
        case Trajectory() | Episode():
            for field in fields(value):
                yield from arrays(getattr(value, field.name))


def watching(hook, seen):
    """A mitigation that asks for everything that a hook is given, and changes nothing."""
    names = list(inspect.signature(getattr(hookspecs, hook)).parameters)
    lines = [
        f"def watch(self, {', '.join(names)}):",
        "    result = yield",
        f"    look({', '.join(f'{n}={n}' for n in names)})",
        "    return result",
    ]

    def look(draws, **given):
        for name, value in {**given, "draws": draws}.items():
            found = [x for x in arrays(value) if x.size]
            seen[name] = seen.get(name, 0) + len(found)
            assert not any(x.flags.writeable for x in found), name
            for array in found:
                with pytest.raises(ValueError, match="read-only"):
                    array[...] = 0

    scope = {"look": look}
    exec("\n".join(lines), scope)
    members = {"requires": ("product_norm",), "draw": lambda self, rng, steps: {"noise": rng.random(steps)}}
    return broken(hook, hookimpl(wrapper=True)(scope["watch"]), **members)


@dataclass(frozen=True, eq=False)
class Driven(Wrapper):
    """Adds a bit of what the task gives and of what it draws."""

    name = "driven"
    cell: Cell

    def own_draw(self, rng, steps, batch, moment):
        return {"noise": np.zeros((steps, batch, 1)) if moment.validating else rng.random((steps, batch, 1))}

    def mix(self, own, state, inputs, new, xp, *, noise, step_index):
        return new + 0.01 * noise


HOLD_ARRAYS = {
    "gradsim_step_data": {"step_data", "inputs", "episode", "draws"},
    "gradsim_jacobians": {"trajectory", "jacobians", "measured", "draws"},
    "gradsim_adjoint": {"trajectory", "adjoint", "draws"},
    "gradsim_contributions": {"trajectory", "contributions", "draws"},
    "gradsim_penalty": {"trajectory", "params", "episode", "adjoint", "jacobians", "measured", "draws"},
    "gradsim_gradient": {"gradient", "params", "episode", "trajectory", "draws"},
    "gradsim_update": {"params", "before", "gradient", "draws"},
}


@pytest.mark.parametrize("hook", HOLD_ARRAYS)
@pytest.mark.parametrize("steps", [20, 300])
def test_no_array_that_a_hook_is_given_can_be_written_to(hook, steps):
    seen, cell = {}, Driven(Elman(2, 4))
    mitigation = watching(hook, seen)
    record = ["effective_gradient", "effective_contribution"]
    if hook != "gradsim_update":
        gradsim.simulate(cell, task=Adding(length=steps), batch=3, mitigations=[mitigation], record=record)
        assert {name for name, count in seen.items() if count} == HOLD_ARRAYS[hook]
        seen.clear()
    train(cell, Adding(length=steps), optimizer=SGD(0.1), updates=2, batch=3, mitigations=[mitigation])
    assert {name for name, count in seen.items() if count} == HOLD_ARRAYS[hook]


def test_the_arrays_of_a_rule_cannot_be_written_to(inputs):
    @hookimpl(wrapper=True)
    def rule(self, trajectory, direct):
        yield
        assert not any(x.flags.writeable for x in [*arrays(trajectory), direct] if x.size)
        return trajectory.params

    mitigation = broken("gradsim_rule", rule)
    gradsim.simulate(Elman(2, 4), inputs, mitigations=[mitigation], record=["effective_gradient"])

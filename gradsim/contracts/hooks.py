"""The hooks of one run: a plugin manager that holds only the mitigations that were chosen for it."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pluggy

from gradsim.contracts import hookspecs
from gradsim.contracts.mitigation import BackwardJacobian, Mitigation, Penalty
from gradsim.errors import PluginError

hookimpl = pluggy.HookimplMarker("gradsim")


class Core:
    """The innermost implementation of every run hook: nothing is changed."""

    @hookimpl
    def gradsim_prepare_cell(self, cell):  # type: ignore[no-untyped-def]
        return cell

    @hookimpl
    def gradsim_init_params(self, cell, rng):  # type: ignore[no-untyped-def]
        return cell.init_params(rng)

    @hookimpl
    def gradsim_backward_jacobian(self, steps, jacobian):  # type: ignore[no-untyped-def]
        if isinstance(jacobian, BackwardJacobian):  # no mitigation asks for it
            return jacobian
        return BackwardJacobian(jacobian, np.zeros(len(steps), dtype=np.int64))

    @hookimpl
    def gradsim_backward_step(self, adjoint):  # type: ignore[no-untyped-def]
        return adjoint

    @hookimpl
    def gradsim_penalty(self):  # type: ignore[no-untyped-def]
        return Penalty(0.0, {})

    @hookimpl
    def gradsim_backward(self, gradient):  # type: ignore[no-untyped-def]
        return gradient


RUN_HOOKS = tuple(name for name in vars(Core) if name.startswith("gradsim_"))


def _core() -> pluggy.PluginManager:
    manager = pluggy.PluginManager("gradsim")
    manager.add_hookspecs(hookspecs)
    manager.register(Core(), name="core")
    return manager


_core_alone = functools.cache(_core)
"""Reading the hook specifications takes longer than a small run does otherwise."""


class RunHooks:
    """The hooks of one run: the chosen mitigations around the core, applied in the order written.

    Raises
    ------
    PluginError
        A mitigation is not one, misspells a hook, or implements a run hook that is not a wrapper.
    """

    def __init__(self, mitigations: Sequence[Mitigation]) -> None:
        self.manager = _core() if mitigations else _core_alone()
        for i, mitigation in enumerate(mitigations):
            self._add(i, mitigation)

    def _add(self, i: int, mitigation: Mitigation) -> None:
        if not isinstance(mitigation, Mitigation):
            what = "the class; call it" if isinstance(mitigation, type) else f"a {type(mitigation).__name__}"
            raise PluginError(f"mitigations[{i}] should be a Mitigation object, got {mitigation!r}: {what}")
        if mitigation in self.manager.get_plugins():
            raise PluginError(
                f"mitigations[{i}] is the same object as an earlier one; make a second {mitigation!r}"
            )
        try:
            self.manager.register(mitigation, name=f"{i}:{mitigation.name}")
            self.manager.check_pending()
        except pluggy.PluginValidationError as error:
            raise PluginError(
                f"{mitigation!r}: {error}; the hooks are in gradsim.contracts.hookspecs"
            ) from None
        mine = [
            (name, impl)
            for name in RUN_HOOKS
            for impl in getattr(self.manager.hook, name).get_hookimpls()
            if impl.plugin is mitigation
        ]
        for name, impl in mine:
            if not impl.wrapper:
                raise PluginError(
                    f"{mitigation!r}: {name} should be a wrapper; write @hookimpl(wrapper=True) and yield"
                )
        self.manager.register(_guard(mitigation, [name for name, _ in mine]), name=f"{i}:guard")

    def uses(self, hook: str, argument: str | None = None) -> bool:
        """Whether a mitigation implements this hook, and asks for this argument of it."""
        asked = self._asked[hook]
        return bool(asked) if argument is None else any(argument in names for names in asked)

    @functools.cached_property
    def _asked(self) -> dict[str, list[tuple[str, ...]]]:
        """The arguments that each implementation of each run hook by a mitigation asks for."""
        return {
            name: [
                i.argnames
                for i in getattr(self.manager.hook, name).get_hookimpls()
                if i.wrapper and isinstance(i.plugin, Mitigation)
            ]
            for name in RUN_HOOKS
        }

    @property
    def used(self) -> set[str]:
        """The hooks that some mitigation implements."""
        return {name for name in RUN_HOOKS if self.uses(name)}

    def __call__(self, hook: str, **arguments: Any) -> Any:
        """Call a run hook."""
        return getattr(self.manager.hook, hook)(**arguments)


def _guard(mitigation: Mitigation, hooks: Iterable[str]) -> object:
    """A plugin just outside a mitigation that refuses what the mitigation forgot to return."""

    def watch(name: str) -> Any:
        def guard(self: object) -> Any:
            result = yield
            if result is None:
                raise PluginError(
                    f"{mitigation!r}: {name} returned None; end it with `return` and the changed result"
                )
            return result

        return hookimpl(wrapper=True)(guard)

    return type("Guard", (), {name: watch(name) for name in hooks})()

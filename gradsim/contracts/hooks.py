"""The hooks of one run: a plugin manager that holds only the mitigations that were chosen for it."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import pluggy

from gradsim.contracts import hookspecs
from gradsim.contracts.mitigation import Mitigation, Penalty
from gradsim.contracts.promises import initial_params
from gradsim.errors import PluginError

hookimpl = pluggy.HookimplMarker("gradsim")


class Core:
    """The innermost implementation of every run hook: nothing is changed."""

    @hookimpl
    def gradsim_cell(self, cell):  # type: ignore[no-untyped-def]
        return cell

    @hookimpl
    def gradsim_params(self, cell, rng):  # type: ignore[no-untyped-def]
        return initial_params(cell, rng)

    @hookimpl
    def gradsim_step_data(self, step_data):  # type: ignore[no-untyped-def]
        return step_data

    @hookimpl
    def gradsim_jacobians(self, jacobians):  # type: ignore[no-untyped-def]
        return jacobians

    @hookimpl
    def gradsim_adjoint(self, adjoint):  # type: ignore[no-untyped-def]
        return adjoint

    @hookimpl
    def gradsim_contributions(self, contributions):  # type: ignore[no-untyped-def]
        return contributions

    @hookimpl
    def gradsim_rule(self):  # type: ignore[no-untyped-def]
        return None

    @hookimpl
    def gradsim_penalty(self):  # type: ignore[no-untyped-def]
        return Penalty(0.0, {})

    @hookimpl
    def gradsim_gradient(self, gradient):  # type: ignore[no-untyped-def]
        return gradient

    @hookimpl
    def gradsim_update(self, params):  # type: ignore[no-untyped-def]
        return params


RUN_HOOKS = tuple(name for name in vars(Core) if name.startswith("gradsim_"))

REPLACED_BY_A_RULE = ("jacobians", "adjoint", "contributions")
"""The phases of the backward pass, which there is none of under a rule."""


class _Manager(pluggy.PluginManager):
    """Looks for hooks only where there may be some: looking everywhere takes as long as a small run."""

    def parse_hookimpl_opts(self, plugin: Any, name: str) -> Any:
        return None if name.startswith("__") else super().parse_hookimpl_opts(plugin, name)

    def parse_hookspec_opts(self, module_or_class: Any, name: str) -> Any:
        return super().parse_hookspec_opts(module_or_class, name) if name in RUN_HOOKS else None


def _core() -> pluggy.PluginManager:
    manager = _Manager("gradsim")
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
        A mitigation is not one, has no hook, misspells or forgets to mark one, or implements a run hook
        that is not a wrapper; or two mitigations exclude each other.
    """

    def __init__(self, mitigations: Sequence[Mitigation]) -> None:
        self.mitigations = tuple(mitigations)
        self.manager = _core() if mitigations else _core_alone()
        for i, mitigation in enumerate(mitigations):
            self._add(i, mitigation)
        self._refuse_exclusive()

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
        for name in dir(type(mitigation)):
            if name.startswith("gradsim_") and not hasattr(getattr(mitigation, name), "gradsim_impl"):
                raise PluginError(
                    f"{mitigation!r}: {name} is not marked; put @hookimpl(wrapper=True) in front of it"
                )
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
        if not mine:
            raise PluginError(
                f"{mitigation!r} implements no hook of a run, and would change nothing; the hooks are "
                f"{', '.join(RUN_HOOKS)}"
            )
        self.manager.register(_guard(mitigation, [name for name, _ in mine]), name=f"{i}:guard")

    def _refuse_exclusive(self) -> None:
        """A rule stands in place of the backward pass: there is one, and nothing beside it changes that."""
        rules = self.phases.get("rule", ())
        others = [n for phase in REPLACED_BY_A_RULE for n in self.phases.get(phase, ()) if n not in rules]
        if len(rules) > 1:
            raise PluginError(
                f"{' and '.join(rules)} both put a rule in place of the backward pass; choose one"
            )
        if rules and others:
            raise PluginError(
                f"{rules[0]} puts a rule in place of the backward pass, which {others[0]} would change; "
                "choose one of the two"
            )

    @functools.cached_property
    def phases(self) -> dict[str, tuple[str, ...]]:
        """Who acts in each phase of a run, in this order; phases come in the order of `RUN_HOOKS`."""
        found = {}
        for hook in RUN_HOOKS:
            impls = getattr(self.manager.hook, hook).get_hookimpls()
            names = tuple(i.plugin.name for i in impls if isinstance(i.plugin, Mitigation))
            if names:
                found[hook.removeprefix("gradsim_")] = names
        return found

    def uses(self, hook: str, argument: str | None = None) -> bool:
        """Whether a mitigation implements this hook, and asks for this argument of it."""
        asked = self._asked[hook]
        return bool(asked) if argument is None else any(argument in names for names in asked)

    def unasked(self, hook: str, argument: str) -> Mitigation | None:
        """The first mitigation that implements this hook and does not ask for this argument of it."""
        impls = getattr(self.manager.hook, hook).get_hookimpls()
        return next(
            (i.plugin for i in impls if isinstance(i.plugin, Mitigation) and argument not in i.argnames), None
        )

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

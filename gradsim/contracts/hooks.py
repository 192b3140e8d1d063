"""The hooks of one run: a plugin manager that holds only the mitigations that were chosen for it."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any

import pluggy

from gradsim.contracts import hookspecs, registry
from gradsim.contracts.jacobians import Jacobians
from gradsim.contracts.mitigation import Mitigation, Penalty
from gradsim.contracts.moment import Moment
from gradsim.contracts.plugin import calling, parameters_of, refuse_by_value
from gradsim.contracts.promises import initial_params
from gradsim.contracts.returned import refuse_other_array, refuse_wrong
from gradsim.contracts.trajectory import Trajectory
from gradsim.errors import GradsimError, PluginError, UnknownNameError, shown, unknown
from gradsim.types import Array

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


_CORE = Core()

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
    manager.register(_CORE, name="core")
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
        refuse_by_value(mitigation)
        if any(mitigation is earlier for earlier in self.mitigations[:i]):
            raise PluginError(
                f"mitigations[{i}] is the same object as an earlier one; make a second {mitigation!r}"
            )
        self.manager.register(_Guarded(mitigation), name=f"{i}:{mitigation.name}")

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
            if names := tuple(m.name for m in self._who(hook)):
                found[hook.removeprefix("gradsim_")] = names
        return found

    def who(self, hook: str) -> str:
        """A hook and the mitigations that implement it, to begin the message of an error."""
        return f"{' and '.join(map(shown, self._who(hook)))}: {hook}"

    def uses(self, hook: str, argument: str | None = None) -> bool:
        """Whether a mitigation implements this hook, and asks for this argument of it."""
        asked = self._asked[hook]
        return bool(asked) if argument is None else any(argument in names for names in asked)

    def unasked(self, hook: str, argument: str) -> Mitigation | None:
        """The first mitigation that implements this hook and does not ask for this argument of it."""
        impls = getattr(self.manager.hook, hook).get_hookimpls()
        return next((i.plugin.mitigation for i in impls if i.wrapper and argument not in i.argnames), None)

    def only(self, hook: str) -> Mitigation | None:
        """The first mitigation that implements this hook and no other."""
        others = [m for name in RUN_HOOKS if name != hook for m in self._who(name)]
        return next((m for m in self._who(hook) if m not in others), None)

    def _who(self, hook: str) -> list[Mitigation]:
        impls = getattr(self.manager.hook, hook).get_hookimpls()
        return [i.plugin.mitigation for i in impls if i.wrapper]

    @functools.cached_property
    def _asked(self) -> dict[str, list[tuple[str, ...]]]:
        """The arguments that each implementation of each run hook by a mitigation asks for."""
        return {
            name: [i.argnames for i in getattr(self.manager.hook, name).get_hookimpls() if i.wrapper]
            for name in RUN_HOOKS
        }

    @property
    def used(self) -> set[str]:
        """The hooks that some mitigation implements."""
        return {name for name in RUN_HOOKS if self.uses(name)}

    def __call__(self, hook: str, **arguments: Any) -> Any:
        """Call a run hook."""
        if not self._asked[hook]:  # nothing is changed: without a way through the manager
            inner = getattr(_CORE, hook)
            return inner(**{name: arguments[name] for name in parameters_of(inner)})
        return getattr(self.manager.hook, hook)(**arguments)


class _Guarded:
    """The hooks of one mitigation, each of which says whose it is where it goes wrong."""

    def __init__(self, mitigation: Mitigation) -> None:
        self.mitigation = mitigation
        _refuse_unmeasurable(mitigation)
        for name, implementation in _hooks_of(mitigation):
            setattr(self, name, _guarded(mitigation, name, implementation))
        if len(vars(self)) == 1:  # none but the mitigation itself
            raise PluginError(
                f"{mitigation!r} implements no hook of a run, and would change nothing"
                f"{_meant(vars(type(mitigation)))}; the hooks are {', '.join(RUN_HOOKS)}"
            )


def _refuse_unmeasurable(mitigation: Mitigation) -> None:
    """Raise unless what a mitigation requires are raw results that there are."""
    required = mitigation.requires
    if not (isinstance(required, tuple) and all(isinstance(name, str) for name in required)):
        raise PluginError(
            f"{mitigation!r}: requires is {shown(required)}; it should be a tuple of names of recorders, "
            'such as ("product_norm",)'
        )
    for name in required:
        try:
            recorder = registry.recorder(name)
        except UnknownNameError as error:
            raise PluginError(f"{mitigation!r}: requires an {error}") from None
        if True in recorder.flows:
            raise PluginError(f"{mitigation!r}: requires {name}, which is no result of the raw run")


def _hooks_of(mitigation: Mitigation) -> Iterator[tuple[str, Callable[..., Any]]]:
    """The hooks of the phases in which a mitigation acts, each of them marked, known and a wrapper."""
    acts = None if mitigation.phases is None else {f"gradsim_{phase}" for phase in mitigation.phases}
    for name in (acts or set()) - {*dir(type(mitigation))}:
        raise PluginError(
            f"{mitigation!r}: phases names {name.removeprefix('gradsim_')!r}, and it has no {name}"
        )
    for name in dir(type(mitigation)):
        options = getattr(getattr(type(mitigation), name), "gradsim_impl", None)
        if options is None and not name.startswith("gradsim_"):
            continue
        if name not in RUN_HOOKS:
            raise PluginError(f"{mitigation!r}: {unknown('hook', name, RUN_HOOKS)}")
        if options is None:
            raise PluginError(
                f"{mitigation!r}: {name} is not marked; put @hookimpl(wrapper=True) in front of it"
            )
        implementation = getattr(mitigation, name)
        if not (options["wrapper"] and inspect.isgeneratorfunction(implementation)):
            raise PluginError(
                f"{mitigation!r}: {name} should be a wrapper; write @hookimpl(wrapper=True), and yield "
                "for the result so far"
            )
        offered = inspect.signature(getattr(hookspecs, name)).parameters
        for asked in inspect.signature(implementation).parameters:
            if asked not in offered:
                raise PluginError(f"{mitigation!r}: {unknown(f'argument of {name}', asked, offered)}")
            if asked == "measured" and not mitigation.requires:
                raise PluginError(
                    f"{mitigation!r}: {name} asks for `measured`, and nothing is; name recorders "
                    "in `requires`"
                )
        if acts is None or name in acts:
            yield name, implementation


def _meant(names: Iterable[str]) -> str:
    """The first of some names that is nearly that of a hook, and which."""
    for name in names:
        if near := difflib.get_close_matches(name, RUN_HOOKS, n=1, cutoff=0.8):
            return f"; did you mean {near[0]} by {name}?"
    return ""


def _guarded(mitigation: Mitigation, hook: str, implementation: Callable[..., Any]) -> Callable[..., Any]:
    """An implementation of a hook that names its mitigation where it raises, yields or returns wrongly."""

    @functools.wraps(implementation)
    def guarded(*arguments: Any) -> Generator[Any, Any, Any]:
        inside = implementation(*arguments)
        with calling(mitigation, hook, _names_in(arguments)):
            try:
                next(inside)
            except StopIteration:
                raise _wrong(mitigation, hook, "ended without a yield") from None
        given: Any = None
        before: Any = None
        try:
            given = yield
        except BaseException as error:
            go_on = functools.partial(inside.throw, error)
        else:
            before = dict(given) if isinstance(given, dict) else given  # which the hook may write into
            go_on = functools.partial(inside.send, given)
        with calling(mitigation, hook, _names_in((*arguments, given))):
            try:
                go_on()
            except StopIteration as end:
                result = end.value
            else:
                raise _wrong(mitigation, hook, "yielded twice; once is for the result so far")
        try:
            refuse_wrong(hook, before, result)
        except GradsimError as error:
            raise type(error)(f"{shown(mitigation)}: {hook} {error}") from error.__cause__
        return _made(mitigation, given, result) if hook == "gradsim_jacobians" else result

    return guarded


def _wrong(mitigation: Mitigation, hook: str, what: str) -> PluginError:
    return PluginError(f"{shown(mitigation)}: {hook} {what}")


def _names_in(values: Iterable[Any]) -> Iterator[Any]:
    """The names that a hook may look up in what it is given."""
    for value in values:
        match value:
            case Mapping():
                yield from value
                yield from _names_in(value.values())  # those of `draws[self]`, too
            case Trajectory():
                yield from (*value.params, *value.step_data)
            case Moment():
                yield from _names_in([value.memories])


def _made(mitigation: Mitigation, given: Jacobians, result: Jacobians) -> Jacobians:
    """Changed Jacobians, which are made only when they are read: what goes wrong then is named as well."""
    if result is given or result.own:
        return result

    def make() -> Array:
        with calling(mitigation, "gradsim_jacobians"):
            blocks = result.blocks
        try:
            refuse_other_array("blocks", given.blocks, blocks)
        except GradsimError as error:
            raise type(error)(f"{shown(mitigation)}: gradsim_jacobians {error}") from None
        return blocks

    return Jacobians(result.steps, make, result.reach)

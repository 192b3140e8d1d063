"""The conformance kit: does a plugin keep its contract?

The whole test file of an out-of-tree plugin::

    from gradsim.testing import conformance
    from gradsim_mine import MyCell

    test_my_cell = conformance(MyCell(hidden_size=5, input_size=3))

At a prompt, ``check_cell(MyCell())`` raises at the first check that fails. Everything is drawn from
fixed seeds, so a check that passes once always passes.

A check whose ground is missing (the product of Jacobians when the Jacobian itself is wrong) is not
made, and raises `unittest.SkipTest`: one mistake fails one check.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from unittest import SkipTest

from gradsim.contracts.cell import Cell
from gradsim.contracts.initializer import Initializer
from gradsim.contracts.layout import Layout
from gradsim.contracts.mitigation import Mitigation
from gradsim.contracts.optimizer import Optimizer, Schedule
from gradsim.contracts.plugin import Plugin
from gradsim.contracts.recorder import Recorder
from gradsim.contracts.task import Task
from gradsim.errors import InputError, unknown
from gradsim.testing.kit import Suite

__all__ = [
    "check_cell",
    "check_initializer",
    "check_layout",
    "check_mitigation",
    "check_optimizer",
    "check_recorder",
    "check_schedule",
    "check_task",
    "checks_of",
    "conformance",
]


def check_cell(cell: Cell, *, task: Task | None = None) -> None:
    """Make all checks of a cell; raise AssertionError at the first that fails.

    `task` draws the step data that the cell asks for and neither has nor draws itself. Without one
    the kit makes up arrays of a size that `step` accepts.
    """
    _check_all(_of_family(cell, Cell), task=task)


def check_mitigation(mitigation: Mitigation, *, cell: Cell | None = None, task: Task | None = None) -> None:
    """Make all checks of a mitigation; raise AssertionError at the first that fails.

    `cell` is what it is tried on; a small tanh network with parameters W, U, b when left out. `task`
    is as in `check_cell`.
    """
    _check_all(_of_family(mitigation, Mitigation), cell=cell, task=task)


def check_task(task: Task) -> None:
    """Make all checks of a task; raise AssertionError at the first that fails."""
    _check_all(_of_family(task, Task))


def check_recorder(recorder: Recorder) -> None:
    """Make all checks of a recorder; raise AssertionError at the first that fails."""
    _check_all(_of_family(recorder, Recorder))


def check_optimizer(optimizer: Optimizer) -> None:
    """Make all checks of an optimizer; raise AssertionError at the first that fails."""
    _check_all(_of_family(optimizer, Optimizer))


def check_schedule(schedule: Schedule) -> None:
    """Make all checks of a learning-rate schedule; raise AssertionError at the first that fails."""
    _check_all(_of_family(schedule, Schedule))


def check_initializer(initializer: Initializer) -> None:
    """Make all checks of an initializer; raise AssertionError at the first that fails."""
    _check_all(_of_family(initializer, Initializer))


def check_layout(layout: Layout) -> None:
    """Make all checks of a layout of weights; raise AssertionError at the first that fails."""
    _check_all(_of_family(layout, Layout))


def checks_of(
    plugin: Plugin, *, cell: Cell | None = None, task: Task | None = None
) -> list[tuple[str, Callable[[], None]]]:
    """The checks of a plugin: their names, and functions that make them.

    Each function returns None, raises AssertionError with one sentence, or raises SkipTest where
    another check that it rests on fails.
    """
    return _suite(plugin, cell, task).calls()


def conformance(
    *plugins: Plugin,
    expected_failures: Mapping[str, str] | None = None,
    cell: Cell | None = None,
    task: Task | None = None,
) -> Callable[..., None]:
    """One parametrised pytest function that makes all checks of all plugins.

    Assign it to a name that begins with ``test_``. The ids read ``elman-jacobian``.

    Parameters
    ----------
    plugins
        Objects of any family.
    expected_failures
        Check name -> the reason why it fails; a strict xfail, for every plugin that has the check.
    cell
        What mitigations are tried on; see `check_mitigation`.
    task
        What draws step data; see `check_cell`.

    Raises
    ------
    UnknownNameError
        An expected failure is not the name of a check of these plugins.
    """
    import pytest

    cases = [
        (label, name, call)
        for label, plugin in _labels(plugins)
        for name, call in checks_of(plugin, cell=cell, task=task)
    ]
    expected = dict(expected_failures or {})
    known = {name for _, name, _ in cases}
    for name in expected:
        if name not in known:
            raise unknown("check in expected_failures", name, known)
    parameters = [
        pytest.param(
            call,
            id=f"{label}-{name}",
            marks=[pytest.mark.xfail(reason=expected[name], strict=True)] if name in expected else [],
        )
        for label, name, call in cases
    ]

    @pytest.mark.parametrize("check", parameters)
    def test_conformance(check: Callable[[], None]) -> None:
        __tracebackhide__ = True
        check()

    return test_conformance  # type: ignore[no-any-return, unused-ignore]


def _check_all(plugin: Plugin, **options: Any) -> None:
    __tracebackhide__ = True
    for _, call in checks_of(plugin, **options):
        try:
            call()
        except SkipTest:  # what it rests on has failed, and is raised in its turn
            continue


def _of_family(plugin: Any, family: type) -> Any:
    if not isinstance(plugin, family):
        raise InputError(f"one {family.__name__} object is needed, got {plugin!r}{_call_it(plugin)}")
    return plugin


def _call_it(plugin: Any) -> str:
    return "; call the class" if isinstance(plugin, type) else ""


def _suite(plugin: Plugin, cell: Cell | None, task: Task | None) -> Suite:
    # Imported when used, because the checks need the whole engine.
    from gradsim.testing import initializer as initializers
    from gradsim.testing import layout as layouts
    from gradsim.testing import optimizer as optimizers
    from gradsim.testing import recorder as recorders
    from gradsim.testing import schedule as schedules
    from gradsim.testing.cell import suite as cells
    from gradsim.testing.mitigation import suite as mitigations
    from gradsim.testing.task import suite as tasks

    if isinstance(plugin, Cell):
        return cells.suite(plugin, task)
    if isinstance(plugin, Mitigation):
        return mitigations.suite(plugin, cell, task)
    if isinstance(plugin, Task):
        return tasks.suite(plugin)
    if isinstance(plugin, Recorder):
        return Suite(recorders.RecorderBench(plugin), recorders.CHECKS)
    if isinstance(plugin, Optimizer):
        return Suite(optimizers.OptimizerBench(plugin), optimizers.CHECKS)
    if isinstance(plugin, Schedule):
        return Suite(schedules.ScheduleBench(plugin), schedules.CHECKS)
    if isinstance(plugin, Initializer):
        return Suite(initializers.InitializerBench(plugin), initializers.CHECKS)
    if isinstance(plugin, Layout):
        return Suite(layouts.LayoutBench(plugin), layouts.CHECKS)
    raise InputError(f"a plugin object, such as a Cell, is needed, got {plugin!r}{_call_it(plugin)}")


def _labels(plugins: tuple[Plugin, ...]) -> list[tuple[str, Plugin]]:
    """A readable name for each: its own, and where that is there already what differs."""
    first: dict[str, Plugin] = {}
    labels: list[tuple[str, Plugin]] = []
    taken: set[str] = set()
    for plugin in plugins:
        name = str(getattr(plugin, "name", type(plugin).__name__))
        one = first.setdefault(name, plugin)
        label = name
        if one is not plugin:
            parts = [f"{k}={v}" for k, v in plugin.parameters.items() if v != one.parameters.get(k)]
            label = "-".join([name, *parts])
        while label in taken:
            label += "-again"
        taken.add(label)
        labels.append((label, plugin))
    return labels

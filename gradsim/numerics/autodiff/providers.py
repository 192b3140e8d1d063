"""Which library makes the free derivatives: autograd, which is always there, or another for a while.

What is in force belongs to the thread and what it has begun, so that runs side by side do not meet.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import metadata
from typing import Any, Protocol, cast

from gradsim.errors import InputError
from gradsim.numerics.autodiff import by_autograd
from gradsim.types import Array, Params, StepData

Step = Callable[..., Any]

NEEDED = "0.8"
"""The first JAX with `jax.enable_x64`, by which float64 is switched on for one call and not for a process."""


class Block(Protocol):
    """Steps that a library has taken in one call."""

    @property
    def states(self) -> Array:
        """(steps + 1, batch, m)."""

    @property
    def compiled(self) -> Hashable:
        """What took them: the same object as long as it is the same program."""

    def pull(self, row: int, incoming: Array, direct: Array) -> tuple[Array, Params]:
        """Adjoints and gradient of some steps from `row` on; see `Trajectory.pull`."""


class Provider(Protocol):
    """Derivatives of any step; arguments and results of each are described in `by_autograd`."""

    name: str

    def unroll(
        self, step: Step, params: Params, state: Array, inputs: Array, step_data: StepData
    ) -> Block | None:
        """Steps from a state (batch, m) on; None of a library that takes none."""

    def step_jacobians(
        self, step: Step, groups: int, parts: int, params: Params, state: Array, inputs: Array, data: StepData
    ) -> list[Array]:
        """With respect to each of some states side by side, blocks (..., g, k, k)."""

    def inputs_jacobian(
        self, step: Step, params: Params, state: Array, inputs: Array, data: StepData
    ) -> Array:
        """That of the new state with respect to the inputs, (..., m, input)."""

    def state_vjp(
        self, step: Step, params: Params, state: Array, inputs: Array, cotangent: Array, data: StepData
    ) -> Array:
        """A cotangent (..., m) of the new state, pulled back to the old one."""

    def params_vjp(
        self, step: Step, params: Params, state: Array, inputs: Array, cotangent: Array, data: StepData
    ) -> Params:
        """To the parameters, (..., *param), summed over the last leading axis."""

    def inputs_vjp(
        self, step: Step, params: Params, state: Array, inputs: Array, cotangent: Array, data: StepData
    ) -> Array:
        """To the inputs, (..., input)."""

    def bilinear_vjp(
        self,
        step: Step,
        params: Params,
        state: Array,
        inputs: Array,
        left: Array,
        right: Array,
        data: StepData,
    ) -> tuple[Params, Array]:
        """The derivative of sum(left @ J @ right) for parameters and old states."""


AUTOGRAD = cast(Provider, by_autograd)

_in_force: ContextVar[Provider] = ContextVar("provider", default=AUTOGRAD)


def provider() -> Provider:
    """The library in force."""
    return _in_force.get()


def step_jacobian(
    step: Step, groups: int, params: Params, state: Array, inputs: Array, data: StepData
) -> Array:
    """J of a step by the library in force, shape (..., g, k, k)."""
    (jacobian,) = provider().step_jacobians(step, groups, 1, params, state, inputs, data)
    return jacobian


@contextmanager
def deriving(by: Provider) -> Iterator[None]:
    """While it lasts, the derivatives of steps come from this library."""
    token = _in_force.set(by)
    try:
        yield
    finally:
        _in_force.reset(token)


# JAX, which is optional.


def jax_refused(load: bool = True) -> str | None:
    """Why JAX cannot be used here, in a few words; None if it can, or seems to where it is not loaded."""
    if _forked:
        return _FORKED
    return _absent() or (_broken() if load else None)


_FORKED = "this process was forked from one that had JAX loaded, where it would hang; start it by spawn"
_forked = False


def _after_fork() -> None:
    global _forked
    _forked = _forked or "jax" in sys.modules


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@functools.cache
def _absent() -> str | None:
    if not _file():
        return f"JAX is not installed; pip install 'jax>={NEEDED}'"
    try:
        version = metadata.version("jax")
    except metadata.PackageNotFoundError:
        return f"there is a folder named jax, but JAX is not installed; pip install 'jax>={NEEDED}'"
    return _too_old(version)


@functools.cache
def _broken() -> str | None:
    failed = None
    try:
        load_jax().cpu()
    except (Exception, SystemExit) as error:  # of whatever kind a broken installation raises
        failed = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    # Another one may lie before the one that was installed.
    if old := _too_old(getattr(sys.modules.get("jax"), "__version__", None), f" in {_file()}"):
        return old
    if failed:
        return f"JAX is broken here ({failed}, in {_file()}); pip install --force-reinstall jax"
    return None


def _file() -> str | None:
    """Where JAX would come from, None if from nowhere."""
    try:
        spec = importlib.util.find_spec("jax")
    except ValueError:  # a module of that name that somebody has made
        return None
    return None if spec is None else spec.origin


def _too_old(version: str | None, where: str = "") -> str | None:
    """Says so; of a version that is no number nothing is known."""
    numbers, needed = (tuple(map(int, re.findall(r"\d+", str(v))[:2])) for v in (version, NEEDED))
    if not numbers or numbers >= needed:
        return None
    return f"JAX {version}{where} is too old; pip install 'jax>={NEEDED}'"


def load_jax() -> Any:
    """The module that derives with JAX, which it imports."""
    return importlib.import_module("gradsim.numerics.autodiff.by_jax")


# PyTorch, which is optional too: it derives steps that are its own.


def load_torch() -> Any:
    """The module that derives with PyTorch, which it imports.

    Raises
    ------
    InputError
        PyTorch is not installed.
    """
    if importlib.util.find_spec("torch") is None:
        raise InputError("PyTorch is not installed; pip install 'gradsim[torch]'")
    return importlib.import_module("gradsim.numerics.autodiff.by_torch")

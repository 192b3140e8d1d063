"""Steps with the arrays of other libraries than NumPy."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from gradsim.engine.probe import Place

LIBRARIES = {"JAX": "jax.numpy", "torch": "array_api_compat.torch", "array-api-strict": "array_api_strict"}
"""Namespaces by the name of the library; that of torch comes from the package array-api-compat."""

_QUICKLY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def installed() -> dict[str, Any]:
    """The namespaces of those that are."""
    found = {}
    for name, module in LIBRARIES.items():
        with contextlib.suppress(ImportError):
            found[name] = importlib.import_module(module)
    return found


def why_not(function: Callable[..., Any], place: Place, title: str, xp: Any) -> str | None:
    """What a function of a cell does wrong with the arrays of `xp`, named `title`; None where it is right."""
    expected = place.copy().call(function, np)
    with _ready(xp):
        here = place.copy()
        params, data = ({n: xp.asarray(x) for n, x in d.items()} for d in (here.params, here.data))
        given = Place(params, xp.asarray(here.state), xp.asarray(here.inputs), data)
        try:
            found = given.call(_compiled(function) if _is_jax(xp) else function, xp)
        except Exception as error:
            first = str(error).partition("\n")[0]
            return f"does not go with {title} ({type(error).__name__}: {first})"
        if not isinstance(found, type(given.state)):
            return f"gives a {type(found).__name__} with {title}; compute with xp alone"
        if not np.allclose(np.asarray(found), expected, rtol=1e-9, atol=1e-11):
            return f"gives other numbers with {title} than with NumPy; compute with xp alone"
    return None


def _is_jax(xp: Any) -> bool:
    return bool(getattr(xp, "__name__", "") == LIBRARIES["JAX"])


@contextlib.contextmanager
def _ready(xp: Any) -> Iterator[None]:
    """With float64, on the processor."""
    if not _is_jax(xp):
        yield
        return
    import jax

    with jax.enable_x64(True), jax.default_device(jax.local_devices(backend="cpu")[0]):
        yield


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same compiled as a whole, in half the time that JAX takes to compile each operation by itself."""
    import jax

    def whole(params: Any, state: Any, inputs: Any, xp: Any, **data: Any) -> Any:
        def step(params: Any, state: Any, inputs: Any, data: Any) -> Any:
            return function(params, state, inputs, xp, **data)

        return jax.jit(step, compiler_options=_QUICKLY)(params, state, inputs, data)

    return whole

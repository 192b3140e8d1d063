"""Tensors in place of arrays, and ways back through functions of them: of PyTorch's, and for autograd.

All is on the CPU and on one thread, so that the numbers do not depend on how many there are.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from autograd.extend import defvjp_argnums, primitive
from torch import Tensor

from gradsim.types import Array, Params

Tensors = dict[str, Tensor]

NOT_SIDE_BY_SIDE = RuntimeError, UserWarning
"""What operations raise that do not go with vmap; the warning where warnings are errors."""

_lock = threading.RLock()


@contextmanager
def alone() -> Iterator[None]:
    """One call at a time: a module has one set of parameters, and PyTorch one number of threads."""
    with _lock:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with torch.inference_mode(False):
                yield
        finally:
            torch.set_num_threads(threads)


def as_tensor(array: Array) -> Tensor:
    """The same numbers, or a copy where PyTorch would not take them as they lie."""
    return torch.from_numpy(np.require(array, requirements=("C", "W")))


def as_tensors(params: Params, derived: bool = False) -> Tensors:
    """Those of named arrays, with a graph of what is made of them where they are derived."""
    return {n: as_tensor(p).requires_grad_(derived) for n, p in params.items()}


def deriving(function: Callable[..., Any], *given: Any) -> Any:
    """What a function makes, with its graph, whatever is in force around."""
    with torch.enable_grad():
        return function(*given)


def way_back(made: Any, at: Sequence[Tensor], cotangents: Any, **options: Any) -> Sequence[Tensor]:
    """The way back; zeros for what does not depend on a place, or on nothing at all."""
    if isinstance(made, Tensor) and not made.requires_grad:
        return [torch.zeros_like(x) for x in at]
    return torch.autograd.grad(made, at, cotangents, materialize_grads=True, **options)


def ways_back(made: Tensor, at: Tensor, cotangents: Tensor) -> Tensor:
    """The way back of several cotangents, side by side as far as that goes."""
    if not made.requires_grad:
        return torch.zeros_like(cotangents)
    try:
        (found,) = torch.autograd.grad(
            made, [at], [cotangents], retain_graph=True, allow_unused=True, is_grads_batched=True
        )
    except NOT_SIDE_BY_SIDE:
        found = torch.stack([way_back(made, [at], u, retain_graph=True)[0] for u in cotangents])
    return torch.zeros_like(cotangents) if found is None else found


@primitive  # type: ignore[untyped-decorator]
def of_arrays(function: Callable[..., Tensor], *arrays: Any) -> Array:
    """What a function of tensors makes of arrays; autograd can derive it, and its derivatives again."""
    with alone():
        return function(*(as_tensor(np.asarray(x)) for x in arrays)).detach().numpy()


def _back(
    places: Sequence[int], made: Any, given: Sequence[Any], named: Any
) -> Callable[[Any], tuple[Any, ...]]:
    function, *arrays = given
    return lambda cotangent: tuple(
        of_arrays(_pulled(function, place - 1), *arrays, cotangent) for place in places
    )


defvjp_argnums(of_arrays, _back)


def _pulled(function: Callable[..., Tensor], place: int) -> Callable[..., Tensor]:
    """The way back through a function to one of its arguments."""

    def pull(*given: Tensor) -> Tensor:
        deeper = any(x.requires_grad for x in given)
        with torch.enable_grad():
            *at, cotangent = (x if x.requires_grad else x.detach().requires_grad_() for x in given)
            return way_back(function(*at), [at[place]], cotangent, create_graph=deeper)[0]

    return pull

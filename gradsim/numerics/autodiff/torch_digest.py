"""What tells one step of PyTorch's from another, besides its parameters."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
import types
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def digest(module: nn.Module) -> str:
    """Of all that makes its numbers: layers, code, buffers, attributes; and of what is to be trained."""
    found = hashlib.sha256(f"{module}".encode())
    free = [n for n, p in module.named_parameters() if p.requires_grad]
    for part in _told((free, *map(_of_module, module.modules())), {}):
        found.update(part)
    return found.hexdigest()[:16]


def _of_module(module: nn.Module) -> Any:
    own = {n: x for n, x in vars(module).items() if n not in _OF_ANY}
    return type(module), dict(module.named_buffers(recurse=False)), own


_OF_ANY = vars(nn.Module()).keys()
"""The attributes of any module, which are in its layers, code and buffers, or make no number."""


def _told(value: Any, seen: dict[int, Any]) -> Iterator[bytes]:
    """Bytes that are others for another value, and the same in another process."""
    if id(value) in seen and not isinstance(value, _PLAIN):
        return
    seen[id(value)] = value  # kept, so that no other has its id
    yield type(value).__qualname__.encode()
    inside: tuple[Any, ...] = ()
    match value:
        case Tensor():
            found = value.detach().cpu().contiguous().reshape(-1)
            yield f"{value.dtype} {tuple(value.shape)}".encode() + found.view(torch.uint8).numpy().tobytes()
        case np.ndarray() if not value.dtype.hasobject:
            yield f"{value.dtype} {value.shape}".encode() + value.tobytes()
        case nn.Module():
            inside = (f"{value}", value.state_dict(), *map(_of_module, value.modules()))
        case Mapping():
            inside = tuple(value.items())
        case list() | tuple():
            inside = tuple(value)
        case types.FunctionType():
            closed = [cell.cell_contents for cell in value.__closure__ or ()]
            inside = (_source(value), value.__defaults__, value.__kwdefaults__, closed)
        case types.MethodType():
            inside = value.__func__, value.__self__
        case functools.partial():
            inside = value.func, value.args, value.keywords
        case type():
            yield _source(value).encode()
        case _ if isinstance(value, _PLAIN):
            yield repr(value).encode()
        case _ if dataclasses.is_dataclass(value) or callable(value):
            inside = type(value), getattr(value, "__name__", ""), getattr(value, "__dict__", {})
    for part in inside:
        yield from _told(part, seen)


_PLAIN = (type(None), bool, int, float, complex, str, bytes, np.generic)


def _source(code: Any) -> str:
    try:
        return inspect.getsource(code)
    except (OSError, TypeError):  # typed at a prompt, or not written in Python
        return f"{code.__module__}.{code.__qualname__}"

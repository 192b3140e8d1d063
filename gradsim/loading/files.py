"""Named arrays from files: safetensors, npz and, through PyTorch, pt."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from gradsim.errors import InputError, unknown
from gradsim.types import Array

_LONGEST_HEADER = 100_000_000
"""Bytes, as in the reference implementation of safetensors."""

_DTYPES = {
    **{"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"},
    **{"I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1", "BOOL": "?"},
}


def read_arrays(path: Path) -> dict[str, Array]:
    """The named arrays of a file, by its ending: .safetensors, .npz, .pt or .pth.

    Raises
    ------
    InputError
        There is no such file, its ending is another one, or it is broken.
    """
    if path.suffix not in _READERS:
        raise InputError(f"{path}: {unknown('kind of file', path.suffix, _READERS)}")
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    return _READERS[path.suffix](path)


def _safetensors(path: Path) -> dict[str, Array]:
    """Eight bytes of length, a JSON header, and the arrays one after the other.

    All sizes are checked before anything is allocated.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, _LONGEST_HEADER):
            raise _broken(path, f"its header of {length} bytes does not fit into {size}")
        try:
            header = json.loads(file.read(length))
            entries = {n: e for n, e in header.items() if n != "__metadata__"}
            places = {n: _place(e, size - 8 - length) for n, e in entries.items()}
            _refuse_overlaps(entries)
            return {n: _read(file, 8 + length, *place) for n, place in places.items()}
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise _broken(path, f"its header cannot be read: {error}") from error


def _place(entry: Mapping[str, Any], room: int) -> tuple[int, str, tuple[int, ...]]:
    """(first byte, dtype, shape)."""
    first, last = entry["data_offsets"]
    shape, kind = tuple(entry["shape"]), entry["dtype"]
    if kind not in _DTYPES:
        raise ValueError(str(unknown("dtype", kind, _DTYPES)))
    if not all(type(n) is int and n >= 0 for n in (first, last, *shape)):
        raise ValueError(f"shape {shape} at bytes {first} to {last} is not made of whole numbers")
    if last > room or last - first != math.prod(shape) * np.dtype(_DTYPES[kind]).itemsize:
        raise ValueError(f"shape {shape} of {kind} does not fit bytes {first} to {last} of {room}")
    return first, kind, shape


def _refuse_overlaps(entries: Mapping[str, Any]) -> None:
    """Bytes belong to one array, so that what is read is no larger than the file."""
    places = sorted(tuple(e["data_offsets"]) for e in entries.values())
    for (_, last), (first, _) in pairwise(places):
        if first < last:
            raise ValueError(f"the bytes from {first} to {last} belong to two arrays")


def _read(file: BinaryIO, start: int, first: int, kind: str, shape: tuple[int, ...]) -> Array:
    file.seek(start + first)
    dtype = np.dtype(_DTYPES[kind])
    flat = np.frombuffer(file.read(math.prod(shape) * dtype.itemsize), dtype)
    if kind == "BF16":  # the upper half of a float32
        flat = (flat.astype(np.uint32) << 16).view(np.float32)
    return flat.reshape(shape)


def _npz(path: Path) -> dict[str, Array]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            found = {name: archive[name] for name in archive.files}
    except Exception as error:  # of many kinds, from damaged archives
        raise _broken(path, str(error)) from error
    if rest := [name for name, x in found.items() if not isinstance(x, np.ndarray)]:
        raise _broken(path, f"{', '.join(rest)} should be arrays")
    return found


def _pt(path: Path) -> dict[str, Array]:
    try:
        import torch
    except ImportError:
        raise InputError(
            f"{path} is read by PyTorch, which is not installed; install it, or save as safetensors or npz"
        ) from None
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of many kinds, in a file of unknown origin
        raise _broken(path, f"PyTorch cannot read it with weights_only: {error}") from error
    if not isinstance(found, Mapping):
        raise _broken(path, f"it holds a {type(found).__name__}, where a state_dict is needed")
    return tensors(found)


def tensors(found: Mapping[str, Any]) -> dict[str, Array]:
    """The tensors among the values of a mapping, as arrays."""
    return {n: x.detach().cpu().double().numpy() for n, x in found.items() if hasattr(x, "detach")}


def _broken(path: Path, what: str) -> InputError:
    return InputError(f"{path} is no file of weights: {what}")


_READERS: dict[str, Callable[[Path], dict[str, Array]]] = {
    ".safetensors": _safetensors,
    ".npz": _npz,
    ".pt": _pt,
    ".pth": _pt,
}

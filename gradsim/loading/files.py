"""Named arrays from files: safetensors, npz and, through PyTorch, pt."""

from __future__ import annotations

import json
import math
import os
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from gradsim.errors import InputError, short, shown, unknown
from gradsim.machine.disk import human
from gradsim.types import Array

_LONGEST_HEADER = 100_000_000
"""Bytes, as in the reference implementation of safetensors."""

_DTYPES = {
    **{"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"},
    **{"I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "BOOL": "?"},
    **{"U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1"},
}

_ROOM, _RATIO = 10**8, 100
"""Bytes that any file may unpack to, and what a larger one may unpack to, as a multiple of its own size."""


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
            header = json.loads(file.read(length).decode(), object_pairs_hook=_unique)
            entries = {n: e for n, e in header.items() if n != "__metadata__"}
            places = {n: _place(e, size - 8 - length) for n, e in entries.items()}
            _refuse_gaps(entries, size - 8 - length)
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


def _unique(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """A dict of pairs, none of which replaces another."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"two arrays are called {shown(name)}")
        found[name] = value
    return found


def _refuse_gaps(entries: Mapping[str, Any], room: int) -> None:
    """Each byte belongs to one array, so that what is read is as large as the file."""
    end = 0
    for first, last in [*sorted(tuple(e["data_offsets"]) for e in entries.values()), (room, room)]:
        if first != end:
            belong = "two arrays" if first < end else "no array"
            raise ValueError(f"the bytes from {min(first, end)} to {max(first, end)} belong to {belong}")
        end = last


def _read(file: BinaryIO, start: int, first: int, kind: str, shape: tuple[int, ...]) -> Array:
    file.seek(start + first)
    dtype = np.dtype(_DTYPES[kind])
    flat = np.frombuffer(file.read(math.prod(shape) * dtype.itemsize), dtype)
    if kind == "BF16":  # the upper half of a float32
        flat = (flat.astype(np.uint32) << 16).view(np.float32)
    return flat.reshape(shape)


def _npz(path: Path) -> dict[str, Array]:
    try:
        with path.open("rb") as file:
            return npz_arrays(file)
    except Exception as error:  # of many kinds, from damaged archives
        raise _broken(path, str(error)) from error


def npz_arrays(file: BinaryIO) -> dict[str, Array]:
    """The named arrays of an npz archive, read-only; all sizes are checked before anything is allocated.

    What is raised of a damaged one is of many kinds.
    """
    size = file.seek(0, os.SEEK_END)
    with zipfile.ZipFile(file) as archive:
        if bomb := _bomb(size, (info.file_size for info in archive.infolist())):
            raise ValueError(bomb)
        members = [(info.filename.removesuffix(".npy"), info) for info in archive.infolist()]
        return _unique((name, _npy(archive, info)) for name, info in members)


def _npy(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Array:
    """An array in an archive: its bytes in the shape that its header tells, which allocates nothing."""
    with archive.open(info) as file:
        if not info.filename.endswith(".npy"):
            raise ValueError(f"{info.filename} should be an array")
        headers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        version = np.lib.format.read_magic(file)
        shape, in_columns, dtype = headers[version](file)
        data = file.read()
    found: Array = np.ndarray(shape, dtype, data, order="F" if in_columns else "C")
    if found.nbytes != len(data):
        raise ValueError(f"shape {shape} of {dtype} does not fit the {len(data)} bytes of {info.filename}")
    return found


def _pt(path: Path) -> dict[str, Array]:
    try:
        import torch
    except ImportError:
        raise InputError(
            f"{path} is read by PyTorch, which is not installed; install it, or save as safetensors or npz"
        ) from None
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                _refuse_bomb(path, (info.file_size for info in archive.infolist()))
        found = torch.load(path, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except Exception as error:  # of many kinds, in a file of unknown origin
        raise _broken(
            path,
            "PyTorch cannot read it with weights_only, which executes nothing; save the state_dict() of a "
            f"module ({short(str(error).partition('. ')[0])})",
        ) from error
    if not isinstance(found, Mapping):
        raise _broken(path, f"it holds a {type(found).__name__}, where a state_dict is needed")
    tensors = [x for x in _flat(found).values() if isinstance(x, torch.Tensor)]
    _refuse_bomb(path, (x.numel() * x.element_size() for x in tensors))
    return named(found)


def named(given: Mapping[str, Any]) -> dict[str, Any]:
    """Values by name, those in dicts by "outer.inner", and tensors as arrays.

    Raises
    ------
    InputError
        A name is no text, or a tensor cannot become an array.
    """
    return {name: _plain(name, value) for name, value in _flat(given).items()}


def _flat(given: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in given.items():
        if not isinstance(name, str):
            raise InputError(f"weights have names, such as 'weight_hh_l0' (got {shown(name)})")
        full = f"{prefix}{name}"
        found |= _flat(value, f"{full}.") if isinstance(value, Mapping) else {full: value}
    return found


def _plain(name: str, value: Any) -> Any:
    if not hasattr(value, "detach"):
        return value
    try:
        found = value.detach().cpu()
        return (found.double() if found.is_floating_point() else found).numpy()  # NumPy has no bfloat16
    except Exception as error:  # sparse, quantized or without data
        raise InputError(f"{name} is a tensor that cannot become an array: {short(str(error))}") from error


def _refuse_bomb(path: Path, sizes: Iterable[int]) -> None:
    """Raise if a small file would fill the memory."""
    if bomb := _bomb(path.stat().st_size, sizes):
        raise _broken(path, bomb)


def _bomb(size: int, sizes: Iterable[int]) -> str:
    """What is wrong with a file that is small and holds much; nothing with others."""
    total = sum(sizes)
    return f"{human(size)} would unpack to {human(total)}" if total > max(_ROOM, _RATIO * size) else ""


def _broken(path: Path, what: str) -> InputError:
    return InputError(f"{path} is no file of weights: {what}")


_READERS: dict[str, Callable[[Path], dict[str, Array]]] = {
    ".safetensors": _safetensors,
    ".npz": _npz,
    ".pt": _pt,
    ".pth": _pt,
}

"""Compiled kernels are used where numba is there and not switched off."""

from __future__ import annotations

import importlib.util
import sys

import pytest

from gradsim.machine import accelerator


def test_kernels_can_be_switched_off(monkeypatch):
    monkeypatch.setenv("GRADSIM_COMPILED", "0")
    assert not accelerator.enabled()
    assert accelerator.kernels("gradsim.contracts.dense.kernels") is None


def test_kernels_are_used_where_numba_is_installed(monkeypatch):
    monkeypatch.setenv("GRADSIM_COMPILED", "1")
    installed = importlib.util.find_spec("numba") is not None
    assert accelerator.enabled() == installed
    found = accelerator.kernels("gradsim.contracts.dense.kernels")
    assert getattr(found, "__name__", None) == ("gradsim.contracts.dense.kernels" if installed else None)


KERNELS = """
from numba import njit

from some_parts import RATE, TABLE, twice

@njit(cache=True)
def kernel(x):
    return twice(x) * RATE * TABLE[0]
"""
PARTS = """
from numba import njit

RATE, TABLE = 3, (1, 2)

@njit(cache=True)
def twice(x):
    return 2 * x
"""


@pytest.mark.parametrize(
    ("old", "new", "result"),
    [("", "", 6), ("2 * x", "4 * x", 12), ("RATE, TABLE = 3", "RATE, TABLE = 5", 10)],
)
def test_a_kernel_is_of_all_that_it_is_made_of(tmp_path, monkeypatch, old, new, result):
    """Numba itself looks at the file of a kernel alone."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "some_kernels.py").write_text(KERNELS)
    found = []
    for parts in (PARTS, PARTS.replace(old, new)):
        (tmp_path / "some_parts.py").write_text(parts)
        importlib.invalidate_caches()
        for name in ("some_kernels", "some_parts"):
            sys.modules.pop(name, None)
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        accelerator._loaded.cache_clear()
        accelerator.made_of.cache_clear()
        kernels = accelerator.kernels("some_kernels")
        found.append(kernels.kernel(1))
        hits = sum(kernels.kernel.stats.cache_hits.values())
    assert found == [6, result]
    assert hits == (old == new)


class KeptElsewhere:
    """A kernel as a version of numba might make it that keeps its cache elsewhere."""

    _cache = object()


def test_a_numba_that_keeps_its_cache_elsewhere_loses_the_stamp_only():
    accelerator.renew(KeptElsewhere())

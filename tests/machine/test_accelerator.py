"""Compiled kernels are used where numba is there and not switched off."""

from __future__ import annotations

import importlib.util

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

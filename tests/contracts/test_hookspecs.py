"""The page of hooks: each documented, and implemented by the core."""

from __future__ import annotations

import inspect

import pytest

from gradsim.contracts import hookspecs, registry
from gradsim.contracts.hooks import RUN_HOOKS, Core

SPECS = {n: f for n, f in vars(hookspecs).items() if n.startswith("gradsim_")}


@pytest.mark.parametrize("name", SPECS)
def test_every_hook_is_documented_and_typed(name):
    signature = inspect.signature(SPECS[name])
    assert inspect.getdoc(SPECS[name])
    assert signature.return_annotation is not inspect.Signature.empty
    assert all(p.default is p.empty for p in signature.parameters.values())


def test_run_hooks_have_a_core_and_registration_hooks_a_family():
    run = {n for n in SPECS if not n.startswith("gradsim_register_")}
    assert run == set(RUN_HOOKS) == {n for n in vars(Core) if n.startswith("gradsim_")}
    assert {n.removeprefix("gradsim_register_") for n in SPECS if n not in run} == set(registry.FAMILIES)

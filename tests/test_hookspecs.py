"""The page of hooks: each documented, implemented by the core, and used by a shipped plugin or a probe."""

from __future__ import annotations

import inspect

import pytest
from probes import mitigations

from gradsim.contracts import hooks as run_hooks
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


@pytest.mark.parametrize("name", RUN_HOOKS)
def test_a_shipped_mitigation_or_one_of_the_probes_uses_every_run_hook(name):
    shipped = registry.catalogue().plugins["mitigations"].values()
    assert any(hasattr(cls, name) for cls in [*shipped, *vars(mitigations).values()])


def test_a_hook_that_nobody_implements_is_not_called(monkeypatch):
    """Without mitigations only set-up hooks are called at all."""
    import numpy as np

    import gradsim
    from gradsim_cells import Elman

    called = []
    call = run_hooks.RunHooks.__call__
    monkeypatch.setattr(
        run_hooks.RunHooks, "__call__", lambda self, hook, **a: called.append(hook) or call(self, hook, **a)
    )
    record = ["effective_gradient", "effective_product_norm"]
    gradsim.simulate(Elman(1, 2), np.ones((9, 1, 1)), record=record)
    assert called == ["gradsim_cell", "gradsim_params"]

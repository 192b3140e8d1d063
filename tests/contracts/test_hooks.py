"""The hooks of a run: who is called, and mitigations that break their contract."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pytest
from probes import mitigations

import gradsim
from gradsim import Mitigation, hookimpl
from gradsim.contracts import hooks as run_hooks
from gradsim.contracts import registry
from gradsim.contracts.hooks import RUN_HOOKS
from gradsim.errors import PluginError
from gradsim_cells import Elman
from gradsim_mitigations import ClipNorm, Gate, Leak


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


def test_cells_are_wrapped_in_the_order_written(inputs):
    runs = [
        gradsim.simulate(Elman(2, 3), inputs, mitigations=m)
        for m in ([Leak(0.5), Gate()], [Gate(), Leak(0.5)])
    ]
    cells = [json.loads(ds.attrs["provenance"])["cell_as_run"] for ds in runs]
    assert cells[0].startswith("Gated(cell=Leaky(cell=Elman(")
    assert cells[1].startswith("Leaky(cell=Gated(cell=Elman(")


X = np.random.default_rng(0).standard_normal((6, 3, 2))


def broken(hook, impl):
    """A mitigation with this one hook implementation."""
    cls = type("Broken", (Mitigation,), {"name": "broken", "__annotations__": {}, hook: impl})
    return dataclass(frozen=True, eq=False)(cls)()


@hookimpl(wrapper=True)
def forgets(self):
    yield


@hookimpl
def replaces(self):
    return None


@hookimpl(wrapper=True)
def misspelt(self):
    return (yield)


@hookimpl(wrapper=True)
def wrong_shape(self):
    adjoint = yield
    return adjoint[..., :1]


@hookimpl(wrapper=True)
def unknown_argument(self, gradiant):
    return (yield)


@pytest.mark.parametrize(
    ("hook", "impl", "message"),
    [
        ("gradsim_adjoint", forgets, r"Broken\(\): gradsim_adjoint returned None; .*`return`"),
        ("gradsim_gradient", forgets, "gradsim_gradient returned None"),
        ("gradsim_jacobians", forgets, "gradsim_jacobians returned None"),
        ("gradsim_penalty", forgets, "gradsim_penalty returned None"),
        ("gradsim_cell", forgets, "gradsim_cell returned None"),
        ("gradsim_params", forgets, "gradsim_params returned None"),
        ("gradsim_adjoint", replaces, r"should be a wrapper; write @hookimpl\(wrapper=True\)"),
        ("gradsim_backward_stp", misspelt, "unknown hook 'gradsim_backward_stp'"),
        ("gradsim_adjoint", wrong_shape, r"returned shape \(3, 1\) for an adjoint of shape \(3, 4\)"),
        ("gradsim_gradient", unknown_argument, "gradiant"),
    ],
)
def test_a_broken_mitigation_is_named(hook, impl, message):
    record = ["effective_gradient"]
    with pytest.raises(PluginError, match=message):
        gradsim.simulate(Elman(2, 4), X, mitigations=[broken(hook, impl)], record=record)


def test_an_error_inside_a_mitigation_comes_out_unchanged():
    @hookimpl(wrapper=True)
    def fails(self):
        yield
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        gradsim.simulate(
            Elman(2, 4),
            X,
            mitigations=[broken("gradsim_gradient", fails)],
            record=["effective_gradient"],
        )


def test_the_same_object_twice_is_refused():
    clip = ClipNorm()
    with pytest.raises(PluginError, match="same object"):
        gradsim.simulate(Elman(2, 4), X, mitigations=[clip, clip])
    gradsim.simulate(Elman(2, 4), X, mitigations=[ClipNorm(), ClipNorm()])

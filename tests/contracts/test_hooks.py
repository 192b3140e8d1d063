"""The hooks of a run: who is called, and mitigations that break their contract."""

from __future__ import annotations

import json

import numpy as np
import pytest
from helpers import broken, refused, returning
from probes import mitigations

import gradsim
from gradsim import hookimpl
from gradsim.contracts import hooks as run_hooks
from gradsim.contracts import registry
from gradsim.contracts.hooks import RUN_HOOKS, RunHooks
from gradsim.contracts.moment import Moment
from gradsim.errors import PluginError
from gradsim_cells import Elman
from gradsim_mitigations import ClipNorm, Gate, Leak, OrthogonalInit


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


@hookimpl
def replaces(self):
    return None


@hookimpl(wrapper=True)
def never_yields(self):
    return None


@hookimpl(wrapper=True)
def sometimes_yields(self):
    if self.name != "broken":
        yield
    return None


@hookimpl(wrapper=True)
def yields_twice(self):
    yield (yield)


@hookimpl(wrapper=True)
def fails_before(self):
    _ = 1 / 0
    return (yield)


@hookimpl(wrapper=True)
def misnames(self, adjont):
    return (yield)


@hookimpl(wrapper=True)
def reads_unmeasured(self, measured):
    return (yield)


PLAIN = returning(lambda result: result)
NAME = "Broken(): "


@pytest.mark.parametrize(
    ("hook", "implementation", "message"),
    [
        ("gradsim_adjoint", replaces, "gradsim_adjoint should be a wrapper; write @hookimpl(wrapper=True)"),
        (
            "gradsim_adjoint",
            never_yields,
            "gradsim_adjoint should be a wrapper; write @hookimpl(wrapper=True), and yield",
        ),
        ("gradsim_gradiant", PLAIN, "unknown hook 'gradsim_gradiant'; did you mean 'gradsim_gradient'?"),
        (
            "gradsim_gradiant",
            lambda self: 0,
            "unknown hook 'gradsim_gradiant'; did you mean 'gradsim_gradient'?",
        ),
        ("gradsm_gradient", PLAIN, "unknown hook 'gradsm_gradient'; did you mean 'gradsim_gradient'?"),
        ("gradsim_gradient", lambda self: 0, "gradsim_gradient is not marked; put @hookimpl"),
        (
            "gradsm_gradient",
            lambda self: 0,
            "no hook of a run, and would change nothing; did you mean gradsim_gradient by gradsm_gradient?",
        ),
        (
            "helper",
            lambda self: 0,
            "implements no hook of a run, and would change nothing; the hooks are gradsim_cell",
        ),
        ("gradsim_adjoint", misnames, "argument of gradsim_adjoint 'adjont'; did you mean 'adjoint'?"),
        (
            "gradsim_penalty",
            reads_unmeasured,
            "gradsim_penalty asks for `measured`, and nothing is; name recorders in `requires`",
        ),
    ],
)
def test_a_mitigation_without_a_proper_hook_is_refused_before_anything_is_done(hook, implementation, message):
    with refused(PluginError, "Broken()", message):
        RunHooks([broken(hook, implementation)])


@pytest.mark.parametrize("hook", sorted({*RUN_HOOKS} - {"gradsim_update", "gradsim_step_data"}))
@pytest.mark.parametrize(
    ("implementation", "message"),
    [
        (returning(lambda result: None), "returned None; end it with `return` and the changed result"),
        (sometimes_yields, "ended without a yield"),
        (yields_twice, "yielded twice; once is for the result so far"),
        (fails_before, "() raised ZeroDivisionError: division by zero ("),
        (returning(lambda result: {}["W"]), "() raised KeyError: 'W' ("),
        (returning(lambda result: "text"), "a str"),
    ],
)
def test_whatever_a_hook_does_wrong_names_mitigation_and_hook(hook, implementation, message):
    with refused(PluginError, NAME + hook, message):
        gradsim.simulate(
            Elman(2, 4), X, mitigations=[broken(hook, implementation)], record=["effective_gradient"]
        )


def test_of_two_mitigations_the_one_that_is_wrong_is_named():
    wrong = broken("gradsim_gradient", returning(lambda g: {"W": g["W"]}))
    for order in ([wrong, ClipNorm()], [ClipNorm(), wrong]):
        with refused(PluginError, "Broken(): gradsim_gradient returned nothing for 'U'"):
            gradsim.simulate(Elman(2, 4), X, mitigations=order, record=["effective_gradient"])


def test_an_error_of_the_cell_is_not_laid_at_the_door_of_a_mitigation():
    class Forgets(Elman):
        def init_params(self, rng):
            return {}["W"]

    with refused(PluginError, "init_params() raised KeyError: 'W'"):
        gradsim.simulate(Forgets(2, 4), X, mitigations=[OrthogonalInit()])


def test_what_it_draws_and_remembers_is_among_the_names_that_are_offered():
    @hookimpl(wrapper=True)
    def reads(self, draws):
        _ = draws[self]["nois"]
        return (yield)

    mitigation = broken("gradsim_gradient", reads, draw=lambda self, rng: {"noise": rng.random(2)})
    with refused(PluginError, "KeyError: unknown name 'nois'; did you mean 'noise'?"):
        gradsim.simulate(Elman(2, 4), X, mitigations=[mitigation], record=["effective_gradient"])

    @hookimpl(wrapper=True)
    def recalls(self, moment):
        _ = moment.memory(self)["men"]
        return (yield)

    mitigation = broken("gradsim_update", recalls)
    moment = Moment(2, 9, "learn", memories={mitigation: {"mean": np.ones(1)}})
    given = {"params": {}, "before": {}, "gradient": {}, "draws": {}, "moment": moment}
    with refused(PluginError, "KeyError: unknown name 'men'; did you mean 'mean'?"):
        RunHooks([mitigation])("gradsim_update", **given)


def test_the_same_object_twice_is_refused():
    clip = ClipNorm()
    with refused(PluginError, "same object"):
        gradsim.simulate(Elman(2, 4), X, mitigations=[clip, clip])
    gradsim.simulate(Elman(2, 4), X, mitigations=[ClipNorm(), ClipNorm()])

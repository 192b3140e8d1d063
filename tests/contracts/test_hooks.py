"""The hooks of a run: who is called, and mitigations that break their contract."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pytest
from helpers import broken, refused, returning
from probes import mitigations

import gradsim
from gradsim import Mitigation, hookimpl
from gradsim.contracts import hooks as run_hooks
from gradsim.contracts import registry
from gradsim.contracts.hooks import RUN_HOOKS, RunHooks
from gradsim.contracts.moment import Moment
from gradsim.errors import GradsimError, PluginError
from gradsim.training.verb import train
from gradsim_cells import ClockworkRNN, Elman
from gradsim_mitigations import ClipNorm, Gate, Leak, OrthogonalInit
from gradsim_optimizers import SGD
from gradsim_tasks import Adding


@pytest.mark.parametrize("name", RUN_HOOKS)
def test_a_shipped_mitigation_or_one_of_the_probes_uses_every_run_hook(name):
    shipped = registry.catalogue().plugins["mitigations"].values()
    assert any(hasattr(cls, name) for cls in [*shipped, *vars(mitigations).values()])


def test_a_hook_that_nobody_implements_is_not_called(monkeypatch):
    """Without mitigations only set-up hooks are called at all."""
    called = []
    call = run_hooks.RunHooks.__call__
    monkeypatch.setattr(
        run_hooks.RunHooks, "__call__", lambda self, hook, **a: called.append(hook) or call(self, hook, **a)
    )
    record = ["effective_gradient", "effective_product_norm"]
    gradsim.simulate(Elman(1, 2), np.ones((9, 1, 1)), record=record)
    assert set(called) == {"gradsim_cell"}


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
        (returning(lambda result: {}["U"]), "() raised KeyError: 'U' ("),
        (returning(lambda result: "text"), "a str"),
    ],
)
def test_whatever_a_hook_does_wrong_names_mitigation_and_hook(hook, implementation, message):
    with refused(PluginError, NAME + hook, message):
        gradsim.simulate(
            Elman(2, 4), X, mitigations=[broken(hook, implementation)], record=["effective_gradient"]
        )


def test_of_two_mitigations_the_one_that_is_wrong_is_named():
    wrong = broken("gradsim_gradient", returning(lambda g: {"U": g["U"]}))
    for order in ([wrong, ClipNorm()], [ClipNorm(), wrong]):
        with refused(PluginError, "Broken(): gradsim_gradient returned nothing for 'W'"):
            gradsim.simulate(Elman(2, 4), X, mitigations=order, record=["effective_gradient"])


def test_an_error_of_the_cell_is_not_laid_at_the_door_of_a_mitigation():
    class Forgets(Elman):
        def init_params(self, rng):
            return {}["U"]

    with refused(PluginError, "init_params() raised KeyError: 'U'"):
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
    given = {"cell": Elman(2, 4), "params": {}, "before": {}, "gradient": {}, "draws": {}, "moment": moment}
    with refused(PluginError, "KeyError: unknown name 'men'; did you mean 'mean'?"):
        RunHooks([mitigation])("gradsim_update", **given)


def test_the_same_object_twice_is_refused():
    clip = ClipNorm()
    with refused(PluginError, "same object"):
        gradsim.simulate(Elman(2, 4), X, mitigations=[clip, clip])
    gradsim.simulate(Elman(2, 4), X, mitigations=[ClipNorm(), ClipNorm()])


def test_a_mitigation_that_compares_by_value_is_refused():
    """Two of them would share what is drawn for each, measured and remembered."""

    @dataclass(frozen=True)
    class ByValue(ClipNorm):
        name = "by_value"

    with refused(
        PluginError, "ByValue compares by value; decorate the class with @dataclass(frozen=True, eq"
    ):
        gradsim.simulate(Elman(2, 4), X, mitigations=[ByValue()])


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (
            {"requires": "product_norm"},
            "requires is 'product_norm'; it should be a tuple of names of recorders",
        ),
        ({"requires": ["product_norm"]}, "requires is ['product_norm']; it should be a tuple of names"),
        ({"requires": (3,)}, "requires is (3,); it should be a tuple of names of recorders"),
        ({"requires": ("product_nom",)}, "unknown recorder 'product_nom'; did you mean 'product_norm'?"),
        (
            {"requires": ("effective_product_norm",)},
            "requires effective_product_norm, which is no result",
        ),
        ({"required_pairs": gradsim.Pairs(times=(99,))}, "required_pairs: pairs: times should lie in 0..6"),
        ({"required_pairs": 3}, "required_pairs is 3; it should be a gradsim.Pairs"),
        ({"required_pairs": property(lambda self: {}["x"])}, "required_pairs raised KeyError: 'x' ("),
    ],
)
def test_what_cannot_be_measured_for_a_mitigation_is_refused(members, message):
    mitigation = broken("gradsim_jacobians", PLAIN, **{"requires": ("product_norm",), **members})
    with refused(PluginError, "Broken()", message):
        gradsim.simulate(Elman(2, 4), X, mitigations=[mitigation], record=["effective_gradient"])


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda self, rng: {}["x"], "raised KeyError: 'x' ("),
        (lambda self, rngs: {}, "raised TypeError: unknown argument 'rngs'; did you mean 'rng'?"),
        (lambda self, rng: [1], "returns [1]; it should be a dict of arrays"),
        (lambda self, rng: {"a": [[1], [1, 2]]}, "raised ValueError: "),
        (lambda self, rng: {"a": "text"}, "gives 'a' of dtype <U4; draw numbers"),
        (lambda self, rng: {3: 1.0}, "gives 3 of dtype float64; draw numbers"),
    ],
)
def test_a_wrong_draw_is_named(draw, message):
    draw.__name__ = "draw"
    mitigation = broken("gradsim_gradient", PLAIN, draw=draw)
    with refused(PluginError, "Broken(): draw() ", message):
        gradsim.simulate(Elman(2, 4), X, mitigations=[mitigation], record=["effective_gradient"])


def trained(hook, change):
    mitigation = broken(hook, returning(change))
    return train(
        ClockworkRNN(2, 4, (1, 2)),
        Adding(length=20),
        optimizer=SGD(0.1),
        updates=1,
        batch=2,
        mitigations=[mitigation],
    )


@pytest.mark.parametrize(
    ("hook", "change", "message"),
    [
        ("gradsim_update", lambda p: p["w"], "raised KeyError: unknown name 'w'; did you mean 'W'?"),
        ("gradsim_update", lambda p: {"U": p["U"]}, "returned nothing for 'W'"),
        ("gradsim_update", lambda p: {**p, "w": p["U"]}, "unknown parameter 'w'; did you mean 'W'?"),
        (
            "gradsim_update",
            lambda p: {**p, "U": p["U"][0]},
            "returned 'U' of shape (4,), where (4, 4) is needed",
        ),
        ("gradsim_update", lambda p: {**p, "U": p["U"].tolist()}, "returned a list for 'U'"),
        ("gradsim_update", lambda p: {**p, "U": np.nan * p["U"]}, "returned NaN or infinity for 'U'"),
        ("gradsim_update", lambda p: None, "returned None; end it with `return`"),
        ("gradsim_step_data", lambda d: {}, "returned nothing for 'step_index'; keep what yield gave"),
        ("gradsim_step_data", lambda d: [1], "should return a dict of arrays, not a list"),
        (
            "gradsim_step_data",
            lambda d: {**d, "noise": np.ones(3)},
            "returned 'noise' of shape (3,), whose leading",
        ),
    ],
)
def test_a_hook_of_a_training_that_goes_wrong_is_named(hook, change, message):
    with refused(GradsimError, "Broken(): " + hook, message):
        trained(hook, change)


@pytest.mark.parametrize("value", ["text", {"a": 1}, [[1], [1, 2]], object(), None])
def test_what_is_no_array_cannot_be_remembered(value):
    @hookimpl(wrapper=True)
    def remembers(self, moment):
        moment.remember(self, seen=value)
        return (yield)

    mitigation = broken("gradsim_gradient", remembers)
    with refused(PluginError, "Broken()"):
        train(
            Elman(2, 4), Adding(length=20), optimizer=SGD(0.1), updates=1, batch=2, mitigations=[mitigation]
        )


@dataclass(frozen=True, eq=False)
class Somewhere(Mitigation):
    """Halves the adjoint or the gradient."""

    name = "somewhere"

    where: str = "adjoint"

    @property
    def phases(self):
        return (self.where,)

    @hookimpl(wrapper=True)
    def gradsim_adjoint(self):
        return 0.5 * (yield)

    @hookimpl(wrapper=True)
    def gradsim_gradient(self):
        gradient = yield
        return {n: 0.5 * g for n, g in gradient.items()}


def test_a_mitigation_acts_only_where_its_parameters_say():
    assert RunHooks([Somewhere()]).phases == {"adjoint": ("somewhere",)}
    assert RunHooks([Somewhere("gradient")]).used == {"gradsim_gradient"}
    with pytest.raises(PluginError, match="phases names 'update', and it has no gradsim_update"):
        RunHooks([Somewhere("update")])

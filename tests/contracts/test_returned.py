"""What a hook hands on: of the kind, names, shapes and numbers that it was given."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import broken, refused, returning

import gradsim
from gradsim.errors import NonFiniteError, PluginError
from gradsim_cells import Elman

X = np.random.default_rng(0).standard_normal((6, 3, 2))
NAME = "Broken(): "
DICTS = ("gradsim_params", "gradsim_contributions", "gradsim_gradient")


def simulate_with(hook, change, record=("effective_gradient",)):
    mitigation = broken(hook, returning(change))
    return gradsim.simulate(Elman(2, 4), X, mitigations=[mitigation], record=record)


def first(result, change):
    """A dict with its first array changed."""
    name = next(iter(result))
    return result | {name: change(result[name])}


@pytest.mark.parametrize("hook", DICTS)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r | {"w": r["U"]}, "returned too much: unknown parameter 'w'; did you mean 'W'?"),
        (
            lambda r: {n: x for n, x in r.items() if n != "U"},
            "returned nothing for 'U'; keep what yield gave",
        ),
        (lambda r: [*r.values()], "should return a dict of arrays, not a list"),
        (lambda r: first(r, lambda x: x[..., :1]), "1), where ("),
        (lambda r: first(r, lambda x: x.tolist()), "returned a list for"),
        (lambda r: first(r, lambda x: 1j * x), "of dtype complex128, where real numbers are"),
        (lambda r: {}[3 * r["w"]], "raised KeyError: unknown name 'w'; did you mean 'W'?"),
    ],
)
def test_a_dict_of_arrays_keeps_names_shapes_and_numbers(hook, change, message):
    with refused(PluginError, NAME + hook, message):
        simulate_with(hook, change)


def test_what_is_written_into_the_dict_that_was_given_is_seen_too():
    def misspells(result):
        result["w"] = 0 * result["U"]
        return result

    with refused(PluginError, "unknown parameter 'w'; did you mean 'W'?"):
        simulate_with("gradsim_gradient", misspells)
    plain = gradsim.simulate(Elman(2, 4), X, record=["gradient"])

    def halves(result):
        for name in result:
            result[name] = result[name] / 2
        return result

    halved = simulate_with("gradsim_gradient", halves, ["effective_gradient", "effective_gradient_factor"])
    np.testing.assert_allclose(halved.effective_gradient_U, plain.gradient_U / 2)
    assert halved.effective_gradient_factor == 0.5


@pytest.mark.parametrize("hook", [*DICTS, "gradsim_adjoint", "gradsim_jacobians", "gradsim_penalty"])
def test_nan_is_laid_at_the_door_of_the_mitigation_that_makes_it(hook):
    def change(result):
        match result:
            case dict():
                return first(result, lambda x: x * np.nan)
            case gradsim.Jacobians():
                return result.changed(lambda blocks: blocks * np.nan)
            case np.ndarray():
                return result * np.nan
        return gradsim.Penalty(np.nan, {})

    with refused(NonFiniteError, NAME + hook, "returned NaN or infinity for"):
        simulate_with(hook, change)


@pytest.mark.parametrize(
    ("hook", "change", "message"),
    [
        (
            "gradsim_adjoint",
            lambda a: a[:, :1],
            "returned the adjoint of shape (3, 1), where (3, 4) is needed",
        ),
        (
            "gradsim_adjoint",
            lambda a: a.tolist(),
            "returned a list for the adjoint, where an array is needed",
        ),
        (
            "gradsim_jacobians",
            lambda j: j.changed(lambda blocks: blocks.sum(-1)),
            "returned blocks of shape (6, 3, 1, 4), where (6, 3, 1, 4, 4) is needed",
        ),
        (
            "gradsim_jacobians",
            lambda j: j.changed(lambda blocks: blocks @ {}["W"]),
            "gradsim_jacobians() raised KeyError: 'W'",
        ),
        (
            "gradsim_jacobians",
            lambda j: j.changed(lambda blocks: None),
            "returned None for blocks, where an array is needed",
        ),
        (
            "gradsim_jacobians",
            lambda j: gradsim.Jacobians(j.steps, j.blocks, np.zeros(2, dtype=int)),
            "a reach of shape (2,), int64, where (6,) ints, 0 or more, are needed",
        ),
        (
            "gradsim_jacobians",
            lambda j: gradsim.Jacobians(j.steps, j.blocks, np.zeros(6)),
            "a reach of shape (6,), float64, where (6,) ints, 0 or more, are needed",
        ),
        (
            "gradsim_jacobians",
            lambda j: gradsim.Jacobians(j.steps, j.blocks, np.full(6, -1)),
            "a reach of shape (6,), int64, where (6,) ints, 0 or more, are needed",
        ),
        ("gradsim_cell", lambda cell: type(cell), "should return a Cell, not the class Elman"),
        ("gradsim_penalty", lambda p: 3.0, "should return a Penalty, not a float"),
        (
            "gradsim_penalty",
            lambda p: p + 3.0,
            "raised TypeError: unsupported operand type(s) for +: 'Penalty' and 'float'",
        ),
        (
            "gradsim_penalty",
            lambda p: gradsim.Penalty(np.ones(2), {}),
            "a Penalty whose value is array([1., 1.]), where one number is needed",
        ),
        (
            "gradsim_penalty",
            lambda p: gradsim.Penalty("1", {}),
            "a Penalty whose value is '1', where one number is needed",
        ),
        (
            "gradsim_penalty",
            lambda p: gradsim.Penalty(1.0, None),
            "should return a Penalty whose gradient is a dict of arrays, not None",
        ),
        (
            "gradsim_penalty",
            lambda p: gradsim.Penalty(1.0, {"w": np.ones(2)}),
            "the gradient has an unknown parameter 'w'; did you mean 'W'?",
        ),
        (
            "gradsim_penalty",
            lambda p: gradsim.Penalty(1.0, {"U": np.ones(2)}),
            "the gradient of 'U' has shape (2,), where (4, 4) is needed",
        ),
        (
            "gradsim_penalty",
            lambda p: gradsim.Penalty(1.0, {"U": 1.0}),
            "returned a float for 'U', where an array is needed",
        ),
        (
            "gradsim_penalty",
            lambda p: gradsim.Penalty(1.0, {}, np.ones((6, 3, 4))),
            "state_gradient has shape (6, 3, 4), where (time, batch, m) = (7, 3, 4) is needed",
        ),
        (
            "gradsim_penalty",
            lambda p: gradsim.Penalty(1.0, {}, np.ones((1, 3, 4))),
            "state_gradient has shape (1, 3, 4), where (time, batch, m) = (7, 3, 4) is needed",
        ),
        (
            "gradsim_penalty",
            lambda p: gradsim.Penalty(1.0, {}, [1.0]),
            "returned a list for state_gradient, where an array is needed",
        ),
        ("gradsim_rule", lambda none: {"U": np.ones((4, 4))}, "gradsim_rule returned nothing for 'W'"),
        (
            "gradsim_rule",
            lambda none: {"U": np.ones(4), "W": np.ones((4, 2)), "b": np.ones(4)},
            "gradsim_rule returned 'U' of shape (4,), where (4, 4) is needed",
        ),
        (
            "gradsim_rule",
            lambda none: {"U": 1.0},
            "gradsim_rule returned a float for 'U', where an array is needed",
        ),
    ],
)
def test_what_a_hook_hands_on_is_of_its_kind_and_shape(hook, change, message):
    with refused(PluginError, NAME, message):
        simulate_with(hook, change)

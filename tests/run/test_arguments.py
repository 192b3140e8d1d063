"""Bad input gives clear errors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

import gradsim
from gradsim import Mitigation, Pairs, hookimpl
from gradsim.errors import BudgetError, InputError, NonFiniteError, PluginError, UnknownNameError
from gradsim_cells import Elman
from gradsim_mitigations import ClipNorm
from gradsim_optimizers import SGD
from gradsim_tasks import Adding

X = np.random.default_rng(0).standard_normal((6, 3, 2))


def with_nan(value):
    x = X.copy()
    x[4, 1, 0] = value
    return x


BAD = {
    "two_axes": ({"inputs": X[0]}, InputError, r"3 axes .* got shape \(3, 2\); .* inputs\[:, None, :\]"),
    "wrong_width": ({"inputs": X[..., :1]}, InputError, r"1 features .*\(6, 3, 1\).* input_size=2"),
    "no_steps": ({"inputs": X[:0]}, InputError, r"at least one step .* got shape \(0, 3, 2\)"),
    "no_batch": ({"inputs": X[:, :0]}, InputError, r"at least one step .* got shape \(6, 0, 2\)"),
    "text": ({"inputs": np.full((2, 2, 2), "a")}, InputError, "real numbers, got dtype <U1"),
    "complex": ({"inputs": X + 1j}, InputError, "real numbers, got dtype complex128"),
    "nan": ({"inputs": with_nan(np.nan)}, NonFiniteError, "inputs is nan .* time 4, batch 1, feature 0"),
    "inf": ({"inputs": with_nan(np.inf)}, NonFiniteError, "inputs is inf .* time 4, batch 1, feature 0"),
    "float16": ({"inputs": X, "dtype": "float16"}, InputError, "'float32' or 'float64'"),
    "no_dtype": ({"inputs": X, "dtype": "flot64"}, InputError, "'float32' or 'float64' .*flot64"),
    "too_large_for_float32": (
        {"inputs": 1e39 * X, "dtype": "float32"},
        InputError,
        "does not fit into float32",
    ),
    "nothing": ({}, InputError, "exactly one of the two"),
    "both": ({"inputs": X, "task": Adding()}, InputError, "exactly one of the two"),
    "batch_beside_inputs": ({"inputs": X, "batch": 2}, InputError, "batch is for a task"),
    "batch_of_none": (
        {"task": Adding(), "batch": 0},
        InputError,
        "^batch should be greater than 0 ",
    ),
    "recorder": ({"inputs": X, "record": ["product_nrom"]}, UnknownNameError, "did you mean 'product_norm'"),
    "recorder_text": ({"inputs": X, "record": "product_norm"}, InputError, "record should be a list"),
    "no_recorder": ({"inputs": X, "record": []}, InputError, "at least one"),
    "class": (
        {"inputs": X, "mitigations": [ClipNorm]},
        InputError,
        r"mitigations\.0 .*; call the class",
    ),
    "not_a_mitigation": (
        {"inputs": X, "mitigations": ["clip_norm"]},
        InputError,
        r"mitigations\.0 should be an instance of Mitigation \(got 'clip_norm'\)",
    ),
    "seed": ({"inputs": X, "rng": -1}, InputError, "non-negative int"),
    "seed_text": ({"inputs": X, "rng": "1"}, InputError, "non-negative int"),
    "threads": ({"inputs": X, "threads": 0}, InputError, "threads should be greater than 0"),
    "memory": ({"inputs": X, "memory": 1e6}, BudgetError, r"least 8\.4 MB of memory and 1 MB is available"),
    "lag": (
        {"inputs": X, "pairs": {"max_lag": -1}},
        InputError,
        "max_lag should be greater than or eq",
    ),
    "times": ({"inputs": X, "pairs": {"times": (7,)}}, InputError, r"times should lie in 0..6 \(got \[7\]\)"),
    "no_sources": ({"inputs": X, "pairs": {"sources": ()}}, InputError, "sources should name at least one"),
    "initial_state": (
        {"inputs": X, "initial_state": np.zeros(5)},
        InputError,
        r"shape \(4,\) or \(3, 4\), got \(5,\)",
    ),
    "param_name": (
        {"inputs": X, "params": {"w": 1}},
        UnknownNameError,
        "unknown parameter in params 'w'; did you mean 'W'",
    ),
    "param_shape": ({"inputs": X, "params": {"U": np.eye(3)}}, InputError, r"shape \(3, 3\) where \(4, 4\)"),
    "param_missing": ({"inputs": X, "params": {"U": np.eye(4)}}, InputError, r"params lack \['W', 'b'\]"),
    "param_nan": (
        {"inputs": X, "params": {"U": np.full((4, 4), np.nan), "W": np.zeros((4, 2)), "b": np.zeros(4)}},
        NonFiniteError,
        r"params\['U'\] is nan .* index \(0, 0\)",
    ),
}


def simulate_elman(pairs=None, **arguments):
    chosen = None if pairs is None else Pairs(**pairs)
    return gradsim.simulate(Elman(2, 4), pairs=chosen, **arguments)


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gives_a_clear_error(case):
    arguments, error, message = BAD[case]
    with pytest.raises(error, match=message):
        simulate_elman(**arguments)


def test_a_class_instead_of_a_cell_is_named():
    with pytest.raises(InputError, match="call the class"):
        gradsim.simulate(Elman, X)


@pytest.mark.parametrize("what", ["fixed", "recurrent_weights", "output_blocks"])
def test_what_a_cell_names_and_does_not_have_is_told(what):
    cell = type("Misnamed", (Elman,), {what: ("w",)})(2, 3)
    with pytest.raises((UnknownNameError, PluginError), match=r"unknown (parameter|block) in.* 'w'"):
        gradsim.simulate(cell, X, record=["gradient"])


class Masked(Elman):
    """Draws a mask from the generator of all."""

    name = "masked"

    def draw(self, rng, steps, batch):
        return {"mask": np.random.random((steps, batch, self.hidden_size))}  # noqa: NPY002

    def step(self, params, state, inputs, xp, *, mask):
        return mask * super().step(params, state, inputs, xp)


@dataclass(frozen=True, eq=False)
class Shakes(Mitigation):
    """Adds noise to the gradient, or to the first parameters, from the generator of all."""

    name = "shakes"
    at_first: bool = False

    def draw(self, rng, shapes):
        return {} if self.at_first else {n: np.random.random(s) for n, s in shapes.items()}  # noqa: NPY002

    @hookimpl(wrapper=True)
    def gradsim_gradient(self, draws):
        gradient = yield
        return {n: g + draws[self].get(n, 0) for n, g in gradient.items()}

    @hookimpl(wrapper=True)
    def gradsim_params(self):
        params = yield
        return {n: p + self.at_first * np.random.random(p.shape) for n, p in params.items()}  # noqa: NPY002


OTHER_DRAWS = [
    (Masked(2, 3), [], r"^Masked\(.*: draw\(\) draws other numbers from the same rng; take all randomness"),
    (Elman(2, 3), [Shakes()], r"^Shakes\(at_first=False\): draw\(\) draws other numbers from the same rng"),
    (
        Elman(2, 3),
        [Shakes(True)],
        r"^Shakes\(at_first=True\): gradsim_params draws other numbers from the same",
    ),
]


@pytest.mark.parametrize(("cell", "mitigations", "message"), OTHER_DRAWS)
def test_what_is_drawn_from_elsewhere_than_the_rng_is_refused(cell, mitigations, message):
    with pytest.raises(PluginError, match=message):
        gradsim.simulate(cell, X, mitigations=mitigations)
    with pytest.raises(PluginError, match=message):
        gradsim.train(
            cell, Adding(length=20), optimizer=SGD(learning_rate=0.1), updates=1, mitigations=mitigations
        )


def test_parameters_that_are_given_are_not_drawn_again():
    drawn = []

    class Counts(Elman):
        def init_params(self, rng):
            drawn.append(self)
            return super().init_params(rng)

    cell, params = Counts(2, 4), Elman(2, 4).init_params(np.random.default_rng(0))
    once, again = (gradsim.simulate(cell, X, record=["adjoint"], params=params) for _ in range(2))
    assert drawn == [cell]
    assert once.identical(again)
    with pytest.raises(InputError, match=r"shape \(3, 3\) where \(4, 4\)"):
        gradsim.simulate(cell, X, record=["adjoint"], params={**params, "U": np.eye(3)})
    gradsim.simulate(cell, X, record=["adjoint"])
    assert len(drawn) > 1


def test_cells_that_compare_by_value_are_drawn_each_time():
    class Equal(Elman):
        def __eq__(self, other):
            return True

        __hash__ = None

    params = Elman(2, 4).init_params(np.random.default_rng(0))
    for _ in range(2):
        gradsim.simulate(Equal(2, 4), X, record=["adjoint"], params=params)

"""Which library derives in a run: what was asked for, what is sooner, and what is said of it."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pytest
from helpers import Stripped, refused

import gradsim
from gradsim.engine import derivatives
from gradsim.errors import ChangedRunError, DerivativeError, InputError, PluginError
from gradsim.numerics.autodiff import providers
from gradsim_cells import GRU, LRU, LSTM, Elman, Linear, MinGRU
from gradsim_optimizers import Adam
from gradsim_tasks import Adding

EVERYTHING = ["state", "adjoint", "gradient", "contribution", "product_norm", "step_jacobian"]
SETTING = {"optimizer": Adam(learning_rate=0.01), "batch": 4, "progress": False, "derivatives": "jax"}


@dataclass(frozen=True, eq=False)
class Branching(Stripped):
    """One that no library can trace."""

    name = "branching"

    def step(self, params, state, inputs, xp):
        return np.tanh(super().step(params, state, inputs, xp))


def provenance(ds):
    return json.loads(ds.attrs["provenance"])


WIDE = [(cell, "float64", 1e-12) for cell in (Elman, LSTM, GRU, MinGRU, LRU, Linear)]


@pytest.mark.parametrize(("cell", "dtype", "tolerance"), [*WIDE, (LSTM, "float32", 1e-4)])
def test_numbers_by_jax_are_those_of_analytic_derivatives(cell, inputs, dtype, tolerance):
    kept, arguments = cell(2, 5), {"record": EVERYTHING, "dtype": dtype, "rng": 3}
    ours = gradsim.simulate(Stripped(kept), inputs, derivatives="jax", **arguments)
    theirs = gradsim.simulate(kept, inputs, **arguments)
    assert provenance(ours)["derivatives"] == "jax"
    assert [*ours.data_vars] == [*theirs.data_vars]
    for name, wanted in theirs.data_vars.items():
        scale = np.nanmax(np.abs(wanted)) or 1
        np.testing.assert_allclose(ours[name] / scale, wanted / scale, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("by", "wanted"), [("autograd", ["all", "all"]), ("jax", ["all", "none"])])
def test_what_is_one_program_for_all_numbers_is_checked_once(inputs, monkeypatch, by, wanted):
    @dataclass(frozen=True, eq=False)
    class Fresh(Stripped):
        """Nobody has checked it before."""

    checked, check = [], derivatives.check

    def counting(at, rng, methods):
        checked.append({derivatives.METHODS: "all", (): "none"}[tuple(methods)])
        return check(at, rng, methods)

    monkeypatch.setattr(derivatives, "check", counting)
    for _ in range(2):
        gradsim.simulate(Fresh(Elman(2, 3)), inputs, record=["adjoint"], derivatives=by)
    assert [*checked, "none"][:2] == wanted


def test_of_what_is_compiled_what_a_run_takes_is_checked(rng, monkeypatch):
    @dataclass(frozen=True, eq=False)
    class Fresh(Stripped):
        """Nobody has checked it before."""

    checked, check = [], derivatives.check

    def counting(at, rng, methods):
        checked.append(tuple(methods))
        return check(at, rng, methods)

    monkeypatch.setattr(derivatives, "check", counting)
    inputs = rng.standard_normal((3, 20, 2))
    for name in ("adjoint", "gradient", "step_jacobian", "product_norm", "adjoint"):
        gradsim.simulate(Fresh(Elman(2, 16)), inputs, record=[name], derivatives="jax")
    assert checked == [("state_vjp", "params_vjp"), derivatives.METHODS]


def test_what_is_compiled_anew_is_checked_anew(inputs):
    helpers = [lambda x: x]

    @dataclass(frozen=True, eq=False)
    class Helped(Stripped):
        """Its step calls what somebody writes anew between two runs."""

        def step(self, params, state, inputs, xp):
            return self.cell.step(params, helpers[0](state), inputs, xp)

    def run():
        return gradsim.simulate(Helped(Elman(2, 3)), inputs, record=["adjoint"], derivatives="jax")

    for _ in range(2):
        run()
    helpers[:] = [gradsim.detach]
    with refused(DerivativeError, "differs from central differences"):
        run()


@dataclass(frozen=True, eq=False)
class Embedded(Stripped):
    """Its inputs are the numbers of words."""

    name = "embedded"
    input_size = 1

    def init_params(self, rng):
        return super().init_params(rng) | {"E": rng.standard_normal((5, 2))}

    def step(self, params, state, inputs, xp):
        params = dict(params)
        return self.cell.step(params, state, params.pop("E")[xp.astype(inputs[..., 0], int), ...], xp)


@dataclass(frozen=True, eq=False)
class Alone(Stripped):
    """It has no inputs."""

    name = "alone"
    input_size = 0

    def step(self, params, state, inputs, xp):
        return xp.tanh(state @ params["U"].T + params["b"] + xp.sum(inputs, axis=-1, keepdims=True))


def test_a_cell_may_have_no_inputs(rng):
    params = {"W": np.zeros((3, 2)), "U": rng.standard_normal((3, 3)), "b": rng.standard_normal(3)}
    ours, theirs = (
        gradsim.simulate(
            Alone(Elman(2, 3)), np.zeros((5, 2, 0)), params=params, record=["gradient"], derivatives=by
        )
        for by in ("jax", "autograd")
    )
    for name, wanted in theirs.data_vars.items():
        np.testing.assert_allclose(ours[name], wanted, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("word", [5, -6])
@pytest.mark.parametrize(("steps", "late"), [(600, 400), (100, 60)])
def test_an_index_that_is_not_there_is_refused_as_by_numpy(steps, late, word):
    cell, words = Embedded(Elman(2, 3)), np.zeros((steps, 2, 1))
    for _ in range(2):  # the second time what is compiled has been checked
        gradsim.simulate(cell, words[:40], derivatives="jax")
    words[late, 1] = word
    with refused(PluginError, "step() raised IndexError", f"index {word} is out of bounds"):
        gradsim.simulate(cell, words, derivatives="jax")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("batch", [2, 16])
@pytest.mark.parametrize("scale", [0.3, 3.0])
def test_runs_that_vanish_and_explode_stay_exact(scale, batch, dtype):
    """A linear cell with U = scale Q: a_0 is known beyond any range."""
    q = np.linalg.qr(np.random.default_rng(1).standard_normal((3, 3)))[0]
    params = {"U": scale * q, "W": np.ones((3, 1)), "b": np.zeros(3)}
    cell, steps = Linear(1, 3), 400
    params = {n: p for n, p in params.items() if n in cell.init_params(np.random.default_rng(0))}
    ds = gradsim.simulate(
        Stripped(cell),
        np.zeros((steps, batch, 1)),
        params=params,
        record=["adjoint_norm", "gradient"],
        dtype=dtype,
        derivatives="jax",
    )
    expected = steps * np.log10(scale) + np.log10(np.sqrt(3) / batch)
    found = ds["adjoint_norm_log10"].sel(time=0)
    np.testing.assert_allclose(found, expected, atol=1e-3 if dtype == "float32" else 1e-9)


def test_bits_do_not_depend_on_threads(inputs):
    found = [
        gradsim.simulate(Stripped(GRU(2, 5)), inputs, record=EVERYTHING, derivatives="jax", threads=threads)
        for threads in (1, 3)
    ]
    for name in found[0].data_vars:
        np.testing.assert_array_equal(found[0][name], found[1][name])


@pytest.mark.parametrize("derivatives", ["auto", "autograd"])
def test_a_short_run_stays_with_autograd(inputs, derivatives):
    made_by = provenance(gradsim.simulate(Stripped(Elman(2, 3)), inputs, derivatives=derivatives))
    assert made_by["derivatives"] == "autograd"
    assert made_by["derivatives_of"] == dict.fromkeys(
        ("step_jacobian", "state_vjp", "params_vjp"), "autograd"
    )
    assert ("estimated" in made_by["derivatives_because"]) == (derivatives == "auto")


@pytest.fixture
def worth_it(monkeypatch):
    """Nothing is too short for JAX."""
    monkeypatch.setattr("gradsim.run.derivatives._WORTH", 0.0)


@pytest.mark.usefixtures("worth_it")
def test_jax_is_taken_where_it_is_sooner(inputs):
    made_by = provenance(gradsim.simulate(Stripped(Elman(2, 3)), inputs))
    assert made_by["derivatives"] == "jax"
    assert made_by["derivatives_because"] == ""


def passed_over(inputs, cell):
    made_by = provenance(gradsim.simulate(cell, inputs, record=["adjoint"]))
    assert made_by["derivatives"] == "autograd"
    return made_by["derivatives_because"]


@pytest.mark.usefixtures("worth_it")
def test_what_speaks_against_jax_is_said(inputs, monkeypatch):
    small = Stripped(Elman(2, 3))
    assert passed_over(inputs, Elman(2, 3)) == "the cell brings its own"
    monkeypatch.setenv("GRADSIM_COMPILED", "0")
    assert passed_over(inputs, small) == "GRADSIM_COMPILED=0"
    monkeypatch.delenv("GRADSIM_COMPILED")
    for refusal in ("_absent", "_broken"):
        with monkeypatch.context() as patch:
            patch.setattr(providers, refusal, lambda: "no JAX today")
            assert passed_over(inputs, small) == "no JAX today"
    monkeypatch.setattr(providers, "_forked", True)
    assert "spawn" in passed_over(inputs, small)


@dataclass(frozen=True, eq=False)
class ByAutogradOnly(Stripped):
    """One that sums a list, which JAX refuses."""

    name = "by_autograd_only"

    def step(self, params, state, inputs, xp):
        return super().step(params, state, inputs, xp) * xp.sum([0.5, 0.5])


@pytest.mark.usefixtures("worth_it")
def test_a_step_that_jax_cannot_trace_is_left_to_autograd(inputs):
    assert "cannot be traced by JAX: TypeError: sum requires" in passed_over(
        inputs, ByAutogradOnly(Elman(2, 3))
    )


def test_a_step_that_jax_cannot_trace_is_refused_where_jax_was_asked_for(inputs):
    with refused(PluginError, "Branching", "cannot be traced by JAX", "use xp.tanh", "derivatives='auto'"):
        gradsim.simulate(Branching(Elman(2, 3)), inputs, derivatives="jax")


def test_jax_that_is_not_there_is_refused_with_the_cure(inputs, monkeypatch):
    monkeypatch.setattr(providers, "_absent", lambda: "JAX is not installed; pip install 'jax>=0.8'")
    with refused(InputError, "derivatives='jax': JAX is not installed; pip install 'jax>=0.8', or use"):
        gradsim.simulate(Elman(2, 3), inputs, derivatives="jax")


# Trainings.


def test_trainings_by_jax_learn_as_those_by_autograd():
    cell, task = Stripped(Elman(2, 4)), Adding(length=20)
    ours = gradsim.train(cell, task, updates=20, **SETTING)
    theirs = gradsim.train(cell, task, updates=20, **SETTING | {"derivatives": "autograd"})
    np.testing.assert_allclose(ours["trained_U"], theirs["trained_U"], rtol=1e-10)
    assert [provenance(ds)["derivatives"] for ds in (ours, theirs)] == ["jax", "autograd"]


def interrupted(folder, cell, **changes):
    def stop(event):
        if event.get("update") == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gradsim.train(
            cell,
            Adding(length=20),
            updates=10,
            store=folder,
            checkpoint_seconds=0,
            report=stop,
            **SETTING | changes,
        )


def test_a_training_goes_on_with_the_library_that_it_was_begun_with(tmp_path, monkeypatch):
    """Whatever is sooner by then; where that is not there any more, it says so."""
    cell, task = Stripped(Elman(2, 4)), Adding(length=20)
    again = {"store": tmp_path / "run", "resume": True, "updates": 10, **SETTING | {"derivatives": "auto"}}
    interrupted(tmp_path / "run", cell)
    with monkeypatch.context() as patch:
        patch.setattr(providers, "_absent", lambda: "JAX is not installed; pip install it")
        cure = (
            "begun with derivatives='jax', and JAX is not installed; pip install it, or go on with 'autograd'"
        )
        with refused(InputError, str(tmp_path / "run"), cure, "allow_changed=True"):
            gradsim.train(cell, task, **again)
    with refused(ChangedRunError, "derivatives: 'jax' is now 'autograd'"):
        gradsim.train(cell, task, **again | {"derivatives": "autograd"})
    whole, resumed = gradsim.train(cell, task, updates=10, **SETTING), gradsim.train(cell, task, **again)
    assert provenance(resumed)["derivatives"] == "jax"
    for name in whole.data_vars:
        np.testing.assert_array_equal(whole[name], resumed[name])

"""Variables, and the effective twins of recorders."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from unittest import SkipTest

import numpy as np
import pytest
from helpers import refused
from small import Labelled

import gradsim
from gradsim import Recorder, Variable
from gradsim.contracts import pieces, registry
from gradsim.contracts.trajectory import Trajectory
from gradsim.errors import PluginError
from gradsim.testing import checks_of
from gradsim.training.verb import train
from gradsim_cells import Elman
from gradsim_mitigations import ClipNorm, Truncate
from gradsim_optimizers import SGD


@pytest.fixture
def problem():
    return gradsim.prepare(Elman(2, 4), np.zeros((9, 3, 2)), dtype="float32").plan.problem


def test_a_variable_has_the_bytes_of_its_array(problem):
    found = Variable("x", ("time", "batch", "component"), "x").bytes(problem)
    assert found == np.zeros((10, 3, 4), dtype=np.float32).nbytes
    assert Variable("x", ("step",), "x", dtype="float64").bytes(problem) == np.zeros(9).nbytes


@pytest.mark.parametrize("name", ["product_norm", "adjoint", "gradient", "lyapunov"])
def test_effective_twins_declare_the_same_under_another_name(problem, name):
    raw, twin = (registry.recorder(n) for n in (name, f"effective_{name}"))
    assert (raw.full_name, twin.full_name) == (name, f"effective_{name}")
    for ours, theirs in zip(raw.declared(problem), twin.declared(problem), strict=True):
        assert theirs.name == f"effective_{ours.name}"
        assert (theirs.dims, theirs.units, theirs.dtype) == (ours.dims, ours.units, ours.dtype)
        assert "effective" in theirs.long_name
        assert "effective" not in ours.long_name


def broken(**members):
    """A recorder of the sums of states, with some of its methods changed."""
    good = {
        "name": "broken",
        "stream": pieces.Forward,
        "twin": False,
        "variables": lambda self, problem: (Variable("broken", ("time", "batch"), "x"),),
        "compute": lambda self, piece: {"broken": piece.states.sum(-1)},
        "__annotations__": {},
    }
    return dataclass(frozen=True, eq=False)(type("Broken", (Recorder,), good | members))()


def declaring(*found, **changes):
    given = dict(name="broken", dims=("time", "batch"), long_name="x") | changes
    return broken(variables=lambda self, problem: found or (Variable(**given),))


def computing(compute):
    return broken(compute=lambda self, piece: compute(piece.states))


def raises(*_):
    return {}["x"]


def writes(states):
    states[0] = 0


WRONG = {
    "stream": (broken(stream=Trajectory), "it should be one of Forward, LossTerms"),
    "stream by name": (broken(stream="Forward"), "stream is 'Forward'; it should be one of Forward"),
    "stream of tiles": (broken(stream=pieces.Products, start=lambda self, p: {}), "a carry goes with the"),
    "both": (broken(both=True), "both goes with the streams Adjoints, Contributions, Gradient, Grad"),
    "variables raise": (broken(variables=raises), "variables() raised KeyError: 'x' ("),
    "no variables": (broken(variables=lambda self, p: None), "variables() should give a tuple of Variables"),
    "names": (declaring("broken"), "variables() should give a tuple of Variables, not ('broken',)"),
    "dims": (declaring(dims="time"), "dims of broken should be a tuple of names, such as ('time', 'batch')"),
    "dim": (declaring(dims=("tme",)), "unknown dim of broken 'tme'; did you mean 'time'?"),
    "numbered": (
        declaring(dims=(1,)),
        "dims of broken should be a tuple of names, such as ('time', 'batch')",
    ),
    "dim twice": (declaring(dims=("time", "time")), "dims of broken has a name twice: ('time', 'time')"),
    "name": (declaring(name=3), "name of the variable 3 should be text, not 3"),
    "units": (declaring(units=""), "units of the variable 'broken' should be text, not ''"),
    "dtype": (
        declaring(dtype="flot"),
        "dtype of broken should be one of numbers, such as 'float64', or None",
    ),
    "text": (declaring(dtype="U3"), "dtype of broken should be one of numbers, such as 'float64', or None"),
    "dims raise": (broken(dims=raises), "dims() raised KeyError: 'x' ("),
    "no dims": (broken(dims=lambda self, p: None), "dims() should give a dict of named vectors, not None"),
    "dims, a list": (broken(dims=lambda self, p: ["x"]), "dims() should give a dict of named vectors, not ["),
    "dim 3": (broken(dims=lambda self, p: {3: [1]}), "dims() should give a dict of named vectors, not {3"),
    "matrix": (
        broken(dims=lambda self, p: {"x": np.ones((2, 2))}),
        "the coordinate of x should be a vector of",
    ),
    "number": (broken(dims=lambda self, p: {"x": 3}), "the coordinate of x should be a vector of numbers or"),
    "objects": (
        broken(dims=lambda self, p: {"x": [None]}),
        "the coordinate of x should be a vector of numbers",
    ),
    "time": (broken(dims=lambda self, p: {"time": [1]}), "the dim time is there already"),
    "compute raises": (computing(raises), "compute() raised KeyError: 'x' ("),
    "compute, None": (
        computing(lambda states: None),
        "compute() should return a dict of arrays, not NoneType",
    ),
    "compute, more": (
        computing(lambda states: {"broke": 1}),
        "unknown variable 'broke'; did you mean 'broken'",
    ),
    "compute, wide": (computing(lambda states: {"broken": states}), "compute() gives 'broken' the shape ("),
    "compute, text": (
        computing(lambda states: {"broken": "a"}),
        "gives 'broken' the dtype <U1, where real num",
    ),
    "complex": (
        computing(lambda s: {"broken": 1j * s[..., 0]}),
        "gives 'broken' the dtype complex128, where",
    ),
    "compute alone": (broken(compute=lambda self: {}), "compute() raised TypeError"),
    "another carry": (broken(compute=lambda self, piece, cary: {}), "compute() raised TypeError"),
    "writes": (
        computing(writes),
        "compute() raised ValueError: assignment destination is read-only; what it is",
    ),
    "start raises": (broken(start=raises), "start() raised KeyError: 'x' ("),
    "finish raises": (broken(finish=raises), "finish() raised KeyError: 'x' ("),
    "finish, None": (broken(finish=lambda self, carry: None), "finish() should return a dict of arrays"),
    "finish, short": (
        broken(finish=lambda self, carry: {"broken": np.ones(3)}),
        "finish() gives 'broken' the sh",
    ),
    "flops raise": (broken(flops=raises), "flops() raised KeyError: 'x' ("),
    "flops, None": (broken(flops=lambda self, p: None), "flops() should be a number, 0 or more, not None"),
    "flops, NaN": (broken(flops=lambda self, p: np.nan), "flops() should be a number, 0 or more, not nan"),
    "a carry of no size": (
        broken(carry_bytes=lambda self, p: -1),
        "carry_bytes() should be a number, 0 or more, not -1",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_recorder_is_named_with_what_was_expected_and_what_came(name):
    recorder, message = WRONG[name]
    with refused(PluginError, "Broken(effective=False)", message):
        gradsim.simulate(Elman(2, 4), np.ones((6, 3, 2)), record=[recorder])
    with refused(PluginError, "Broken(effective=False)", message):
        probe = {"every": 1, "batch": 2, "recorders": [recorder]}
        train(Elman(2, 4), Labelled(), optimizer=SGD(0.1), updates=1, batch=2, record=probe)


@pytest.mark.parametrize("name", WRONG)
def test_the_kit_reports_what_a_run_refuses(name):
    """It raises nothing but AssertionError, and some check fails."""
    failed = []
    for _, call in checks_of(WRONG[name][0]):
        try:
            call()
        except AssertionError as error:
            failed.append(str(error))
        except SkipTest:
            continue
    assert any("Broken(effective=False)" in message for message in failed), failed


def arrays(value):
    match value:
        case np.ndarray():
            yield value
        case dict():
            for inner in value.values():
                yield from arrays(inner)
        case gradsim.Jacobians():
            yield value.blocks
        case Trajectory():
            yield from (value.states, value.inputs, *value.params.values(), *value.step_data.values())
        case _ if is_dataclass(value):
            for field in fields(value):
                yield from arrays(getattr(value, field.name))


STREAMS = [
    pieces.Forward,
    pieces.LossTerms,
    gradsim.Jacobians,
    pieces.Products,
    pieces.ProductNorms,
    pieces.LossRows,
    pieces.Adjoints,
    pieces.Contributions,
    pieces.Gradient,
    pieces.GradientByLag,
    pieces.Exponents,
]


@pytest.mark.parametrize("stream", STREAMS, ids=lambda s: s.__name__)
@pytest.mark.parametrize(
    "mitigation", [Truncate(2, 3), ClipNorm(0.01, where="adjoint")], ids=lambda m: m.name
)
def test_nothing_that_a_recorder_is_given_can_be_written_to(stream, mitigation):
    seen = []

    def compute(self, piece):
        found = [x for x in arrays(piece) if x.size]
        seen.extend(found)
        assert not any(x.flags.writeable for x in found)
        return {}

    recorder = broken(stream=stream, variables=lambda self, problem: (), compute=compute)
    if mitigation.name == "truncate" and stream not in (pieces.Forward, pieces.LossTerms):
        object.__setattr__(recorder, "effective", True)
    gradsim.simulate(Elman(2, 4), np.ones((6, 3, 2)), record=[recorder], mitigations=[mitigation])
    assert seen

"""Every argument of every analysis and of every figure: what does not fit is named, whatever it is."""

from __future__ import annotations

import inspect
from functools import partial

import numpy as np
import pytest
import xarray as xr

import gradsim
from gradsim import analysis, plot
from gradsim.errors import GradsimError, InputError, UnknownNameError
from gradsim_cells import Elman
from gradsim_mitigations import Truncate
from gradsim_optimizers import SGD
from gradsim_tasks import Adding

RECORD = ["product_norm", "product_spectrum", "lyapunov", "adjoint", "adjoint_norm", "gradient"]
RECORD += ["effective_adjoint", "effective_adjoint_norm", "effective_gradient"]

ODD = {
    "none": None,
    "true": True,
    "zero": 0,
    "minus": -1,
    "half": 2.5,
    "tiny": 1e-300,
    "nan": np.nan,
    "huge": 10**400,
    "large": 2**62,
    "text": "x",
    "null": "\0",
    "bytes": b"x",
    "list": [3],
    "empty": [],
    "pair": (1.0, 1.0),
    "back": (3, 1),
    "texts": ["W", "x"],
    "dict": {"x": 3},
    "nothing": {},
    "object": object(),
    "class": Elman,
    "array": np.ones(2),
    "labelled": xr.DataArray([1.0], dims="update", coords={"update": [1]}),
    "dataset": xr.Dataset(),
    "datasets": {"a": xr.Dataset()},
}


@pytest.fixture(scope="module")
def simulated():
    return gradsim.simulate(Elman(1, 3), np.random.default_rng(0).standard_normal((12, 2, 1)), record=RECORD)


@pytest.fixture(scope="module")
def trained():
    return gradsim.train(
        Elman(2, 3),
        Adding(length=20),
        optimizer=SGD(0.01),
        updates=3,
        batch=2,
        record={"every": 1, "recorders": ("product_norm", "lyapunov")},
        validate={"every": 1, "sequences": 4},
    )


@pytest.fixture(scope="module")
def compared():
    inputs = np.random.default_rng(0).standard_normal((6, 2, 1))
    return gradsim.compare([Elman(1, 3)], inputs=inputs, mitigations=[Truncate(1, 2)], seeds=1)


BASE = {
    "values": lambda ds: ds.train_loss,
    "function": lambda ds: analysis.horizon,
    "update": lambda ds: 1,
    "path": lambda ds: "film.gif",
    "path_stem": lambda ds: "figure",
    "figure": lambda ds: plot.new_figure(),
    "axes": lambda ds: [plot.new_figure().add_subplot()],
    "limits": lambda ds: (-1.0, 1.0),
    "label": lambda ds: "norm",
    "log10": lambda ds: np.log10(ds.train_loss),
    "look": lambda ds: {"color": "k"},
    "ax": lambda ds: plot.new_figure().add_subplot(),
}
"""What is needed besides datasets: parameter -> what makes it."""

OF_TRAINING = {
    *("probe", "over_probes", "smoothed", "updates_until", "loss_curve", "score_curve", "line_with_band"),
    *("gradient_norm_curve", "gradient_norm_by_param", "spectral_radius_curve", "training_overview"),
    *("adjoint_over_updates", "lyapunov_over_updates", "gain_by_lag_over_updates", "gain_heat_maps"),
    "animate_gain_heat_map",
}

OF_MITIGATIONS = {"effects", "bias_against_cost", "gain_by_lag_of_mitigations"}

FUNCTIONS = [
    (package, name)
    for package in (analysis, plot)
    for name in package.__all__
    if callable(getattr(package, name)) and name not in ("applied", "lines")
]
CASES = [
    (package, name, parameter)
    for package, name in FUNCTIONS
    for parameter, p in inspect.signature(getattr(package, name)).parameters.items()
    if p.kind is not p.VAR_KEYWORD and parameter != "look"
]


def needed(function, ds):
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
            yield name, ds if name in ("ds", "runs") else BASE[name](ds)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("package", "name", "parameter"), CASES, ids=[f"{m.__name__}.{n}-{p}" for m, n, p in CASES]
)
def test_every_argument_is_taken_or_refused(
    package, name, parameter, simulated, trained, compared, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    function = getattr(package, name)
    ds = trained if name in OF_TRAINING else compared if name in OF_MITIGATIONS else simulated
    arguments = dict(needed(function, ds))
    call = partial(function, ds) if "datasets" in inspect.signature(function).parameters else function
    if parameter == "datasets":
        call, arguments = lambda datasets: function(datasets), {}
    elif name == "updates_until":
        arguments["below" if parameter != "above" else "above"] = 0.1
    call(**arguments | ({"datasets": ds} if parameter == "datasets" else {}))
    taken = 0
    for value in ODD.values():
        try:
            call(**arguments | {parameter: value})
            taken += 1
        except GradsimError:
            pass
    assert taken < len(ODD)


@pytest.mark.parametrize(("package", "name"), FUNCTIONS, ids=[f"{m.__name__}.{n}" for m, n in FUNCTIONS])
def test_arguments_that_nobody_knows_are_named(package, name):
    function = getattr(package, name)
    parameters = inspect.signature(function).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    with pytest.raises(UnknownNameError, match=rf"unknown argument of {name}\(\) 'nobody_knows'"):
        function(nobody_knows=3)
    if any(p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters.values()):
        with pytest.raises(InputError, match=rf"^{name}\(\) needs "):
            function()

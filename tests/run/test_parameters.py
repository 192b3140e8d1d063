"""A list of parameters is all that a verb says of them."""

import inspect
from collections.abc import Sequence
from dataclasses import fields
from typing import Annotated

import click
import numpy as np
import pytest
from annotated_types import Ge, Gt
from click.testing import CliRunner

import gradsim
from gradsim.cli.options import experiment_options, launch_options
from gradsim.contracts import registry
from gradsim.errors import InputError, UnknownNameError
from gradsim.experiment.keys import mistakes_in
from gradsim.run.parameters import ComputingParameters, arguments, listed, parameter, parameters, verb
from gradsim.training.parameters import TrainingParameters, TrainParameters
from gradsim_cells import Elman


@parameters
class Sweeping:
    """A list as a third verb would have it."""

    others: Sequence[gradsim.Cell] = parameter(default=(), of="gradsim:Cell", doc="Some cells.")
    cell: gradsim.Cell = parameter(kw_only=False, of="gradsim:Cell", doc="The cell. And more of it.")
    rng: object = parameter(default=0, key="seed", written=Annotated[int, Ge(0)], doc="The seed.")
    runs: Annotated[int, Gt(0)] | None = parameter(default=None, doc="How many.")
    keep: bool = parameter(default=True, doc="Whether all are kept.")
    given: object = parameter(default=None, key="", doc="Cannot be written.")


@verb(Sweeping)
def sweep(given: Sweeping) -> Sweeping:
    """Sweep.

    Returns
    -------
    What it was given.
    """
    return given


def test_a_function_takes_the_entries_of_its_list():
    signature = inspect.signature(sweep)
    assert [*signature.parameters] == ["cell", "others", "rng", "runs", "keep", "given"]
    assert signature.parameters["cell"].default is inspect.Parameter.empty
    assert signature.parameters["runs"].annotation == int | None
    cell = Elman(1, 2)
    assert sweep(cell, runs=np.int64(4)).runs == 4
    assert sweep(cell=cell).keep is True
    with pytest.raises(InputError, match=r"^sweep\(\) needs cell$"):
        sweep()
    with pytest.raises(UnknownNameError, match=r"^unknown argument of sweep\(\) 'runns'; did you mean 'r"):
        sweep(cell, runns=2)
    with pytest.raises(InputError, match=r"^cell should be an .* \(got 3\); runs should .*\(got 0\)$"):
        sweep(3, runs=0)


def test_a_docstring_has_the_section_of_the_list_before_its_own():
    lines = sweep.__doc__.splitlines()
    assert lines[:6] == ["Sweep.", "", "Parameters", "----------", "cell", "    The cell. And more of it."]
    assert lines.index("Returns") > lines.index("given")


def test_tables_are_checked_and_built_from_the_list():
    tables = {"cell": {"name": "elman"}, "others": ["lstm"], "seed": -1, "runs": 0, "keep": 1, "given": 2}
    assert [line.split(":")[0] for line in mistakes_in(tables, Sweeping)] == [
        "others.0",
        "seed",
        "runs",
        "keep",
        "given",
    ]
    made = registry.whole(lambda builder: arguments(Sweeping, tables, builder))
    assert isinstance(made["cell"], Elman)
    assert {name: made[name] for name in ("rng", "runs", "keep")} == {"rng": -1, "runs": 0, "keep": 1}
    tables = {"cell": {"name": "elman", "recurrent_scale": "x"}, "others": [{"name": "elmn"}]}
    with pytest.raises(
        InputError, match=r"cell\.recurrent_scale: should be a valid number.*; others\.0\.name: unknown"
    ):
        registry.whole(lambda builder: arguments(Sweeping, tables, builder))


def test_options_are_read_from_the_list():
    given = {}

    @click.command()
    @experiment_options(Sweeping)
    @launch_options(ComputingParameters)
    def command(**options):
        given.update(options)

    def call(*flags):
        return CliRunner().invoke(command, flags).exit_code

    flags = ("--other", "gru", "--seed", "3", "--no-keep", "--memory", "1e9")
    assert call(*flags, "--cell", r"mine:C:\data\rain 1.csv") == 0
    assert {n: given[n] for n in ("cell", "others", "seed", "runs", "keep", "memory", "progress")} == {
        "cell": {"name": "mine", "path": r"C:\data\rain 1.csv"},
        "others": ({"name": "gru"},),
        "seed": 3,
        "runs": None,
        "keep": False,
        "memory": 1e9,
        "progress": None,
    }
    assert "given" not in given
    assert call("--threads", "0") == call("--given", "3") == 2


@pytest.mark.parametrize("name", [*listed(TrainParameters)])
def test_every_parameter_of_train_is_described(name):
    assert listed(TrainParameters)[name].doc.endswith((".", "end."))
    assert f"\n{name}\n    " in gradsim.train.__doc__


def test_prepare_training_takes_what_decides_the_numbers():
    taken = inspect.signature(gradsim.prepare_training).parameters
    assert taken.keys() == {field.name for field in fields(TrainingParameters)}
    assert "threads" not in taken

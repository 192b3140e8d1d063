"""An experiment file: the runs that it stands for, and its mistakes all at once."""

from __future__ import annotations

import pytest
from experiments import tables, training

from gradsim.cli.overrides import override
from gradsim.errors import InputError
from gradsim.experiment.build import ExperimentError, build, read_toml
from gradsim.experiment.kinds import COMPARISON, SIMULATION, TRAINING


def test_the_default_experiment_is_an_lstm_and_an_elman_network_on_the_sunspots():
    main, other = build(read_toml(), name="unused")
    assert (main.name, main.label, other.name, other.label) == ("sunspots", "lstm", "sunspots-elman", "elman")
    assert main.arguments["cell"].hidden_size == other.arguments["cell"].hidden_size
    assert main.arguments["task"].name == other.arguments["task"].name == "sunspots"


def test_the_built_in_training_is_an_lstm_and_an_elman_network_on_the_adding_problem():
    main, other = build(read_toml(None, TRAINING), TRAINING, name="unused")
    assert (main.name, main.label, other.name, other.label) == ("adding", "lstm", "adding-elman", "elman")
    assert main.arguments["cell"].hidden_size == other.arguments["cell"].hidden_size
    assert main.prepare().setup.updates == other.prepare().setup.updates


@pytest.mark.parametrize("kind", [SIMULATION, TRAINING], ids=lambda kind: kind.name)
def test_the_cells_of_built_in_experiments_are_those_that_their_names_stand_for(kind):
    default = read_toml(None, kind)
    for run in build(default, kind, name="unused"):
        named = override(default, {"cell": {"name": run.label}}, default=True)
        (alone,) = build(named, kind, name="unused")
        assert alone.arguments["cell"].parameters == run.arguments["cell"].parameters


def test_the_built_in_comparison_is_of_cells_that_know_their_inputs():
    (comparison,) = build(read_toml(None, COMPARISON), COMPARISON, name="unused")
    assert comparison.label == comparison.name == "sunspots-cells"
    assert list(comparison.arguments["cells"]) == ["lstm", "gru", "elman"]
    tables = read_toml(None, COMPARISON) | {"task": {"name": "adding"}}
    (comparison,) = build(tables, COMPARISON, name="unused")
    assert {cell.input_size for cell in comparison.arguments["cells"].values()} == {2}


def test_an_experiment_of_the_other_kind_is_refused():
    with pytest.raises(
        ExperimentError, match=r"e describes a training: optimizer, updates. Use `gradsim train`"
    ):
        build(training(), SIMULATION, name="e", source="e")
    with pytest.raises(
        ExperimentError, match=r"e describes no training, but a simulation. Use `gradsim run`"
    ):
        build(tables(record=["loss"]), TRAINING, name="e", source="e")


def test_bad_toml_names_file_and_line(tmp_path):
    file = tmp_path / "bad.toml"
    file.write_text("seed = 1\n[cell\n")
    with pytest.raises(InputError, match=r"bad.toml is not valid TOML: .*line 2"):
        read_toml(file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"seed = {'9' * 4301}\n", r"an integer is too long \(at line 2\)"),
        (f"seed = {'[' * 5000}\n", "there are too many brackets within brackets"),
    ],
)
def test_what_python_cannot_hold_is_refused(tmp_path, text, message):
    path = tmp_path / "large.toml"
    path.write_text(f"name = 'large'\n{text}")
    with pytest.raises(InputError, match=rf"large.toml is not valid TOML: {message}$"):
        read_toml(path)


def test_a_byte_order_mark_is_no_mistake(tmp_path):
    path = tmp_path / "windows.toml"
    path.write_bytes(b"\xef\xbb\xbfseed = 1\r\n")
    assert read_toml(path) == {"seed": 1}


def test_a_file_that_is_not_text_is_refused(tmp_path):
    file = tmp_path / "bad.toml"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"bad.toml is not valid TOML"):
        read_toml(file)

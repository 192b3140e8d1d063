"""An experiment file: the runs that it stands for, and its mistakes all at once."""

from __future__ import annotations

import pytest

from gradsim.errors import InputError
from gradsim.experiment.build import ExperimentError, build, read_toml
from gradsim.experiment.kinds import SIMULATION, TRAINING, default_record
from gradsim_mitigations import ClipAdjoint, ClipNorm, Gate, Truncate


def tables(**changes):
    return {"task": {"name": "adding", "length": 30}, "cell": {"name": "elman"}, **changes}


def training(**changes):
    given = {"optimizer": {"name": "adam", "learning_rate": 0.01}, "updates": 9, **changes}
    return tables(**{k: v for k, v in given.items() if v is not None})


def mistakes(**changes):
    return mistakes_of(tables(**changes), SIMULATION)


def mistakes_of(given, kind):
    with pytest.raises(ExperimentError) as caught:
        build(given, kind, name="e", source="e.toml")
    first, *lines = str(caught.value).split("\n  ")
    assert first == f"e.toml: {len(lines)} mistake{'s' if len(lines) > 1 else ''}"
    return lines


def test_the_default_experiment_is_an_lstm_and_an_elman_network_on_the_sunspots():
    main, other = build(read_toml(), name="unused")
    assert (main.name, main.label, other.name, other.label) == ("sunspots", "lstm", "sunspots-elman", "elman")
    assert main.arguments["cell"].forget_bias == 3
    assert main.arguments["cell"].hidden_size == other.arguments["cell"].hidden_size == 32
    assert main.arguments["task"].name == other.arguments["task"].name == "sunspots"


def test_input_size_comes_from_the_task():
    assert build(tables(), name="e")[0].arguments["cell"].input_size == 2


def test_an_input_size_that_does_not_fit_the_task_is_refused():
    (line,) = mistakes(cell={"name": "elman", "input_size": 3})
    assert line == "cell.input_size: should be 2, as the task adding has it; leave it out (got 3)"


def test_the_values_of_an_experiment_reach_the_simulation():
    given = tables(
        seed=7,
        batch=3,
        dtype="float32",
        record=["loss", "product_norm"],
        pairs={"max_lag": 4},
        mitigations=[{"name": "leak", "rate": 0.5}, {"name": "clip_norm"}],
    )
    (run,) = build(given, name="e")
    simulation = run.prepare()
    assert simulation.plan.problem.batch == 3
    assert simulation.plan.problem.dtype == "float32"
    assert simulation.plan.problem.lags == 4
    assert simulation.provenance["seed"]["entropy"] == "7"
    assert simulation.provenance["record"] == ["loss", "product_norm"]
    assert simulation.provenance["mitigations"] == [
        {"name": "leak", "rate": 0.5},
        {"name": "clip_norm", "max_norm": 1.0},
    ]


def test_a_compared_run_inherits_what_it_does_not_replace():
    given = tables(seed=3, cell={"name": "elman", "gain": 0.5, "hidden_size": 8})
    given["compare"] = [
        {"label": "strong", "cell": {"gain": 2.0}},
        {"label": "gru", "cell": {"name": "gru"}, "seed": 4},
        {"label": "order", "task": {"name": "temporal_order"}},
    ]
    main, strong, gru, order = build(given, name="e")
    assert [run.name for run in (main, strong, gru, order)] == ["e", "e-strong", "e-gru", "e-order"]
    cells = [run.arguments["cell"] for run in (strong, gru, order)]
    assert [(cell.name, cell.hidden_size) for cell in cells] == [("elman", 8), ("gru", 32), ("elman", 8)]
    assert [cell.input_size for cell in cells] == [2, 2, 8]
    assert cells[0].gain == 2
    assert [run.arguments["rng"] for run in (strong, gru, order)] == [3, 4, 3]


def test_the_main_run_never_shares_its_label_with_a_compared_one():
    main, other = build(tables(compare=[{"label": "elman", "seed": 1}]), name="e")
    assert (main.label, other.label) == ("e", "elman")


def test_what_is_recorded_by_default_follows_the_mitigations():
    assert "effective_adjoint" not in default_record([Gate()])
    assert "effective_gradient_norm" in default_record([ClipNorm()])
    assert "effective_product_norm" in default_record([Truncate()])
    both = default_record([Truncate(), ClipAdjoint()])
    assert "effective_adjoint_factor" in both
    assert "effective_product_norm" not in both


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"sed": 1}, "sed: unknown key 'sed'; did you mean 'seed'?"),
        (
            {"pairs": {"maxlag": 1}},
            "pairs.maxlag: unknown parameter of pairs 'maxlag'; did you mean 'max_lag'?",
        ),
        ({"compare": [{"label": "a", "sed": 1}]}, "compare.0.sed: unknown key 'sed'; did you mean 'seed'?"),
        ({"seed": -1}, "seed: should be greater than or equal to 0 (got -1)"),
        ({"batch": True}, "batch: should be a valid integer (got True)"),
        ({"dtype": "float16"}, "dtype: should be 'float32' or 'float64' (got 'float16')"),
        ({"name": "../x"}, "name: should be made of letters, digits and . _ - to name a folder"),
        ({"cell": "elman"}, "cell: should be a table with a name"),
        ({"task": {"length": 30}}, "task: should be a table with a name, such as"),
        ({"cell": {"name": "elmn"}}, "cell.name: unknown cell 'elmn'; did you mean 'elman'?"),
        ({"task": {"name": "add"}}, "task.name: unknown task 'add'; did you mean 'adding'?"),
        ({"record": ["los"]}, "record.0: unknown recorder 'los'; did you mean 'loss'?"),
        ({"record": []}, "record: should not be empty (got [])"),
        ({"record": [["loss"]]}, "record.0: should be a valid string (got ['loss'])"),
        ({"pairs": 3}, "pairs: should be a table (got 3)"),
        (
            {"cell": {"name": "elman", "gian": 1}},
            "cell.gian: unknown parameter of elman 'gian'; did you mean",
        ),
        ({"cell": {"name": "elman", "gain": "x"}}, "cell.gain: should be a valid number"),
        ({"cell": {"name": "elman", "activation": "x"}}, "cell.activation: should be 'tanh', 'relu' or"),
        ({"mitigations": [{"name": "truncate", "k1": 3, "k2": 2}]}, "mitigations.0: Truncate: k2 >= k1"),
        ({"pairs": {"max_lag": 1, "times": [2]}}, "pairs: give max_lag or times, not both"),
        ({"pairs": {"lags": 3}}, "pairs.lags: should be a list (got 3)"),
        ({"pairs": {"lags": []}}, "pairs: lags should name at least one, 0 or more each (got [])"),
        ({"compare": [{"label": "a"}, {"label": "a"}]}, "compare: label 'a' is used twice"),
    ],
)
def test_each_mistake_names_its_key_and_the_fix(changes, line):
    (found,) = mistakes(**changes)
    assert found.startswith(line)


def test_all_mistakes_come_at_once():
    lines = mistakes(
        sed=1,
        batch=0,
        cell={"name": "elman", "gain": -1, "hiden_size": 3, "hidden_size": 0},
        mitigations=[{"name": "clip_norm", "max_norm": "big"}, {"name": "clip"}],
        record=["los"],
        compare=[{"label": "a", "cell": {"gains": 1}}],
    )
    assert [line.split(":")[0] for line in lines] == [
        "batch",
        "sed",
        "mitigations.0.max_norm",
        "mitigations.1.name",
        "record.0",
        "cell.hiden_size",
        "cell.hidden_size",
        "cell.gain",
        "compare.0.cell.gains",
    ]


def test_the_built_in_training_is_an_lstm_and_an_elman_network_on_the_adding_problem():
    main, other = build(read_toml(None, TRAINING), TRAINING, name="unused")
    assert (main.name, main.label, other.name, other.label) == ("adding", "lstm", "adding-elman", "elman")
    assert main.arguments["cell"].hidden_size == other.arguments["cell"].hidden_size
    assert main.prepare().course.updates == other.prepare().course.updates


def test_the_values_of_an_experiment_reach_the_training():
    given = training(
        task={"name": "japanese_vowels"},
        updates=None,
        epochs=2,
        batch=25,
        seed=5,
        dtype="float32",
        optimizer={
            "name": "sgd",
            "momentum": 0.5,
            "schedule": {"name": "warmup", "length": 3, "after": "cosine"},
        },
        mitigations=[{"name": "clip_norm"}],
        record={"every": 4, "recorders": ["loss", "product_norm"], "batch": 2, "pairs": {"lags": [1, 3]}},
        validate={"every": 3},
        stop={"patience": 2},
        watch=False,
    )
    (run,) = build(given, TRAINING, name="e")
    course = run.prepare().course
    settings = course.provenance["training"]
    assert course.updates == 18  # 2 epochs of 225 sequences
    assert course.model.dtype == "float32"
    assert course.provenance["seed"]["entropy"] == "5"
    assert settings["optimizer"] == {
        "name": "sgd",
        "learning_rate": 0.01,
        "momentum": 0.5,
        "nesterov": False,
        "schedule": {"name": "warmup", "length": 3, "after": {"name": "cosine", "final": 0.0}},
    }
    assert course.watch is None
    assert settings["record"]["recorders"] == ["loss", "product_norm"]
    assert settings["record"]["pairs"]["lags"] == (1, 3)
    assert (settings["record"]["every"], settings["validate"]["every"], settings["stop"]["patience"]) == (
        4,
        3,
        2,
    )


def test_a_compared_training_inherits_what_it_does_not_replace():
    given = training(task={"name": "japanese_vowels"}, record={"every": 3}, batch=30, seed=4)
    given["compare"] = [
        {"label": "slow", "optimizer": {"learning_rate": 0.001}, "batch": 225},
        {"label": "sgd", "optimizer": {"name": "sgd"}, "record": {"every": 1}},
        {"label": "long", "epochs": 3},
    ]
    main, slow, sgd, long = build(given, TRAINING, name="e")
    assert [run.arguments["optimizer"].learning_rate for run in (main, slow, sgd)] == [0.01, 0.001, 0.01]
    assert [run.arguments["optimizer"].name for run in (main, slow, sgd)] == ["adam", "adam", "sgd"]
    assert [run.arguments["record"].every for run in (main, slow, sgd)] == [3, 3, 1]
    assert (slow.arguments["batch"], slow.arguments["rng"], sgd.arguments["batch"]) == (225, 4, 30)
    assert ("updates" in long.arguments, long.arguments["epochs"]) == (False, 3)


@pytest.mark.parametrize(
    ("task", "batch"), [({"name": "adding"}, 32), ({"name": "sunspots", "length": 30}, 10)]
)
def test_a_batch_is_32_sequences_or_all_that_there_are(task, batch):
    (run,) = build(training(task=task), TRAINING, name="e")
    assert run.prepare().course.problem.batch == batch


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"epoch": 3}, "epoch: unknown key 'epoch'; did you mean 'epochs'?"),
        ({"optimizer": None}, "optimizer: is missing"),
        ({"optimizer": "adam"}, "optimizer: should be a table with a name"),
        ({"optimizer": {"name": "adm"}}, "optimizer.name: unknown optimizer 'adm'; did you mean 'adam'?"),
        (
            {"optimizer": {"name": "sgd", "momentun": 0.9}},
            "optimizer.momentun: unknown parameter of sgd 'momentun'; did you mean 'momentum'?",
        ),
        (
            {"optimizer": {"name": "sgd", "schedule": {"name": "step_decay", "every": 0}}},
            "optimizer.schedule.every: should be greater than 0 (got 0)",
        ),
        (
            {"optimizer": {"name": "sgd", "schedule": {"name": "warmup", "after": "cosin"}}},
            "optimizer.schedule.after.name: unknown schedule 'cosin'; did you mean 'cosine'?",
        ),
        (
            {"optimizer": {"name": "sgd", "schedule": {"final": 0.1}}},
            "optimizer.schedule: should be a table with a name",
        ),
        ({"updates": None}, "updates: give updates or epochs: exactly one of the two"),
        ({"epochs": 2}, "epochs: give updates or epochs: exactly one of the two"),
        (
            {"compare": [{"label": "a", "updates": 1, "epochs": 1}]},
            "compare.0.epochs: give updates or epochs",
        ),
        ({"updates": 2.5}, "updates: should be a valid integer (got 2.5)"),
        ({"stateful": 1}, "stateful: should be a valid boolean (got 1)"),
        ({"record": ["loss"]}, "record: should be a table (got ['loss'])"),
        ({"record": {"batch": 2}}, "record: record needs every"),
        ({"record": {"every": 0}}, "record.every: should be greater than 0 (got 0)"),
        ({"record": {"every": 1, "recorders": "loss"}}, "record.recorders: should be a list (got 'loss')"),
        (
            {"record": {"every": 1, "recorders": ["los"]}},
            "record.recorders.0: unknown recorder 'los'; did you",
        ),
        (
            {"record": {"every": 1, "evry": 1}},
            "record.evry: unknown parameter of record 'evry'; did you mean",
        ),
        (
            {"record": {"every": 1, "pairs": {"maxlag": 1}}},
            "record.pairs.maxlag: unknown parameter of pairs 'maxlag'; did you mean 'max_lag'?",
        ),
        (
            {"validate": {"evry": 1, "every": 1}},
            "validate.evry: unknown parameter of validate 'evry'; did you",
        ),
        ({"stop": {"patience": "x"}}, "stop.patience: should be a valid integer (got 'x')"),
    ],
)
def test_each_mistake_of_a_training_names_its_key_and_the_fix(changes, line):
    (found,) = mistakes_of(training(**changes), TRAINING)
    assert found.startswith(line)


def test_all_mistakes_of_a_training_come_at_once():
    given = training(
        updates=0,
        optimizer={"name": "sgd", "learning_rate": 0, "schedule": {"name": "cosine", "final": 2}},
        record={"every": 0, "recorders": ["los"], "pairs": {"lags": []}},
        validate={"every": "x"},
        compare=[{"label": "a", "optimizer": {"momentum": 1}, "validate": {"sequences": 0, "every": 1}}],
    )
    assert [line.split(":")[0] for line in mistakes_of(given, TRAINING)] == [
        "updates",
        "optimizer.schedule.final",
        "optimizer.learning_rate",
        "record.recorders.0",
        "record.pairs",
        "record.every",
        "validate.every",
        "compare.0.optimizer.momentum",
        "compare.0.validate.sequences",
    ]


def test_an_experiment_of_the_other_kind_is_refused():
    with pytest.raises(
        ExperimentError, match=r"e describes a training: optimizer, updates. Use `gradsim train`"
    ):
        build(training(), SIMULATION, name="e", source="e")
    with pytest.raises(
        ExperimentError, match=r"e describes no training, but a simulation. Use `gradsim run`"
    ):
        build(tables(record=["loss"]), TRAINING, name="e", source="e")


def test_an_error_of_a_run_names_the_run():
    runs = build(tables(pairs={"sources": [99]}), name="mine")
    with pytest.raises(InputError, match="mine: pairs: sources should lie in"):
        runs[0].prepare()
    given = training(compare=[{"label": "other", "stateful": True}])
    _, other = build(given, TRAINING, name="mine")
    with pytest.raises(InputError, match="mine-other: stateful: the sequences of adding do not follow"):
        other.prepare()


def test_bad_toml_names_file_and_line(tmp_path):
    file = tmp_path / "bad.toml"
    file.write_text("seed = 1\n[cell\n")
    with pytest.raises(InputError, match=r"bad.toml is not valid TOML: .*line 2"):
        read_toml(file)


def test_a_file_that_is_not_text_is_refused(tmp_path):
    file = tmp_path / "bad.toml"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"bad.toml is not valid TOML"):
        read_toml(file)

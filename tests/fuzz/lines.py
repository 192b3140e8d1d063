"""Command lines that were right, and one or a few things in them that are not."""

from __future__ import annotations

from drawing import KEYS, ODD, ODD_KEYS, inline, typos
from hypothesis import strategies as st

from gradsim.cli import COMMANDS, main

SMALL = ("--cell", "elman", "--task", "adding", "--set", "cell.hidden_size=2", "--set", "task.length=20")
TRAINED = (*SMALL, "--optimizer", "adam", "--updates", "2", "--set", "validate.sequences=3")
RIGHT = (
    ("plan", *SMALL, "--batch", "2", "--seed", "1", "--dtype", "float32"),
    ("plan", "experiment.toml", "--mitigation", "gate", "--record", "loss"),
    ("run", *SMALL, "--dry-run", "--threads", "1", "--memory", "1e9", "--out", "there"),
    ("run", *SMALL, "--dry-run", "--mitigation", "clip_norm", "--set", "mitigations.0.max_norm=2"),
    ("run", "experiment.toml", "--dry-run", "--force", "--no-progress", "--set", "seed=3"),
    ("train", *TRAINED, "--dry-run", "--json", "--live", "10", "--resume"),
    ("train", *TRAINED, "--dry-run", "--epochs", "1", "--stateful", "--no-watch"),
    ("train", "training.toml", "--dry-run", "--checkpoint-seconds", "3", "--allow-changed"),
    (
        "compare",
        "--cell",
        "elman,gru",
        "--task",
        "adding",
        "--match",
        "params=500",
        "--seeds",
        "2",
        "--dry-run",
    ),
    ("resume", "trained", "--threads", "1", "--json", "--live", "3"),
    ("list", "cells"),
    ("show", "lstm"),
    ("check", "elman"),
    ("check", "own.py"),
    ("new", "cell", "my_cell", "--dir", "made"),
)
"""They need experiment.toml, training.toml, own.py and the run folder `trained` in the current folder."""

FOUND = ("experiment.toml", "training.toml", "own.py", "trained", "folder", "binary", "locked", "made")
PATHS = ("", "cell.", "task.", "optimizer.", "mitigations.0.", "record.", "compare.0.", "pairs.", "a.b.", ".")


def _options():
    commands = [main.get_command(None, name) for name in COMMANDS]
    return sorted({opt for one in commands for p in one.params for opt in p.opts if opt.startswith("-")})


def given(text):
    """As the system gives it: what is no UTF-8 among its bytes are surrogates of one kind."""
    return text.replace("\ud800", "\udcff")


TEXTS = st.one_of(
    st.sampled_from(ODD).map(lambda value: value if isinstance(value, str) else inline(value)).map(given),
    st.sampled_from(FOUND),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8),
)
CHANGES = st.builds(
    lambda path, key, equals, text: f"{path}{key}{equals}{text}",
    st.sampled_from(PATHS),
    st.sampled_from((*KEYS, *ODD_KEYS)),
    st.sampled_from(("=", "=", "=", "=", "==", " = ", "")),
    TEXTS,
)


@st.composite
def lines(draw, most=3):
    """A list of arguments; what would compute for long is only planned."""
    line = [*draw(st.sampled_from(RIGHT))]
    for _ in range(draw(st.integers(1, most))):
        i = draw(st.integers(0, len(line) - 1)) if line else 0
        match draw(st.sampled_from(("drop", "double", "swap", "odd", "odd", "typo", "option", "set", "set"))):
            case "drop":
                del line[i : i + 1]
            case "double":
                line[i:i] = line[i : i + 2]
            case "swap":
                line[i : i + 2] = reversed(line[i : i + 2])
            case "odd":
                line[i : i + 1] = [draw(TEXTS)]
            case "typo":
                line[i : i + 1] = [draw(typos(line[i]))] if line else []
            case "option":
                option, text = draw(st.sampled_from(_options())), draw(TEXTS)
                line[i + 1 : i + 1] = draw(st.sampled_from(([option], [option, text], [f"{option}={text}"])))
            case "set":
                line += ["--set", draw(CHANGES)]
    return [line[0], "--dry-run", *line[1:]] if line[:1] in (["run"], ["train"], ["compare"]) else line

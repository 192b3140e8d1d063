"""The folder in which fuzzed commands are called."""

from __future__ import annotations

import pytest
from drawing import toml
from judging import ends

from gradsim.run.estimate import Estimate

OWN = '''
from dataclasses import dataclass

from gradsim import Cell


@dataclass(frozen=True, eq=False)
class Own(Cell):
    """A cell that reads a parameter it does not have."""

    name = "own"

    input_size: int = 1

    @property
    def blocks(self):
        return {"h": 2}

    def init_params(self, rng):
        return {"W": rng.standard_normal((2, 2))}

    def step(self, params, state, inputs, xp):
        return state @ params["V"]
'''
SMALL = {
    "name": "small",
    "batch": 2,
    "task": {"name": "adding", "length": 20},
    "mitigations": [{"name": "gate"}],
    "cell": {"name": "elman", "hidden_size": 2},
}
OTHER = {"compare": [{"label": "gru", "cell": {"name": "gru", "hidden_size": 2}}]}
TRAINED = {**SMALL, "updates": 2, "optimizer": {"name": "adam", "learning_rate": 0.1}}


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    """A folder with experiments, a plugin, a training and what is none of these."""
    folder = tmp_path_factory.mktemp("ground")
    (folder / "experiment.toml").write_text(toml({**SMALL, **OTHER}))
    (folder / "training.toml").write_text(toml({**TRAINED, **OTHER}))
    (folder / "own.py").write_text(OWN)
    (folder / "binary").write_bytes(bytes(range(256)))
    (folder / "folder").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("COLUMNS", "80")
        # What a run will take is tried out, which takes longer than all the rest of a case.
        patch.setattr("gradsim.run.estimate.estimate", lambda *_, **__: Estimate({}, 0, 0))
        patch.setattr("gradsim.training.estimate.seconds", lambda *_, **__: 0.0)
        (folder / "one.toml").write_text(toml(TRAINED))
        assert ends(["train", "one.toml", "--out", "trained"])[0] == 0
        yield folder

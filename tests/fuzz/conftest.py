"""The folder in which fuzzed commands are called."""

from __future__ import annotations

import pytest
from drawing import toml
from ground import OTHER, OWN, SMALL, TRAINED
from judging import ends

from gradsim.run.estimate import Estimate


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

"""Cells of one's own on the command line: from a file, and weights that were trained elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import OWN_CELL

import gradsim
from gradsim import from_torch
from gradsim_tasks import Sunspots

TOML = """
record = ["state"]
cell = { name = "torch", path = "model.pt" }
task = { name = "sunspots", length = 40 }
"""


@pytest.fixture
def module():
    torch.manual_seed(0)
    module = torch.nn.GRU(1, 6)
    torch.save(module.state_dict(), "model.pt")
    return module


SHORT = ("--set", "task.length=40")


def test_a_cell_in_a_file_runs(gradsim_cli):
    Path("file_cell.py").write_text(OWN_CELL)
    result = gradsim_cli("run", "--cell", "file_cell.py", "--set", "cell.slope=0.5", *SHORT)
    assert result.exit_code == 0, result.output
    assert gradsim.open_run("runs/sunspots-file_cell")["product_norm"].sizes["time"] == 41
    result = gradsim_cli("run", "--cell", "file_cell.py:Mne", *SHORT)
    assert result.exit_code == 2
    assert "did you mean 'Mine'?" in result.output


def test_a_training_of_a_cell_in_a_file_is_resumed(gradsim_cli):
    Path("resumed_cell.py").write_text(OWN_CELL)
    given = ("--cell", "resumed_cell.py", "--set", "cell.hidden_size=4")
    result = gradsim_cli("train", *given, "--set", "updates=3")
    assert result.exit_code == 0, result.output
    result = gradsim_cli("resume", "runs/adding-resumed_cell")
    assert "is complete" in result.output


TORCH = """
from dataclasses import dataclass
from torch import nn
from gradsim import TorchCell

@dataclass(frozen=True, eq=False)
class Mine(TorchCell):
    name = "mine"
    input_size: int = 2
    hidden_size: int = 8

    @property
    def blocks(self):
        return {"h": self.hidden_size}

    def module(self):
        return nn.GRUCell(self.input_size, self.hidden_size)
"""


def test_a_module_of_pytorch_in_a_file_is_checked_trained_and_resumed(gradsim_cli):
    Path("torch_cell.py").write_text(TORCH)
    result = gradsim_cli("check", "torch_cell.py")
    assert result.exit_code == 0, result.output
    given = ("--cell", "torch_cell.py", "--set", "cell.hidden_size=4", "--set", "task.length=20")
    result = gradsim_cli("train", *given, "--set", "updates=3")
    assert result.exit_code == 0, result.output
    result = gradsim_cli("resume", "runs/adding-torch_cell")
    assert "is complete" in result.output


def test_weights_from_elsewhere_run_by_flag_and_file(gradsim_cli, module):
    result = gradsim_cli("run", "--cell", "torch:model.pt", "--set", "record=['state']", *SHORT)
    assert result.exit_code == 0, result.output
    Path("e.toml").write_text(TOML)
    result = gradsim_cli("run", "e.toml")
    assert result.exit_code == 0, result.output
    cell, params = from_torch(module)
    expected = gradsim.simulate(cell, task=Sunspots(length=40), params=params, record=["state"])
    told = said(expected)
    assert told["given"]["params"]["U"].startswith("array of shape (18, 6), dtype float64, sha256 ")
    for run in ("runs/sunspots-torch", "runs/e"):
        found = gradsim.open_run(run)
        assert found.sizes == expected.sizes
        assert [said(found)[key] for key in ("cell", "given")] == [told["cell"], told["given"]]


LAYOUT = """
from dataclasses import dataclass
from gradsim import Layout, Model
from gradsim_cells import Elman

@dataclass(frozen=True, eq=False)
class Mine(Layout):
    name = "mine"

    def model(self, arrays):
        a, r = arrays["a"], arrays["r"]
        return Model(Elman(a.shape[1], len(r)), {"W": a, "U": r, "b": 0 * r[0]})
"""


def test_a_layout_in_a_file_reads_weights(gradsim_cli):
    Path("file_layout.py").write_text(LAYOUT)
    np.savez("model.npz", a=np.ones((3, 1)), r=np.eye(3))
    Path("e.toml").write_text(
        TOML.replace('"torch", path = "model.pt"', '"file_layout.py", path = "model.npz"')
    )
    result = gradsim_cli("run", "e.toml")
    assert result.exit_code == 0, result.output
    assert gradsim.open_run("runs/e").sizes["component"] == 3


def said(ds):
    return json.loads(ds.attrs["provenance"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--cell", "torch:nowhere.pt"), "cell.path: there is no file nowhere.pt"),
        (
            ("--cell", "torch:model.pt", "--set", "cell.prefix=rnn."),
            "no weight begins with 'rnn.'",
        ),
        (("--cell", "torch:model.pt", "--set", "cell.nonlinearity=x"), "cell.nonlinearity: should be 'tanh'"),
        (("--cell", "keras_gru:model.pt"), "cell.path: unknown weight of keras_gru 'recurrent_kernel'"),
        (
            ("--cell", "torch:model.pt", "--task", "copy_memory"),
            "cell.path: the model takes inputs of size 1, and the task copy_memory has 10; take another task",
        ),
    ],
)
def test_what_does_not_fit_is_told_by_its_key(gradsim_cli, module, arguments, message):
    result = gradsim_cli("run", *arguments)
    assert result.exit_code == 2
    assert message in result.output

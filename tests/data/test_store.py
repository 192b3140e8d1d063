"""The run folder: exact round trip, never half a run, nothing lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import xarray as xr

import gradsim
from gradsim import Pairs
from gradsim.contracts import registry
from gradsim.data import store
from gradsim.errors import BudgetError, IncompleteRunError, NonFiniteError, StoreError
from gradsim_cells import GRU, LRU, Elman
from gradsim_mitigations import ClipNorm, Truncate

RECORD = [
    "state",
    "loss",
    "step_jacobian",
    "jacobian_product",
    "product_norm",
    "product_spectrum",
    "lyapunov",
    "loss_adjoint_norm",
    "adjoint",
    "contribution",
    "contribution_norm",
    "gradient",
    "effective_product_norm",
    "effective_adjoint_factor",
]
PAIRS = {
    "all": Pairs(),
    "band": Pairs(max_lag=20),
    "chosen": Pairs(times=(-1, 50), sources=(0, 7, 30)),
}


@pytest.mark.parametrize("name", registry.recorders())
def test_each_recorder_alone_on_disk_is_the_same_as_in_memory(name, tmp_path):
    mitigations = [Truncate(3, 4), *([] if name.endswith("_by_lag") else [ClipNorm(0.1)])]
    setting = {"record": [name], "mitigations": mitigations, "dtype": "float32"}
    x = np.random.default_rng(0).standard_normal((9, 2, 2))
    in_memory = gradsim.simulate(GRU(2, 3), x, **setting)
    stored = gradsim.simulate(GRU(2, 3), x, store=tmp_path / "run", **setting)
    xr.testing.assert_identical(stored.load(), in_memory)
    xr.testing.assert_identical(gradsim.open_run(tmp_path / "run").load(), in_memory)
    assert any(v.startswith(name) for v in in_memory)


@pytest.mark.parametrize("cell", [GRU(2, 3), LRU(2, 3)], ids=lambda c: c.name)
@pytest.mark.parametrize("pairs", PAIRS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_round_trip_is_exact(cell, pairs, dtype, rng, tmp_path):
    setting = {"record": RECORD, "pairs": PAIRS[pairs], "dtype": dtype, "mitigations": [Truncate(5, 9)]}
    x = rng.standard_normal((140, 3, 2))
    in_memory = gradsim.simulate(cell, x, **setting)
    stored = gradsim.simulate(cell, x, store=tmp_path / "run", **setting)
    xr.testing.assert_identical(stored.load(), in_memory)
    xr.testing.assert_identical(gradsim.open_run(tmp_path / "run").load(), in_memory)
    plain = xr.open_zarr(tmp_path / "run" / "data.zarr", chunks=None).load()
    for name in in_memory.data_vars:
        xr.testing.assert_equal(plain[name].variable, in_memory[name].variable)
    assert set(plain.coords) == set(in_memory.coords)
    assert plain.attrs == in_memory.attrs


def test_run_json_says_what_and_how_it_ended(tmp_path):
    gradsim.simulate(Elman(2, 3), np.ones((5, 1, 2)), store=tmp_path / "run")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["status"] == "complete"
    assert record["progress"] == 1
    assert record["configuration"]["cell"]["name"] == "elman"
    assert len(record["configuration_hash"]) == 64
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["data.zarr", "manifest.json", "run.json"]


def test_a_run_that_is_there_is_not_replaced_unasked(tmp_path):
    x = np.ones((5, 1, 2))
    gradsim.simulate(Elman(2, 3), x, store=tmp_path / "run")
    before = (tmp_path / "run" / "run.json").read_text()
    with pytest.raises(StoreError, match="holds a run already; pass force=True"):
        gradsim.simulate(Elman(2, 3), x, store=tmp_path / "run")
    assert (tmp_path / "run" / "run.json").read_text() == before
    gradsim.simulate(Elman(2, 4), x, store=tmp_path / "run", force=True)
    assert (
        json.loads((tmp_path / "run" / "run.json").read_text())["configuration"]["cell"]["hidden_size"] == 4
    )


def test_force_does_not_delete_what_is_no_run(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(StoreError, match="not a run folder"):
        gradsim.simulate(Elman(2, 3), np.ones((5, 1, 2)), store=tmp_path, force=True)
    assert (tmp_path / "thesis.tex").read_text() == "precious"


def test_force_keeps_what_is_not_of_the_run(tmp_path):
    gradsim.simulate(Elman(2, 3), np.ones((5, 1, 2)), store=tmp_path / "run")
    (tmp_path / "run" / "notes.txt").write_text("precious")
    ds = gradsim.simulate(Elman(2, 3), np.ones((7, 1, 2)), store=tmp_path / "run", force=True)
    assert ds.sizes["time"] == 8
    assert (tmp_path / "run" / "notes.txt").read_text() == "precious"


def test_bad_input_with_force_leaves_the_old_run(tmp_path):
    gradsim.simulate(Elman(2, 3), np.ones((5, 1, 2)), store=tmp_path / "run")
    with pytest.raises(NonFiniteError):
        gradsim.simulate(Elman(2, 3), np.full((5, 1, 2), np.nan), store=tmp_path / "run", force=True)
    with pytest.raises(BudgetError):
        gradsim.simulate(Elman(2, 3), np.ones((5, 1, 2)), store=tmp_path / "run", force=True, memory=1)
    assert gradsim.open_run(tmp_path / "run").sizes["time"] == 6


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot write the run folder .* is a file"):
        gradsim.simulate(Elman(2, 3), np.ones((5, 1, 2)), store=tmp_path / "file" / "run")


def test_a_folder_without_permission_is_named(tmp_path, monkeypatch):
    def denied(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(store.Path, "mkdir", denied)
    with pytest.raises(StoreError, match="Permission denied; choose another"):
        gradsim.simulate(Elman(2, 3), np.ones((5, 1, 2)), store=tmp_path / "run")


def test_too_little_disk_is_refused_with_the_fix(tmp_path, monkeypatch):
    monkeypatch.setattr("gradsim.run.launch.free_disk", lambda path: 1e4)
    with pytest.raises(BudgetError, match=r"10 kB of disk is free: jacobian_product alone .*max_lag"):
        gradsim.simulate(
            Elman(2, 8), np.ones((50, 1, 2)), record=["jacobian_product"], store=tmp_path / "run"
        )
    assert not (tmp_path / "run").exists()


def test_a_run_that_fails_says_so(tmp_path):
    params = {"U": [[10.0]], "W": [[1.0]], "b": [0.0]}
    with pytest.raises(NonFiniteError):
        gradsim.simulate(
            Elman(1, 1, activation="relu"), np.ones((400, 1, 1)), params=params, store=tmp_path / "run"
        )
    record = store.read_record(tmp_path / "run")
    assert record["status"] == "failed"
    assert "the state is inf for the first time at time 310" in record["error"]
    with pytest.raises(IncompleteRunError, match="its status is 'failed'"):
        gradsim.open_run(tmp_path / "run")


SLOW = """
import sys, numpy as np, gradsim
from gradsim_cells import LSTM
x = np.random.default_rng(0).standard_normal((600, 8, 1))
print("start", flush=True)
gradsim.simulate(LSTM(1, 48), x, record=["product_norm"], store=sys.argv[1])
"""


@pytest.mark.parametrize(("kind", "status"), [(signal.SIGINT, "interrupted"), (signal.SIGKILL, "running")])
def test_an_interrupted_run_does_not_open_as_complete(tmp_path, kind, status):
    folder = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 60
    while len(list(folder.glob("data.partial.zarr/product_norm_log10/c/*/*/*"))) < 2:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, kind)
    assert process.wait(timeout=60) != 0
    process.stdout.close(), process.stderr.close()
    with pytest.raises(IncompleteRunError, match=f"its status is '{status}'"):
        gradsim.open_run(folder)
    assert not (folder / "data.zarr").exists()
    partial = gradsim.open_run(folder, allow_incomplete=True)
    written = np.isfinite(partial.product_norm_log10.values)
    assert 0 < written.sum() < written.size / 2
    gradsim.simulate(Elman(1, 2), np.ones((3, 1, 1)), store=folder, force=True)
    assert gradsim.open_run(folder).sizes["time"] == 4


def test_what_is_no_run_is_named(tmp_path):
    with pytest.raises(StoreError, match=r"has no run\.json"):
        gradsim.open_run(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(StoreError, match=r"cannot read .*run\.json"):
        gradsim.open_run(tmp_path)


def test_a_run_of_a_newer_format_is_refused(tmp_path):
    gradsim.simulate(Elman(2, 3), np.ones((5, 1, 2)), store=tmp_path / "run")
    file = tmp_path / "run" / "run.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format": 99}))
    with pytest.raises(StoreError, match="format 99 by a newer gradsim"):
        gradsim.open_run(tmp_path / "run")


def without(record, key):
    return {name: value for name, value in record.items() if name != key}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (lambda record: 3, "its format is None"),
        (lambda record: without(record, "status"), "its status is None"),
        (lambda record: {**record, "progress": "half"}, "its progress is 'half'"),
        (lambda record: {**record, "configuration": [1]}, r"its configuration is \[1\]"),
    ],
)
def test_a_record_that_is_not_one_is_refused_by_what_is_wrong_with_it(tmp_path, changed, message):
    gradsim.simulate(Elman(2, 3), np.ones((5, 1, 2)), store=tmp_path / "run")
    file = tmp_path / "run/run.json"
    file.write_text(json.dumps(changed(json.loads(file.read_text()))))
    with pytest.raises(StoreError, match=rf"cannot read .*run\.json: {message}; if it is damaged"):
        gradsim.open_run(tmp_path / "run")


def test_a_chunk_that_is_gone_is_not_taken_for_nan(tmp_path):
    gradsim.simulate(Elman(2, 3), np.ones((5, 1, 2)), store=tmp_path / "run")
    chunk = next(file for file in (tmp_path / "run/data.zarr/product_norm/c").rglob("*") if file.is_file())
    chunk.unlink()
    with pytest.raises(StoreError, match=rf"{chunk.name} is gone, which was written"):
        gradsim.open_run(tmp_path / "run")


@pytest.mark.parametrize("damage", ["torn", "gone"])
def test_data_that_cannot_be_opened_are_named(tmp_path, damage):
    gradsim.simulate(Elman(2, 3), np.ones((5, 1, 2)), store=tmp_path / "run")
    if damage == "torn":
        file = tmp_path / "run/data.zarr/zarr.json"
        file.write_text(file.read_text()[:100])
    else:
        shutil.rmtree(tmp_path / "run/data.zarr")
    with pytest.raises(
        StoreError, match=r"(zarr\.json has 100|is gone).*; if it is damaged, begin again with"
    ):
        gradsim.open_run(tmp_path / "run")


def test_a_folder_may_be_named_like_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ds = gradsim.simulate(Elman(2, 3), np.ones((5, 1, 2)), store="~")
    assert ds.sizes["time"] == 6
    assert (tmp_path / "~/run.json").exists()

"""The command that reads runs again."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import gradsim
from gradsim_cells import Elman


def test_runs_are_whole_or_named(gradsim_cli):
    for name in ("one", "two", "three"):
        gradsim.simulate(Elman(1, 2), np.ones((4, 1, 1)), store=name)
    result = gradsim_cli("verify", "one", "two")
    assert result.exit_code == 0
    assert result.output == "one: whole\ntwo: whole\n"
    gone = next(p for p in Path("two/data.zarr/product_norm/c").rglob("*") if p.is_file())
    gone.unlink()
    Path("three/manifest.json").unlink()
    result = gradsim_cli("verify", "one", "two", "three", "four")
    assert result.exit_code == 1
    assert "one: whole\ntwo: not as it was written\n" in result.output
    assert f"  {gone.absolute()} is gone, which was written" in result.output
    assert "manifest.json" in result.output
    assert "  four is not a run folder: it has no run.json" in result.output

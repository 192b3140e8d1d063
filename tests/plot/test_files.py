from __future__ import annotations

import subprocess
import sys

import matplotlib
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from gradsim import plot
from gradsim.errors import StoreError


def test_writes_png_and_svg(run, tmp_path):
    ax = plot.norm_heat_map(run)
    png, svg = plot.save(ax, tmp_path / "deep" / "gain0.9")
    assert (png.name, svg.name) == ("gain0.9.png", "gain0.9.svg")
    height, width, _ = imread(png).shape
    assert (width, height) == (int(plot.COLUMN * 220), int(2.9 * 220))
    assert "<image" in svg.read_text()


@pytest.mark.parametrize("draw", [plot.norm_heat_map, plot.norm_by_lag, plot.adjoint])
def test_the_same_figure_gives_the_same_bytes(run, tmp_path, draw):
    files = [plot.save(draw(run).figure, tmp_path / str(i)) for i in range(2)]
    for first, second in zip(*files, strict=True):
        assert first.read_bytes() == second.read_bytes()
    assert "dc:date" not in files[0][1].read_text()


def test_a_folder_that_is_a_file(run, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot write the figure"):
        plot.save(plot.adjoint(run), tmp_path / "file" / "figure")


def test_global_settings_stay_and_given_axes_are_used(run, tmp_path):
    before = dict(matplotlib.rcParams)
    figure = Figure()
    axes = figure.subplots(2, 2)
    assert plot.norm_heat_map(run, axes[0, 0]) is axes[0, 0]
    assert plot.norm_by_lag(run, axes[0, 1]) is axes[0, 1]
    assert plot.adjoint(run, axes[1, 0]) is axes[1, 0]
    assert plot.singular_value_fan(run, 0, axes[1, 1]) is axes[1, 1]
    plot.save(figure, tmp_path / "all")
    assert dict(matplotlib.rcParams) == before


def test_pyplot_is_not_needed():
    code = "import sys, gradsim.plot; sys.exit('matplotlib.pyplot' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)

from __future__ import annotations

import pytest
from matplotlib.image import imread

from gradsim import plot
from gradsim.errors import StoreError


def test_writes_png_and_svg(run, tmp_path):
    ax = plot.gain_heat_map(run)
    png, svg = plot.save(ax, tmp_path / "deep" / "gain0.9")
    assert (png.name, svg.name) == ("gain0.9.png", "gain0.9.svg")
    height, width, _ = imread(png).shape
    assert (width, height) == (int(plot.COLUMN * 220), int(2.9 * 220))
    assert "<image" in svg.read_text()


@pytest.mark.parametrize("draw", [plot.gain_heat_map, plot.gain_by_lag, plot.adjoint])
def test_the_same_figure_gives_the_same_bytes(run, tmp_path, draw):
    files = [plot.save(draw(run).figure, tmp_path / str(i)) for i in range(2)]
    for first, second in zip(*files, strict=True):
        assert first.read_bytes() == second.read_bytes()
    assert "dc:date" not in files[0][1].read_text()


def test_a_folder_that_is_a_file(run, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot write the figure"):
        plot.save(plot.adjoint(run), tmp_path / "file" / "figure")

"""The film of the probes of a training."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from matplotlib.animation import FFMpegWriter
from PIL import Image, ImageSequence

from gradsim import plot
from gradsim.errors import InputError, StoreError


def test_the_film_has_a_picture_a_probe(training, tmp_path):
    path = plot.animate_gain_heat_map(training, tmp_path / "deep" / "film.gif", fps=5, dpi=60)
    with Image.open(path) as film:
        frames = [np.asarray(frame.convert("RGB"), dtype=int) for frame in ImageSequence.Iterator(film)]
        assert film.info["duration"] == 200
    assert len(frames) == 4
    bar = [frame[:, frame.shape[1] * 3 // 4 :] for frame in frames]
    assert all(np.abs(b - bar[0]).max() < 60 for b in bar)
    assert all(np.abs(a - b).max() > 60 for a, b in itertools.pairwise(frames))


def test_film_files(training, tmp_path, monkeypatch):
    monkeypatch.setattr(FFMpegWriter, "isAvailable", lambda: False)
    with pytest.raises(InputError, match=r"ffmpeg, which is not installed: use .gif"):
        plot.animate_gain_heat_map(training, tmp_path / "film.mp4")
    with pytest.raises(InputError, match=r"end in .gif or .mp4 \(got 'film.avi'\)"):
        plot.animate_gain_heat_map(training, tmp_path / "film.avi")
    with pytest.raises(InputError, match=r"fps should be greater than or equal to 0.01 \(got 0\)"):
        plot.animate_gain_heat_map(training, tmp_path / "film.gif", fps=0)
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot write the film"):
        plot.animate_gain_heat_map(training, tmp_path / "file" / "film.gif")

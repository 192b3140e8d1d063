from __future__ import annotations

import subprocess
import sys

import matplotlib
import pytest
from matplotlib.figure import Figure

from gradsim import plot
from gradsim.plot.style import typeset


def test_global_settings_stay_and_given_axes_are_used(run, tmp_path):
    before = dict(matplotlib.rcParams)
    figure = Figure()
    axes = figure.subplots(2, 2)
    assert plot.gain_heat_map(run, axes[0, 0]) is axes[0, 0]
    assert plot.gain_by_lag(run, axes[0, 1]) is axes[0, 1]
    assert plot.adjoint(run, axes[1, 0]) is axes[1, 0]
    assert plot.singular_value_fan(run, 0, axes[1, 1]) is axes[1, 1]
    plot.save(figure, tmp_path / "all")
    assert dict(matplotlib.rcParams) == before


def test_pyplot_is_not_needed():
    code = "import sys, gradsim.plot; sys.exit('matplotlib.pyplot' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("norm of dL_t/ds_k", r"Norm of $\partial L_t/\partial s_k$"),
        ("step Jacobian ds_t/ds_{t-1}", r"Step Jacobian $\partial s_t/\partial s_{t-1}$"),
        ("gradient dL/dreadout_W", "Gradient dL/dreadout_W"),
    ],
)
def test_typeset(text, label):
    assert typeset(text) == label

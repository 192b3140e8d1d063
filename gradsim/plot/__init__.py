"""Figures of a recorded dataset: pure functions Dataset -> matplotlib Axes.

Each draws on `ax`, or on a new figure that needs no display: `norm_heat_map(ds).figure`. Nothing
touches pyplot or the global rcParams.
"""

from gradsim.plot.files import save
from gradsim.plot.heat import heat_colorbar, heat_limits, norm_heat_map
from gradsim.plot.lines import adjoint, line_with_band, lyapunov, norm_by_lag, singular_value_fan
from gradsim.plot.style import COLUMN, PAGE, applied, lines, new_figure

__all__ = [
    "COLUMN",
    "PAGE",
    "adjoint",
    "applied",
    "heat_colorbar",
    "heat_limits",
    "line_with_band",
    "lines",
    "lyapunov",
    "new_figure",
    "norm_by_lag",
    "norm_heat_map",
    "save",
    "singular_value_fan",
]

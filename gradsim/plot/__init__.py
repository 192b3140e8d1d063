"""Figures of a recorded dataset: pure functions Dataset -> matplotlib Axes.

Each draws on `ax`, or on a new figure that needs no display: `norm_heat_map(ds).figure`; those of
several panels make a figure. Nothing touches pyplot or the global rcParams.
"""

from gradsim.plot.files import save
from gradsim.plot.film import animate_norm_heat_map
from gradsim.plot.gradients import gradient_norm_by_param, gradient_norm_curve
from gradsim.plot.heat import heat_colorbar, heat_limits, norm_heat_map
from gradsim.plot.lines import adjoint, line_with_band, lyapunov, norm_by_lag, singular_value_fan
from gradsim.plot.overview import adjoint_over_updates, training_overview
from gradsim.plot.probes import lyapunov_over_updates, norm_by_lag_over_updates, norm_heat_maps
from gradsim.plot.style import COLUMN, PAGE, applied, lines, new_figure
from gradsim.plot.training import loss_curve, score_curve, spectral_radius_curve

__all__ = [
    "COLUMN",
    "PAGE",
    "adjoint",
    "adjoint_over_updates",
    "animate_norm_heat_map",
    "applied",
    "gradient_norm_by_param",
    "gradient_norm_curve",
    "heat_colorbar",
    "heat_limits",
    "line_with_band",
    "lines",
    "loss_curve",
    "lyapunov",
    "lyapunov_over_updates",
    "new_figure",
    "norm_by_lag",
    "norm_by_lag_over_updates",
    "norm_heat_map",
    "norm_heat_maps",
    "save",
    "score_curve",
    "singular_value_fan",
    "spectral_radius_curve",
    "training_overview",
]

"""Figures of a recorded dataset: pure functions Dataset -> matplotlib Axes.

Each draws on `ax`, or on a new figure that needs no display: `gain_heat_map(ds).figure`; those of
several panels make a figure. Nothing touches pyplot or the global rcParams.
"""

from gradsim.contracts.validation import checking
from gradsim.plot.effects import bias_against_cost, gain_by_lag_of_mitigations
from gradsim.plot.files import save
from gradsim.plot.film import animate_gain_heat_map
from gradsim.plot.gradients import gradient_norm_by_param, gradient_norm_curve
from gradsim.plot.heat import gain_heat_map, heat_colorbar, heat_limits
from gradsim.plot.lines import adjoint, gain_by_lag, line_with_band, lyapunov, singular_value_fan
from gradsim.plot.overview import adjoint_over_updates, training_overview
from gradsim.plot.probes import gain_by_lag_over_updates, gain_heat_maps, lyapunov_over_updates
from gradsim.plot.style import COLUMN, PAGE, applied, lines, new_figure
from gradsim.plot.training import loss_curve, score_curve, spectral_radius_curve

__all__ = [
    "COLUMN",
    "PAGE",
    "adjoint",
    "adjoint_over_updates",
    "animate_gain_heat_map",
    "applied",
    "bias_against_cost",
    "gain_by_lag",
    "gain_by_lag_of_mitigations",
    "gain_by_lag_over_updates",
    "gain_heat_map",
    "gain_heat_maps",
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
    "save",
    "score_curve",
    "singular_value_fan",
    "spectral_radius_curve",
    "training_overview",
]

for _name in __all__:
    if callable(globals()[_name]):
        globals()[_name] = checking(globals()[_name])

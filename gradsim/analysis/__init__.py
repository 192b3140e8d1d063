"""What a recorded dataset says: pure functions Dataset -> Dataset or DataArray.

They read saved and in-memory datasets alike, with every layout of pairs (t, k), and work on the
log10 twin of a variable, so that 1e-400 and 1e+400 are ordinary values.
"""

from gradsim.analysis.agreement import compare_adjoints, compare_gradients
from gradsim.analysis.effects import effects
from gradsim.analysis.exponents import entropy, kaplan_yorke
from gradsim.analysis.gain import gain
from gradsim.analysis.lags import by_lag, gain_by_lag
from gradsim.analysis.rates import decay_rate, horizon
from gradsim.analysis.training import over_probes, probe, smoothed, updates_until
from gradsim.contracts.validation import checking

__all__ = [
    "by_lag",
    "compare_adjoints",
    "compare_gradients",
    "decay_rate",
    "effects",
    "entropy",
    "gain",
    "gain_by_lag",
    "horizon",
    "kaplan_yorke",
    "over_probes",
    "probe",
    "smoothed",
    "updates_until",
]

for _name in __all__:
    if callable(globals()[_name]):
        globals()[_name] = checking(globals()[_name])

"""What runs came to, by kind of run, in one table on the terminal."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gradsim.cli.output import console, count, table
from gradsim.errors import InputError
from gradsim.machine.disk import human

if TYPE_CHECKING:
    from xarray import Dataset

LAGS = (1, 10, 100)
_MISSING = "-"

_LAST = 25
"""The median of the last 1/25 of all updates stands for the end of a noisy setup."""

_VALIDATED = ("validation_loss", "validation_score")
_KNOWN = ("ended", "trained_update", "loss", "metric", "baseline", "baseline_loss", "baseline_score")


def summarise(kind: str, data: Mapping[str, Dataset], folders: Mapping[str, Path]) -> None:
    """Print one row for each run, and where its files are."""
    out = console()
    for made, note in _TABLES[kind](data):
        out.print(made)
        out.print(note)
    for label, ds in data.items():
        ended = f"ended {ds.attrs['ended']}; " if "ended" in ds.attrs else ""
        out.print(f"{label}: {ended}saved in {folders[label]}", soft_wrap=True)
    for label in [*data][:1]:
        out.print(f'To read it: xarray.open_zarr("{folders[label] / "data.zarr"}")', soft_wrap=True)


# Simulations.


def _simulated(data: Mapping[str, Dataset]) -> Iterator[tuple[Any, str]]:
    """One row for each run, and below it one for what its mitigations make of it, where that was recorded."""
    numbers = (*(f"lag {lag}" for lag in LAGS), "rate per step", "horizon", "loss")
    made = table(_title(data), "run", *numbers, numbers=numbers)
    for label, ds in data.items():
        made.add_row(label, *_gains(ds), _rate(ds), _horizon(ds), f"{ds.attrs['loss']:.4g}")
        if "effective_product_norm" in ds:
            gain = "effective_gain"
            made.add_row(f"{label}, effective", *_gains(ds, gain), _rate(ds, gain), _horizon(ds, gain), "")
    note = "rate: slope of ln gain; horizon: from this lag on the gain is below 0.01; it is 1 at lag 0"
    yield made, "\n".join([note, *_acting(data)])
    if any("overall_gradient_bias" in ds for ds in data.values()):
        yield _mitigated(data)


def _title(data: Mapping[str, Dataset]) -> str:
    """What a table of gains is of."""
    from gradsim.analysis.choose import GAINS, describe_size, gain_label, has

    found = {describe_size(ds, "gain") for ds in data.values() if has(ds, GAINS["gain"][0])}
    return f"Median {found.pop() if len(found) == 1 else gain_label('gain')} at lag t - k"


def _acting(data: Mapping[str, Dataset]) -> Iterator[str]:
    """Where mitigations act in runs of which there is no table of gradients."""
    for label, ds in data.items():
        acts, trained = ds.attrs.get("mitigations", "none"), "train_loss" in ds
        if acts != "none" and (trained or "overall_gradient_bias" not in ds):
            idle = "update: " in acts and not trained
            yield f"{label}, acts: {acts}" + " (a simulation has no update)" * idle


_FACTORS = {"adjoint factor": "effective_adjoint_factor", "gradient factor": "effective_gradient_factor"}


def _mitigated(data: Mapping[str, Dataset]) -> tuple[Any, str]:
    """What mitigations do to the gradient, one row for each run that has some."""
    numbers = ("bias", "cosine", "norm", "effective norm", *_FACTORS)
    made = table(
        "Gradient with its mitigations, beside the exact one", "run", *numbers, "acts", numbers=numbers
    )
    for label, ds in data.items():
        if "overall_gradient_bias" not in ds:
            continue
        sizes = [_whole(ds, f"{flow}gradient_norm") for flow in ("", "effective_")]
        factors = [_median(ds, name) for name in _FACTORS.values()]
        bias, cosine = (_median(ds, f"overall_gradient_{n}") for n in ("bias", "cosine"))
        made.add_row(label, bias, cosine, *sizes, *factors, ds.attrs["mitigations"])
    note = "bias: norm of effective minus exact gradient, over that of the exact one; factors: medians, or -"
    return made, note


def _whole(ds: Dataset, variable: str) -> str:
    """The norm of all parameters together."""
    return f"{float(np.linalg.norm(ds[variable])):.3g}" if variable in ds else _MISSING


def _median(ds: Dataset, variable: str) -> str:
    return _short(float(ds[variable].median())) if variable in ds else _MISSING


def _short(value: float) -> str:
    return _MISSING if math.isnan(value) else f"{value:.3g}"


def _gains(ds: Dataset, gain: str = "gain") -> list[str]:
    from gradsim.analysis import gain_by_lag

    try:
        median = gain_by_lag(ds, gain, apart=())["median"]
    except InputError:
        return [_MISSING] * len(LAGS)
    there = set(median["lag"].values.tolist())
    return [power_of_ten(float(median.sel(lag=lag))) if lag in there else _MISSING for lag in LAGS]


def _rate(ds: Dataset, gain: str = "gain") -> str:
    from gradsim.analysis import decay_rate

    try:
        found = decay_rate(ds, gain)
    except InputError:
        return _MISSING
    error = float(found["standard_error"])
    return f"{float(found['rate']):.3g}" + ("" if math.isnan(error) else f" ± {error:.1g}")


def _horizon(ds: Dataset, gain: str = "gain") -> str:
    from gradsim.analysis import horizon

    try:
        found = horizon(ds, variable=gain, apart=())
    except InputError:
        return _MISSING
    steps = float(found["horizon"])
    return f"> {int(found['longest_lag'])}" if math.isnan(steps) else f"{steps:.0f}"


def power_of_ten(exponent: float) -> str:
    """10^exponent, for exponents beyond the range of a float too."""
    if abs(exponent) < 300:
        return f"{10**exponent:.2g}"
    return "0" if exponent == -math.inf else f"1e{exponent:+.0f}"


# Trainings.


def result(ds: Dataset) -> dict[str, Any]:
    """What a training came to, as plain values: validations are those of the trained parameters."""
    at = {"validation_update": ds.attrs["trained_update"]}
    return {
        "update": ds.sizes.get("update", ds.attrs["trained_update"]),
        **{key: ds.attrs[key] for key in _KNOWN if key in ds.attrs},
        **{name: float(ds[name].sel(at)) for name in _VALIDATED if name in ds},
        **({"horizon": _last_horizon(ds)} if "train_horizon" in ds else {}),
    }


def _last_horizon(ds: Dataset) -> float:
    """How far back the adjoint reaches in the end; infinite if that is beyond the sequence."""
    last = ds["train_horizon"].values[-math.ceil(ds.sizes["update"] / _LAST) :]
    return float(np.median(np.where(np.isnan(last), np.inf, last)))


def _trained(data: Mapping[str, Dataset]) -> Iterator[tuple[Any, str]]:
    """One row for each training, next to trivial answers."""
    results = {label: result(ds) for label, ds in data.items()}
    metrics = dict.fromkeys(found["metric"] for found in results.values() if "metric" in found)
    numbers = ("updates", "horizon", "loss", "validation loss", *([" / ".join(metrics)] if metrics else []))
    made = table("Trained", "", *numbers, numbers=numbers)
    for label, found in results.items():
        made.add_row(label, *_row(found, "update", "horizon", "loss", *_VALIDATED)[: len(numbers)])
    for row in dict.fromkeys(_baseline(found) for found in results.values() if "baseline" in found):
        made.add_row(*row[: 1 + len(numbers)])
    note = "horizon: from this lag on the norm of dL/ds_t is below 1 % of that at lag 0, in the end"
    yield made, "\n".join([note, *_acting(data)])


def _baseline(found: Mapping[str, Any]) -> tuple[str, ...]:
    name = f"baseline: {found['baseline']}"
    return name, "", "", "", *_row(found, "baseline_loss", "baseline_score")


def _row(found: Mapping[str, Any], *keys: str) -> list[str]:
    return [_number(found[key]) if key in found else "" for key in keys]


def _number(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "beyond the sequence"


# Comparisons.


def _compared(data: Mapping[str, Dataset]) -> Iterator[tuple[Any, str]]:
    """One row for each cell, all seeds together, with what it has of what was held equal."""
    sizes = {"hidden_size": "units", "state_size": "state", "param_count": "parameters"}
    numbers = (*(f"lag {lag}" for lag in LAGS), "horizon", *sizes.values())
    made = table(_title(data), "cell", *numbers, numbers=numbers)
    for run, ds in data.items():
        for label in ds["cell"].values:
            one = ds.sel(cell=label)
            if "mitigation" in ds.dims:
                one = one.sel(mitigation="none")
            name = f"{label}" if len(data) == 1 else f"{run}: {label}"
            made.add_row(name, *_gains(one), _horizon(one), *(f"{int(one[n])}" for n in sizes))
    yield made, "horizon: from this lag on the gain is below 0.01; it is 1 at lag 0"
    for ds in data.values():
        if "mitigation" in ds.dims:
            yield from _effects(ds)


_EFFECTS = {
    "bias": _short,
    "cosine": _short,
    "variance": _short,
    "mean_bias": _short,
    "adjoint_factor": _short,
    "gradient_factor": _short,
    "energy_removed": _short,
    "effective_horizon": lambda steps: "beyond" if math.isinf(steps) else _short(steps),
}
_COSTS = {
    "backward_flops": lambda n: _MISSING if math.isnan(n) else count(n),
    "memory_bytes": lambda n: human(n),
    "forward_seconds": _short,
    "backward_seconds": _short,
    "state_size": lambda n: f"{n:.0f}",
}
"""What is shown of the effects of mitigations, and how: as much as a terminal holds."""

_LABEL = 20
"""Labels of more characters have a line for each of the mitigations that act together."""


def _effects(ds: Dataset) -> Iterator[tuple[Any, str]]:
    """What mitigations do to the gradient, and what it costs with them."""
    from gradsim.analysis import effects

    found = effects(ds)
    note = "bias, cosine: of the whole gradient against the exact one; horizon: effective; -: there is none"
    if absent := _absent(ds):
        note += f", as of the effective products of {absent}"
    yield _choices("What mitigations do to the gradient", found, _EFFECTS), note
    note = "seconds: measured, the median over seeds; the others are planned. All of it is in effects.csv"
    yield _choices("What a gradient costs with them", found, _COSTS), note


def _choices(title: str, found: Dataset, how: Mapping[str, Callable[[float], str]]) -> Any:
    """One row for each cell and choice of mitigations."""
    names = {name: name.removeprefix("effective_").replace("_", " ") for name in how if name in found}
    made = table(title, "cell", "mitigations", *names.values(), numbers=tuple(names.values()))
    made.padding = (0, 1, 0, 0)
    made.columns[1].no_wrap = True
    for cell in found["cell"].values:
        for chosen in found["mitigation"].values:
            one = found.sel(cell=cell, mitigation=chosen)
            label = str(chosen) if len(chosen) <= _LABEL else str(chosen).replace("+", "+\n")
            made.add_row(str(cell), label, *(how[name](float(one[name])) for name in names))
    return made


def _absent(ds: Dataset) -> str:
    """Which mitigations there are no effective products of."""
    if "effective_product_norm" not in ds:
        return ""
    norms = ds["effective_product_norm"]
    there = norms.notnull().any([d for d in norms.dims if d != "mitigation"])
    names = [str(m) for m in ds["mitigation"].values[~there.values]]
    return ", ".join(names)


_TABLES = {"simulation": _simulated, "comparison": _compared, "training": _trained}

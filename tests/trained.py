"""A training done by hand: gradient descent with clipping, laid out as `gradsim.train` lays it out."""

from __future__ import annotations

import numpy as np
import xarray as xr

import gradsim
from gradsim_cells.elman import Elman
from gradsim_tasks.adding import Adding

PROBED = ("product_norm", "adjoint_norm", "lyapunov")
MAX_NORM, RATE, STEPS = 0.5, 0.3, 20
LONG_NAMES = {
    "train_loss": "loss of the batch",
    "train_gradient_norm": "norm of the gradient, before the mitigations of the gradient",
}
TRAIN_LAGS = np.array([0, 1, 2, 5, 10, 20])


def training(updates=24, every=8):
    """A training on the adding task, with validation and probes every few updates."""
    cell, task = Elman(input_size=2, hidden_size=5, recurrent_scale=0.9), Adding(length=STEPS)
    setting = {"task": task, "batch": 4}
    params, rows = None, []
    for update in range(updates + 1):
        seen = gradsim.simulate(
            cell, **setting, params=params, rng=update, record=["gradient", "adjoint_norm"]
        )
        params = params or _params(cell, seen)
        rows.append((params, seen, _probe(cell, params, setting) if update % every == 0 else None))
        gradient = {n: seen[f"gradient_{n}"].values for n in params}
        size = norm(gradient.values())
        params = {n: p - RATE * min(1, MAX_NORM / size) * gradient[n] for n, p in params.items()}
    return _laid_out(rows, every)


def _probe(cell, params, setting):
    return gradsim.simulate(cell, **setting, params=params, rng=99, record=PROBED)


def norm(arrays):
    return np.sqrt(sum(np.sum(np.square(a)) for a in arrays))


def _params(cell, seen):
    readout = {n: np.zeros(seen[f"gradient_{n}"].shape) for n in ("readout_W", "readout_b")}
    return cell.init_params(np.random.default_rng(1)) | readout


def _laid_out(rows, every):
    updates, seldom = np.arange(1, len(rows)), np.arange(0, len(rows), every)
    each = [_update(params, seen) for params, seen, _ in rows[:-1]]
    values = {n: xr.concat([e[n] for e in each], "update") for n in each[0]}
    probes = xr.concat([rows[i][2] for i in seldom], "probe_update", combine_attrs="drop_conflicts")
    loss = [rows[i][2].attrs["loss"] for i in seldom]
    radius = [radius_of(rows[u][0]["U"]) if u % 5 == 0 else np.nan for u in updates]
    return xr.Dataset(
        {
            **values,
            "spectral_radius": (("update", "weight_block"), np.array(radius)[:, None]),
            "validation_loss": ("validation_update", loss, {"long_name": "validation loss"}),
            "validation_score": ("validation_update", np.linspace(0.1, 0.9, len(seldom))),
            **probes,
        },
        {
            "update": updates,
            "validation_update": seldom,
            "probe_update": seldom,
            "train_lag": TRAIN_LAGS,
            "weight_block": ["U"],
            "param": list(rows[0][0]),
        },
        probes.attrs
        | {
            "cell": "elman",
            "task": "adding",
            "optimizer": "sgd",
            "mitigations": "clip_norm",
            "metric": "solved within 0.04",
            "baseline": "mean",
            "baseline_loss": 1 / 24,
            "baseline_score": 0.12,
        },
    )


def _update(params, seen):
    by_param = np.array([norm([seen[f"gradient_{n}"].values]) for n in params])
    size = float(norm([by_param]))
    adjoint = seen["adjoint_norm"].mean("batch").values[::-1][TRAIN_LAGS]
    below = np.flatnonzero(adjoint >= 0.01 * adjoint[0])[-1] + 1
    factor = min(1.0, MAX_NORM / size)
    values = {
        "train_loss": seen.attrs["loss"],
        "train_gradient_norm": size,
        "train_gradient_factor": factor,
        "learning_rate": RATE,
        "train_horizon": TRAIN_LAGS[below] if below < len(TRAIN_LAGS) else np.nan,
    }
    return {
        **{n: xr.DataArray(float(v), attrs={"long_name": LONG_NAMES.get(n, n)}) for n, v in values.items()},
        "train_gradient_norm_by_param": xr.DataArray(factor * by_param, dims="param"),
        "train_adjoint_norm_log10": xr.DataArray(np.log10(adjoint), dims="train_lag"),
    }


def radius_of(weights):
    return np.abs(np.linalg.eigvals(weights)).max()


def until(ds, update):
    """The training as it stands after an update: NaN where it has not been."""
    for dim in ("update", "validation_update", "probe_update"):
        reached = ds[dim] <= update
        ds = ds.assign({n: v.where(reached) for n, v in ds.data_vars.items() if dim in v.dims})
    return ds

"""What is noted of every update, next to closed forms and simulations of the same batches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from byhand import gradient_by_hand, loss_by_hand, start, trained
from small import Given, Labelled, Recall

import gradsim
from gradsim.training.verb import train
from gradsim_cells import GRU, LSTM, Elman, Linear
from gradsim_mitigations import ClipNorm, Truncate, WeightDecay
from gradsim_optimizers import SGD
from gradsim_schedules import StepDecay


def test_norms_of_the_gradient_by_hand():
    task, cell = Labelled(), Elman(2, 3)
    params = start(cell, task)
    optimizer = SGD(0.5, schedule=StepDecay(every=2, gamma=0.1))
    ds = train(
        cell, task, optimizer=optimizer, updates=4, batch=3, params=params, mitigations=[ClipNorm(0.3)]
    )
    for i, seen in enumerate(task.last(4)):
        gradient = gradient_by_hand(params, cell, seen)
        by_param = np.array([np.linalg.norm(gradient[str(n)]) for n in ds.param.values])
        size = np.linalg.norm(by_param)
        factor, rate = min(1, 0.3 / size), 0.5 if i < 2 else 0.05
        np.testing.assert_allclose(ds.train_gradient_norm[i], size, rtol=1e-10)
        np.testing.assert_allclose(ds.train_gradient_factor[i], factor, rtol=1e-10)
        np.testing.assert_allclose(ds.train_gradient_norm_by_param[i], factor * by_param, rtol=1e-10)
        np.testing.assert_allclose(ds.learning_rate[i], rate, rtol=1e-14)
        params = {n: p - rate * factor * gradient[n] for n, p in params.items()}
    assert (ds.train_gradient_factor < 1).any()


def test_the_penalty_is_that_of_the_parameters_before_and_no_part_of_the_loss():
    cell, l2, l1 = Elman(2, 3), 0.1, 0.03
    setting = {"optimizer": SGD(0.5), "batch": 3, "params": start(cell, Labelled())}
    setting["mitigations"] = [WeightDecay(l2=l2, l1=l1)]
    task = Labelled()
    ds = train(cell, task, updates=3, **setting)
    for i, params in enumerate(before_each(cell, Labelled, 3, **setting)):
        weights = [params[n] for n in ("U", "W", "readout_W")]
        expected = sum(l2 / 2 * (w**2).sum() + l1 * np.abs(w).sum() for w in weights)
        np.testing.assert_allclose(ds.train_penalty[i], expected, rtol=1e-12)
        np.testing.assert_allclose(ds.train_loss[i], loss_by_hand(params, cell, task.last(3)[i]), rtol=1e-12)
    assert (ds.attrs["penalty"], ds.attrs["loss"]) == (ds.train_penalty[-1], ds.train_loss[-1])


def before_each(cell, make_task, updates, **setting):
    """(task, parameters before) of some updates."""
    yield start(cell, make_task())
    for update in range(1, updates):
        yield trained(train(cell, make_task(), updates=update, **setting))


@pytest.mark.parametrize("mitigations", [[], [Truncate(2, 3)]], ids=["raw", "truncate"])
def test_norms_of_the_adjoint_are_those_of_a_simulation(mitigations):
    cell, task = GRU(2, 3), Recall(length=20)
    setting = {"optimizer": SGD(0.5), "batch": 3, "params": start(cell, task), "mitigations": mitigations}
    ds = train(cell, task, updates=3, **setting)
    befores = before_each(cell, lambda: Recall(length=20), 3, **setting)
    for i, (seen, params) in enumerate(zip(task.last(3), befores, strict=True)):
        run = gradsim.simulate(
            cell,
            task=Given(task, seen),
            batch=3,
            params=params,
            mitigations=mitigations,
            record=["effective_adjoint_norm"],
        )
        at_lags = run.effective_adjoint_norm.isel(time=20 - ds.train_lag)
        size = np.sqrt((at_lags**2).mean("batch"))
        with np.errstate(divide="ignore"):
            expected = np.log10(size)
        np.testing.assert_allclose(ds.train_adjoint_norm_log10[i], expected, atol=1e-12)


def test_lags_are_counted_from_the_last_loss_of_each_sequence():
    """The sequences of this task have 2 to 5 steps, padded to 5."""
    cell, task = GRU(2, 3), Labelled()
    params = start(cell, task)
    ds = train(cell, task, optimizer=SGD(0.1), updates=1, batch=7, params=params)
    (seen,) = task.last(1)
    run = gradsim.simulate(cell, task=Given(task, seen), batch=7, params=params, record=["adjoint_norm"])
    ends = (seen.weights > 0).sum(axis=0)
    assert sorted(ends) == [2, 2, 3, 3, 4, 4, 5]
    for lag, found in zip(ds.train_lag.values, ds.train_adjoint_norm_log10.values[0], strict=True):
        reached = [b for b in range(7) if ends[b] >= lag]
        sizes = [float(run.adjoint_norm[ends[b] - lag, b]) ** 2 for b in reached]
        expected = np.log10(np.mean(sizes)) / 2 if sizes else np.nan
        np.testing.assert_allclose(found, expected, atol=1e-12)


class Silent(Labelled):
    """Asks nothing of the first sequence."""

    name = "silent"

    def take(self, part, chosen):
        episode = super().take(part, chosen)
        return replace(episode, weights=episode.weights * (np.asarray(chosen) != 0))


def test_a_sequence_without_a_loss_counts_from_its_end():
    cell, task = GRU(2, 3), Silent()
    params = start(cell, task)
    ds = train(cell, task, optimizer=SGD(0.1), updates=1, batch=7, params=params)
    seen = task.take("train", task.chosen[-1])
    run = gradsim.simulate(cell, task=Given(task, seen), batch=7, params=params, record=["adjoint_norm"])
    weights = seen.weights > 0
    ends = np.where(weights.any(axis=0), weights.sum(axis=0), 5)
    assert sorted(ends) == [2, 3, 3, 4, 4, 5, 5]
    for lag, found in zip(ds.train_lag.values, ds.train_adjoint_norm_log10.values[0], strict=True):
        sizes = [float(run.adjoint_norm[ends[b] - lag, b]) ** 2 for b in range(7) if ends[b] >= lag]
        with np.errstate(divide="ignore"):
            expected = np.log10(np.mean(sizes)) / 2
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_the_horizon_of_a_linear_cell_is_known():
    """With U = w I the adjoint at lag l is w^l times that at the end: 1 % is at l = -2 / log10 w."""
    cell, task = Linear(2, 2), Recall(length=30)
    params = {
        "U": 0.7 * np.eye(2), "W": np.eye(2), "readout_W": np.eye(2), "readout_b": np.zeros(2)
    }  # fmt: skip
    ds = train(cell, task, optimizer=SGD(1e-300), updates=2, batch=2, params=params)
    drop = ds.train_adjoint_norm_log10 - ds.train_adjoint_norm_log10[:, 0]
    np.testing.assert_allclose(drop, np.tile(np.log10(0.7) * ds.train_lag, (2, 1)), atol=1e-11)
    np.testing.assert_allclose(ds.train_horizon, -2 / np.log10(0.7), rtol=1e-10)
    still = train(cell, task, optimizer=SGD(1e-300), updates=1, batch=2, params={**params, "U": np.eye(2)})
    assert np.isnan(still.train_horizon).all()  # beyond the record


def test_the_spectral_radius_is_that_of_numpy():
    cell, long = LSTM(2, 3), lambda: Recall(length=50)
    setting = {"optimizer": SGD(0.5), "batch": 64, "params": start(cell, Recall())}
    ds = train(cell, long(), updates=3, **setting)
    assert list(ds.weight_block.values) == ["U[0:3]", "U[3:6]", "U[6:9]", "U[9:12]"]
    for i, params in enumerate(before_each(cell, long, 3, **setting)):
        eigenvalues = np.linalg.eigvals(params["U"].reshape(4, 3, 3))
        np.testing.assert_allclose(ds.spectral_radius[i], np.abs(eigenvalues).max(axis=-1))


def test_the_spectral_radius_of_large_weights_is_computed_now_and_then():
    ds = train(Elman(2, 12), Recall(length=50), optimizer=SGD(0.1), updates=13, batch=64)
    there = np.flatnonzero(np.isfinite(ds.spectral_radius[:, 0]))
    assert there[0] == 0
    assert 1 < len(there) < 13
    assert len(set(np.diff(there))) == 1

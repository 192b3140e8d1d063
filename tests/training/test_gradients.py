"""The gradient of an update: finite differences, autograd, and the simulation of the same batch."""

from __future__ import annotations

import numpy as np
import pytest
from byhand import gradient_by_hand, loss_by_hand, start, trained, unrolled
from helpers import numerical_gradient
from small import Given, Labelled, Noisy, Recall, Stream

import gradsim
from gradsim.run.seeds import Seeds
from gradsim.training.gradients import spread_lags
from gradsim.training.verb import train
from gradsim_cells import GRU, LSTM, Elman, MinGRU
from gradsim_mitigations import (
    ClipNorm,
    ClipValue,
    Gate,
    JacobianPenalty,
    Leak,
    OrthogonalInit,
    Truncate,
    WeightDecay,
)
from gradsim_optimizers import SGD, Adam

CELLS = (Elman, LSTM, GRU, MinGRU)
TASKS = (Stream, Labelled, Recall)
MITIGATIONS = (
    [ClipNorm(0.05)],
    [ClipValue(0.02)],
    [ClipNorm(0.03, where="adjoint")],
    [Truncate(2, 3)],
    [WeightDecay(0.1)],
    [JacobianPenalty(0.5)],
    [Gate()],
    [Leak(0.3)],
    [Leak(0.5), Gate(), Truncate(2, 2), ClipNorm(0.05, where="adjoint"), WeightDecay(0.1), ClipNorm(0.1)],
)


@pytest.mark.parametrize("make_task", TASKS, ids=lambda t: t.name)
@pytest.mark.parametrize("make_cell", CELLS, ids=lambda c: c.name)
def test_an_update_goes_down_the_slope_of_the_loss(make_cell, make_task):
    task = make_task()
    cell = make_cell(task.input_size, 3)
    before = start(cell, task)
    ds = train(cell, task, optimizer=SGD(1.0), updates=1, batch=3, params=before)
    (seen,) = task.last(1)
    for name, after in trained(ds).items():
        slope = numerical_gradient(lambda params: loss_by_hand(params, cell, seen), before, name)
        np.testing.assert_allclose(before[name] - after, slope, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(ds.train_loss[0], loss_by_hand(before, cell, seen), rtol=1e-13)


@pytest.mark.parametrize("make_task", TASKS, ids=lambda t: t.name)
def test_many_updates_are_those_of_a_loop_with_autograd(make_task):
    task = make_task()
    cell = LSTM(task.input_size, 3)
    params = start(cell, task)
    ds = train(cell, task, optimizer=SGD(0.3), updates=6, batch=3, params=params)
    for seen in task.last(6):
        gradient = gradient_by_hand(params, cell, seen)
        params = {n: p - 0.3 * gradient[n] for n, p in params.items()}
    for name, value in trained(ds).items():
        np.testing.assert_allclose(value, params[name], rtol=1e-11, atol=1e-13)


def test_the_same_in_single_precision():
    task, cell = Labelled(), GRU(2, 3)
    before = start(cell, task)
    ds = train(cell, task, optimizer=SGD(1.0), updates=1, batch=3, params=before, dtype="float32")
    slope = gradient_by_hand(before, cell, *task.last(1))
    for name, after in trained(ds).items():
        assert after.dtype == np.float32
        np.testing.assert_allclose(before[name] - after, slope[name], atol=2e-6)


def simulated(cell, params, task, update, mitigations):
    """The simulation of the last batch, with the random numbers of an update."""
    return gradsim.simulate(
        cell,
        task=Given(task, *task.last(1)),
        batch=3,
        params=params,
        mitigations=mitigations,
        record=["effective_gradient"],
        rng=Seeds(0).within("update", update).seed,
    )


@pytest.mark.parametrize("mitigations", MITIGATIONS, ids=repr)
def test_mitigations_act_as_in_a_simulation(mitigations):
    task, cell = Labelled(), Elman(2, 3)
    setting = {"optimizer": SGD(1.0), "batch": 3, "mitigations": mitigations}
    before = train(cell, task, updates=1, **setting)
    ds = train(cell, task, updates=2, **setting)
    run = simulated(cell, trained(before), task, 2, mitigations)
    for name, value in trained(ds).items():
        gradient = run[f"effective_gradient_{name}"].values
        np.testing.assert_allclose(trained(before)[name] - value, gradient, rtol=1e-12, atol=1e-15)
    assert float(ds.train_loss[1]) == run.attrs["loss"]
    plain = train(cell, task, updates=2, optimizer=SGD(1.0), batch=3)
    assert not np.allclose(plain.trained_U, ds.trained_U, rtol=1e-3)


def test_random_numbers_of_a_cell_are_those_of_the_update():
    task, cell = Stream(), Noisy()
    one, two = (train(cell, task, optimizer=SGD(1.0), updates=n, batch=3) for n in (1, 2))
    run = simulated(cell, trained(one), task, 2, [])
    other = simulated(cell, trained(one), task, 3, [])
    moved = trained(one)["U"] - trained(two)["U"]
    np.testing.assert_allclose(moved, run.effective_gradient_U, rtol=1e-12)
    assert not np.allclose(moved, other.effective_gradient_U, rtol=1e-3)


def test_orthogonal_initialisation_is_where_a_training_starts():
    ds = train(
        LSTM(2, 4),
        Labelled(),
        optimizer=SGD(0.1),
        updates=1,
        batch=2,
        mitigations=[OrthogonalInit(scale=1.5)],
    )
    np.testing.assert_allclose(ds.spectral_radius[0], 1.5)  # all eigenvalues lie on one circle


def test_an_optimizer_keeps_what_it_remembers():
    task, cell = Labelled(), Elman(2, 3)
    params = start(cell, task)
    optimizer = Adam(learning_rate=0.1)
    ds = train(cell, task, optimizer=optimizer, updates=4, batch=3, params=params)
    slots = {n: {s: np.zeros(p.size) for s in optimizer.slots} for n, p in params.items()}
    for update, seen in enumerate(task.last(4), 1):
        gradient = gradient_by_hand(params, cell, seen)
        for name, p in params.items():
            change = optimizer.change(p.ravel(), gradient[name].ravel(), slots[name], 0.1, update)
            params = {**params, name: p + change.reshape(p.shape)}
    for name, value in trained(ds).items():
        np.testing.assert_allclose(value, params[name], rtol=1e-9)


def test_stateful_training_is_truncated_backpropagation_through_time():
    """The state goes on from batch to batch, the gradient does not."""
    task, cell = Stream(train=6), LSTM(1, 3)
    params, state, losses = start(cell, task), None, []
    ds = train(cell, task, optimizer=SGD(0.5), epochs=1, batch=2, params=params, stateful=True)
    for seen in task.last(3):
        losses.append(loss_by_hand(params, cell, seen, state))
        gradient = gradient_by_hand(params, cell, seen, state)
        _, state = unrolled(cell, params, seen.inputs, state)
        params = {n: p - 0.5 * gradient[n] for n, p in params.items()}
    np.testing.assert_allclose(ds.train_loss, losses, rtol=1e-12)
    for name, value in trained(ds).items():
        np.testing.assert_allclose(value, params[name], rtol=1e-11, atol=1e-13)


def test_the_state_that_is_carried_is_that_of_one_long_unroll_and_begins_anew_in_each_epoch():
    still = {"optimizer": SGD(1e-300), "batch": 2, "stateful": True}  # changes no bit of any parameter
    cell, task, whole = LSTM(1, 3), Stream(train=6), Stream(train=2, length=12, validation=1)
    np.testing.assert_array_equal(task.numbers[1:25], whole.numbers[1:25])
    still["params"] = start(cell, task)
    cut = train(cell, task, epochs=2, **still)
    once = train(cell, whole, epochs=1, **still)
    np.testing.assert_allclose(cut.train_loss[:3].mean(), once.train_loss[0], rtol=1e-12)
    np.testing.assert_array_equal(cut.train_loss[3:], cut.train_loss[:3])
    assert len(set(cut.train_loss.values)) == 3


@pytest.mark.parametrize("steps", [1, 2, 5, 64, 1000])
def test_lags_are_spread_from_none_to_all_steps_about_two_to_an_octave(steps):
    lags = spread_lags(steps)
    assert (lags[0], lags[-1]) == (0, steps)
    assert (np.diff(lags) > 0).all()
    # Neighbours are a factor of about sqrt(2) apart, or one step where that is less.
    ratio = lags[2:] / lags[1:-1]
    assert ((ratio <= 2**0.6) | (np.diff(lags[1:]) == 1)).all()
    assert (ratio[lags[1:-1] > 16] >= 2**0.4).all()

"""Mitigations that change the cell, or what it sees, against plain loops and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import loss_of, numerical_gradient
from loops.cells import Coupled

import gradsim
import gradsim_cells
from gradsim.contracts.hooks import RunHooks
from gradsim.contracts.moment import Moment
from gradsim.errors import InputError, UnknownNameError
from gradsim.testing import conformance
from gradsim.testing.specimen import stage
from gradsim.training.verb import train
from gradsim_cells import GRU, LSTM, S4D, Elman, Linear, MinGRU
from gradsim_mitigations import (
    Dilate,
    Dropout,
    LayerNorm,
    Leak,
    Residual,
    ScalePaths,
    ScheduledSampling,
    Skip,
    TeacherForcing,
    WeightNoise,
    Zoneout,
)
from gradsim_optimizers import SGD
from gradsim_tasks import CopyMemory, Lorenz

OPTIONS = (
    Dilate(3),
    Dropout(0.5, "step"),
    ScalePaths({"direct": 0.5}),
    ScheduledSampling(0.5, 0.5),
    Skip(1, 0.5),
    TeacherForcing(0.3, 2),
    TeacherForcing(0.2, measured=True),
    WeightNoise(names=("U",)),
)

test_options = conformance(*OPTIONS)
test_options_of_a_diagonal_cell = conformance(Dilate(3), TeacherForcing(0.3, 2), cell=MinGRU(2, 3))

TASK = Lorenz(length=8)


def plain_loop(p, x, seen, delay=1, skip=0.0):
    """h_t = tanh(W x_t + U seen(t, h_{t-delay}) + b) + skip h_{t-delay}, of all times."""
    states = [np.zeros((x.shape[1], len(p["b"])))] * delay
    for t, row in enumerate(x):
        before = states[-1] if skip else states[-delay]
        new = np.tanh(row @ p["W"].T + seen(t + 1, before) @ p["U"].T + p["b"])
        states.append(new + skip * states[-delay])
    return np.array(states[delay - 1 :])


@pytest.mark.parametrize(
    ("mitigation", "delay", "skip"), [(Skip(3, 0.4), 3, 0.4), (Skip(1, 0.7), 1, 0.7), (Dilate(3), 3, 0)]
)
def test_older_states_as_in_a_plain_loop(mitigation, delay, skip, inputs):
    cell = Elman(2, 4)
    params = cell.init_params(np.random.default_rng(1))
    ds = gradsim.simulate(cell, inputs, params=params, mitigations=[mitigation], record=["state", "gradient"])
    expected = plain_loop(params, inputs, lambda t, h: h, delay, skip)
    np.testing.assert_allclose(ds.state[..., :4], expected, rtol=1e-12, atol=1e-15)
    if delay > 1:
        np.testing.assert_array_equal(ds.state[delay:, :, -4:], ds.state[1 : 1 - delay, :, :4])
    given = {"inputs": inputs, "mitigations": [mitigation]}
    for name in params:
        slope = numerical_gradient(lambda p: loss_of(cell, p, **given), params, name)
        np.testing.assert_allclose(ds[f"gradient_{name}"], slope, rtol=1e-6, atol=1e-8)


def test_what_was_before_time_0(rng):
    """Nothing, for connections that skip steps; the first state, for steps from older ones."""
    cell, x = Coupled(1, 2), rng.standard_normal((6, 1, 1))
    params, start = cell.init_params(rng), cell.initial_state()
    plain, skipping, dilated = (
        gradsim.simulate(cell, x, params=params, mitigations=chosen, record=["state"]).state[:, 0, :5].values
        for chosen in ([], [Skip(3, 0.5)], [Dilate(3)])
    )
    np.testing.assert_array_equal(skipping[:3], plain[:3])
    np.testing.assert_allclose(
        skipping[3], cell.step(params, skipping[2], x[2, 0], np) + start / 2, rtol=1e-14
    )
    for t in (1, 2, 3):
        np.testing.assert_allclose(dilated[t], cell.step(params, start, x[t - 1, 0], np), rtol=1e-14)


def test_a_dilated_product_has_a_factor_in_each_delay():
    """The product of a linear network over 12 steps with delay 3 is U^4, and that over 11 steps is 0."""
    u = np.diag([0.9, 0.5])
    ds = gradsim.simulate(
        Linear(1, 2),
        np.zeros((12, 1, 1)),
        params={"U": u, "W": np.zeros((2, 1))},
        mitigations=[Dilate(3)],
        record=["jacobian_product"],
    )
    product = ds.jacobian_product.values[12, :, 0]
    np.testing.assert_allclose(product[0, :2, :2], np.linalg.matrix_power(u, 4), rtol=1e-13)
    assert not product[1, :2, :2].any()


def test_a_skipped_product_sums_over_all_ways():
    """w^4 + 2 * (three steps of 1 are one skip: w * c twice) for 4 steps, by steps of 1 (w) and of 3 (c)."""
    w, c = 0.9, 0.4
    ds = gradsim.simulate(
        Linear(1, 1),
        np.zeros((4, 1, 1)),
        params={"U": np.array([[w]]), "W": np.zeros((1, 1))},
        mitigations=[Skip(3, c)],
        record=["jacobian_product"],
    )
    assert ds.jacobian_product.values[4, 0, 0, 0, 0] == pytest.approx(w**4 + 2 * w * c, rel=1e-14)


def test_a_residual_step_has_the_identity_in_its_jacobian(inputs):
    cell = Elman(2, 4)
    params = cell.init_params(np.random.default_rng(1))
    setting = {"params": params, "record": ["step_jacobian", "state"]}
    ds = gradsim.simulate(cell, inputs, mitigations=[Residual(0.3)], **setting)
    inner = cell.step_jacobian(params, ds.state.values[:-1], inputs)[:, :, 0]
    np.testing.assert_allclose(ds.step_jacobian, np.eye(4) + 0.3 * inner, rtol=1e-12, atol=1e-15)


def test_the_wrappers_of_the_cells_are_those_put_around(inputs):
    """By a mitigation or written as a cell: the same numbers."""
    for mitigation, cell in (
        (Zoneout(0.3, {"c": 0.5}), gradsim_cells.Zoneout(LSTM(2, 3), 0.3, {"c": 0.5})),
        (LayerNorm(("h",)), gradsim_cells.LayerNorm(LSTM(2, 3), ("h",))),
        (Residual(0.2), gradsim_cells.Residual(LSTM(2, 3), 0.2, "step")),
    ):
        record = {"record": ["state", "gradient"], "rng": 4}
        ours = gradsim.simulate(LSTM(2, 3), inputs, mitigations=[mitigation], **record)
        theirs = gradsim.simulate(cell, inputs, **record)
        for name in theirs.data_vars:
            np.testing.assert_array_equal(ours[name], theirs[name])


# Dropout and noise.


@pytest.mark.parametrize("per", ["sequence", "step"])
def test_dropped_units_carry_no_gradient(per):
    x = np.random.default_rng(0).standard_normal((6, 5, 2))
    ds = gradsim.simulate(GRU(2, 8), x, mitigations=[Dropout(0.5, per)], record=["step_jacobian"])
    dropped = (ds.step_jacobian.values == 0).all(axis=-2)  # (step, batch, column)
    assert 0.3 < dropped.mean() < 0.7
    same = (dropped == dropped[:1]).all()
    assert same if per == "sequence" else not same


def test_dropout_of_an_lstm_leaves_the_carry_alone():
    x = np.random.default_rng(0).standard_normal((6, 5, 2))
    ds = gradsim.simulate(LSTM(2, 8), x, mitigations=[Dropout(0.5)], record=["step_jacobian"])
    dropped = (ds.step_jacobian.values == 0).all(axis=-2)
    assert dropped[..., :8].any()
    assert not dropped[..., 8:].any()


def test_dropout_and_weight_noise_are_off_in_a_validation():
    options = {"optimizer": SGD(1e-300), "updates": 2, "batch": 3, "validate": {"every": 1}}
    plain = train(GRU(3, 4), TASK, **options)
    for mitigation in (Dropout(0.5), WeightNoise(0.3), TeacherForcing(0.5), ScheduledSampling(0.8, 0.8)):
        ds = train(GRU(3, 4), TASK, mitigations=[mitigation], **options)
        np.testing.assert_allclose(ds.validation_loss, plain.validation_loss, rtol=1e-12)
        assert not np.isclose(ds.train_loss, plain.train_loss).any()


def test_weight_noise_has_its_size():
    """The outputs of a linear network of 1 unit, x = 1 and U = 0 are W + noise: the same at all steps."""
    params = {"U": np.zeros((1, 1)), "W": np.ones((1, 1))}
    found = []
    for rng in range(100):
        ds = gradsim.simulate(
            Linear(1, 1),
            np.ones((2, 3, 1)),
            params=params,
            mitigations=[WeightNoise(0.2, names=("W",))],
            record=["state"],
            rng=rng,
        )
        assert np.ptp(ds.state.values[1:]) < 1e-15
        found.append(ds.state.values[1, 0, 0] - 1)
    assert abs(np.mean(found)) < 4 * 0.2 / 10
    assert np.std(found) == pytest.approx(0.2, rel=4 / np.sqrt(200))


# Forcing.


def played(steps=7, batch=3, seed=0):
    """A task with given inputs, and two targets at each step."""
    rng = np.random.default_rng(seed)
    return stage(rng.standard_normal((steps, batch, 2)), {}, rng)


@pytest.mark.parametrize(("alpha", "every"), [(1.0, 1), (0.3, 1), (0.8, 3)])
def test_forcing_as_in_a_plain_loop(alpha, every):
    cell, task, mitigation = Elman(2, 4), played(), TeacherForcing(alpha, every)
    given = {"task": task, "batch": 3, "mitigations": [mitigation]}
    rng = np.random.default_rng(1)
    params = cell.init_params(rng)
    params |= {"readout_W": rng.standard_normal((2, 4)), "readout_b": rng.standard_normal(2)}
    ds = gradsim.simulate(cell, params=params, record=["state", "gradient", "step_jacobian"], **given)

    def seen(t, h):
        h = h.copy()
        if t > 1 and (t - 1) % every == 0:
            h[:, :2] += alpha * (task.targets[t - 2] - h[:, :2])
        return h

    expected = plain_loop(params, task.inputs, seen)
    np.testing.assert_allclose(ds.state, expected, rtol=1e-12, atol=1e-15)
    loss = np.mean((expected[1:] @ params["readout_W"].T + params["readout_b"] - task.targets) ** 2) * 7
    assert ds.attrs["loss"] == pytest.approx(loss, rel=1e-13)
    for t in range(1, 7):
        inner = (1 - expected[t + 1] ** 2)[..., None] * params["U"]
        inner[..., :2] *= 1 - alpha * (t % every == 0)
        np.testing.assert_allclose(ds.step_jacobian[t], inner, rtol=1e-12, atol=1e-15)
    for name in params:
        slope = numerical_gradient(lambda p: loss_of(cell, p, **given), params, name)
        np.testing.assert_allclose(ds[f"gradient_{name}"], slope, rtol=1e-6, atol=1e-8)


def linear_products(u, alpha, steps=40):
    """P(t, 1) of h_t = U h_{t-1} that is forced in all its two units."""
    ds = gradsim.simulate(
        Linear(2, 2),
        task=played(steps, 1),
        params={"U": u, "W": np.zeros((2, 2)), "readout_W": np.eye(2), "readout_b": np.zeros(2)},
        mitigations=[TeacherForcing(alpha)],
        record=["jacobian_product"],
    )
    return ds.jacobian_product.values[1:, 1, 0]


def test_forced_products_shrink_by_one_minus_alpha():
    """(1 - alpha)^T U^T; with alpha = max(0, 1 - 1 / sigma) and sigma = ||U|| no norm exceeds 1."""
    u = np.array([[1.1, 0.6], [-0.4, 1.3]])
    sigma = np.linalg.norm(u, 2)
    for alpha in (0.25, 1 - 1 / sigma):
        for lag, found in enumerate(linear_products(u, alpha)):
            expected = (1 - alpha) ** lag * np.linalg.matrix_power(u, lag)
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14 * np.linalg.norm(expected))
            if alpha != 0.25:
                assert np.linalg.norm(found, 2) <= 1 + 1e-13


def test_alpha_is_that_of_the_norms_at_the_update_before():
    """Of U = c I it is 1 - 1 / c, and what is given at the first update."""
    u = 1.6 * np.eye(2)
    ds = train(
        Linear(2, 2),
        played(4, 1),
        mitigations=[TeacherForcing(0.9, measured=True)],
        params={"U": u, "W": np.zeros((2, 2)), "readout_W": np.eye(2), "readout_b": np.zeros(2)},
        optimizer=SGD(1e-300),
        updates=2,
        batch=1,
        record={"every": 1, "recorders": ["step_jacobian"]},
    )
    for update, alpha in ((0, 0.9), (1, 1 - 1 / 1.6), (2, 1 - 1 / 1.6)):
        found = ds.step_jacobian.sel(probe_update=update).values[1:]
        np.testing.assert_allclose(
            found, np.broadcast_to((1 - alpha) * u, found.shape), rtol=1e-12, atol=1e-15
        )


def test_units_see_the_target_as_often_as_is_said():
    task = played(200, 5)
    mitigation = ScheduledSampling(0.3, 0.3)
    ds = gradsim.simulate(
        Linear(2, 2), task=task, batch=5, mitigations=[mitigation], record=["step_jacobian"]
    )
    forced = (ds.step_jacobian.values[1:] == 0).all(axis=(-2, -1))
    assert forced.mean() == pytest.approx(0.3, abs=4 * np.sqrt(0.21 / forced.size))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [1, 0.75, 0]),
        ({"first": 0.8, "last": 0.4}, [0.8, 0.7, 0.4]),
        ({"decay": "exponential", "k": 0.9}, [1, 0.9**10, 0.9**40]),
        ({"decay": "inverse_sigmoid", "k": 5.0}, [5 / 6, 5 / (5 + np.exp(2)), 5 / (5 + np.exp(8))]),
    ],
)
def test_schedules_of_sampling(options, expected):
    """At updates 0, 10 and 40 of 40."""
    found = [ScheduledSampling(**options).epsilon(Moment(u, 40, "learn")) for u in (0, 10, 40)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


# Paths.


def test_paths_are_scaled_one_by_one(inputs):
    cell = LSTM(2, 3)
    params = cell.init_params(np.random.default_rng(2))
    factors = {"direct": 0.9, cell.paths[0]: 0.0, cell.paths[1]: 2.0}
    ds = gradsim.simulate(
        cell,
        inputs,
        params=params,
        mitigations=[ScalePaths(factors)],
        record=["state", "effective_jacobian_product"],
    )
    shares = cell.path_jacobians(params, ds.state.values[:-1], inputs)
    expected = sum(factors.get(p, 1.0) * share for p, share in shares.items())[:, :, 0]
    for t in range(1, len(inputs) + 1):
        found = ds.effective_jacobian_product.values[t, t - 1]
        np.testing.assert_allclose(found, expected[t - 1], rtol=1e-12, atol=1e-15)


# Bad input.


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TeacherForcing(1.5), "alpha should be"),
        (lambda: TeacherForcing(every=0), "every should be"),
        (lambda: Dropout(1.0), "rate should be"),
        (lambda: Skip(0), "delay should be"),
        (lambda: WeightNoise(-1.0), "size should be"),
        (lambda: ScheduledSampling(decay="exponential"), r"k should be below 1.*got None"),
        (lambda: ScheduledSampling(k=3.0), "leave it out"),
        (lambda: ScheduledSampling(decay="inverse_sigmoid", k=0.5), "1 or more"),
    ],
)
def test_parameters_out_of_range_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize(
    ("mitigation", "message"),
    [
        (TeacherForcing(block="hh"), "'hh'; did you mean 'h'"),
        (Dropout(blocks=("d",)), "'d'"),
        (Zoneout(rates={"cc": 0.1}), "'cc'; did you mean 'c'"),
        (ScalePaths({"inputs": 0.5}), "'inputs'.*did you mean 'input'"),
        (WeightNoise(names=("V",)), "'V'"),
    ],
)
def test_what_the_cell_lacks_is_named(mitigation, message):
    with pytest.raises(UnknownNameError, match=message):
        gradsim.simulate(LSTM(2, 3), task=played(), batch=3, mitigations=[mitigation])


def test_weight_noise_needs_a_readout_of_the_state():
    for around in ([], [Leak()], [Skip()]):
        with pytest.raises(InputError, match="the output of s4d is made with weights, too"):
            gradsim.simulate(S4D(2, 3), task=played(), batch=3, mitigations=[WeightNoise(), *around])


def test_forcing_needs_targets_that_are_numbers(inputs):
    with pytest.raises(InputError, match=r"there are no targets to force units to; give task="):
        gradsim.simulate(LSTM(2, 3), inputs, mitigations=[TeacherForcing()])
    with pytest.raises(InputError, match="2 targets need as many units, and the block of elman has 1"):
        gradsim.simulate(Elman(2, 1), task=played(), batch=3, mitigations=[ScheduledSampling()])
    with pytest.raises(InputError, match=r"units are forced to numbers .* targets of the task are int"):
        gradsim.simulate(LSTM(10, 3), task=CopyMemory(), mitigations=[TeacherForcing()])


def test_forcing_looks_at_the_gradient_only_where_it_measures():
    """So that its parts by lag are there otherwise."""
    assert {*RunHooks([TeacherForcing(0.5)]).phases} == {"cell", "step_data"}
    assert {*RunHooks([TeacherForcing(0.5, measured=True)]).phases} == {"cell", "step_data", "gradient"}
    setting = {"task": TASK, "batch": 2, "rng": 0, "mitigations": [TeacherForcing(0.5)]}
    ds = gradsim.simulate(Elman(3, 4), record=["effective_gradient_by_lag", "effective_gradient"], **setting)
    np.testing.assert_allclose(
        ds.effective_gradient_by_lag_U.sum("lag"), ds.effective_gradient_U, rtol=1e-10, atol=1e-14
    )


def test_norms_are_measured_of_a_state_that_is_whole():
    forcing = TeacherForcing(0.5, measured=True)
    with pytest.raises(InputError, match=r"skipping adds to it; put it in front of teacher_forcing"):
        gradsim.simulate(Elman(2, 3), task=played(), batch=3, mitigations=[forcing, Skip()])
    gradsim.simulate(Elman(2, 3), task=played(), batch=3, mitigations=[Skip(), forcing])

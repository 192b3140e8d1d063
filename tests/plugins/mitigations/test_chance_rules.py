"""Rules that draw, rules that learn, and errors that go forward by an inverse."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from helpers import refused
from rules import both, by_definition, close, ruled, shipped, small, taken

from gradsim.contracts.moment import Moment
from gradsim.contracts.trajectory import one_by_one
from gradsim.errors import InputError, NonFiniteError
from gradsim.testing import conformance
from gradsim_cells import GRU, LRU, LSTM, Elman, Linear, Stack
from gradsim_mitigations import (
    DNI,
    KFRTRL,
    RTRL,
    UORO,
    ForwardErrors,
    Gate,
    Immediate,
    TargetPropagation,
    Truncate,
)
from gradsim_tasks import FlipFlop

test_rules_keep_the_contract = conformance(DNI(k=2, learning_rate=0.5), TargetPropagation(noise=0.1))


def kronecker(cell):
    try:
        KFRTRL().refuse(cell)
    except InputError:
        return False
    return True


def by_adjoints(trajectory, direct):
    """The exact gradient."""
    adjoints = direct.copy()
    for t in reversed(trajectory.steps):
        adjoints[t - 1] += trajectory.pull_one(t - 1, adjoints[t])
    return trajectory.gradient(adjoints[1:])


def copies(trajectory, direct, count):
    """The same sequence so many times in a batch."""
    state = np.repeat(trajectory.states[0], count, axis=0)
    inputs = np.repeat(trajectory.inputs, count, axis=1)
    data = {n: np.repeat(x, count, axis=1) for n, x in trajectory.step_data.items()}
    many = trajectory.cell.unroll(trajectory.params, state, inputs, data, one_by_one)
    return many, np.repeat(direct, count, axis=1)


def mean_over_signs(rule, trajectory, direct, *shape):
    """The mean gradient over all signs of this shape, one for each of so many draws."""
    every = np.array(list(itertools.product((-1, 1), repeat=int(np.prod(shape)))))
    drawn = np.moveaxis(every.reshape(-1, *shape), 0, 1)
    found = ruled(rule, *copies(trajectory, direct, len(every)), draws={"signs": drawn})
    return {n: g / len(every) for n, g in found.items()}


@pytest.mark.parametrize(
    "cell", [Elman(2, 2), LSTM(2, 1), LRU(2, 1), GRU(2, 2, reset_after=False), small("exp_rnn")], ids=repr
)
def test_the_mean_of_uoro_over_all_signs_is_the_exact_gradient(cell, rng):
    """With n = 2 and T = 4 those are 256."""
    steps = 4 if cell.state_size == 2 else 2
    trajectory, direct = taken(cell, rng, steps=steps, batch=1)
    found = mean_over_signs(UORO(), trajectory, direct, steps, cell.state_size)
    close(found, by_adjoints(trajectory, direct), 1e-13)


@pytest.mark.parametrize("name", [n for n in shipped() if kronecker(small(n))])
def test_the_mean_of_kf_rtrl_over_all_signs_is_the_exact_gradient(name, rng):
    trajectory, direct = taken(small(name), rng, steps=5, batch=1)
    close(mean_over_signs(KFRTRL(), trajectory, direct, 5), by_adjoints(trajectory, direct), 1e-12)


def test_both_are_what_their_papers_say(rng):
    """Step by step with whole matrices, for h = tanh(V z) with z = (x, h, 1)."""
    trajectory, direct = taken(Elman(2, 3), rng, steps=6, batch=1)
    norm = np.linalg.norm
    signs = rng.choice((-1, 1), (6, 1, 3))
    p, size = trajectory.params, 3 * 6
    a, b, left, right = np.zeros(3), np.zeros(size), np.zeros((3, 3)), np.zeros(6)
    uoro, kf = np.zeros(size), np.zeros((3, 6))
    for t, x in enumerate(trajectory.inputs[:, 0], 1):
        before, after = trajectory.states[t - 1, 0], trajectory.states[t, 0]
        z, slope = np.concatenate((x, before, [1.0])), np.diag(1 - after**2)
        v, jacobian, immediate = signs[t - 1, 0], slope @ p["U"], np.kron(slope, z)
        a, pulled = jacobian @ a, v @ immediate
        old = np.sqrt(norm(b) / norm(a)) if t > 1 else 1.0
        new = np.sqrt(norm(pulled) / norm(v))
        a, b = old * a + new * v, b / old + pulled / new
        uoro += direct[t, 0] @ np.outer(a, b)
        left = jacobian @ left
        old = np.sqrt(norm(right) / norm(left)) if t > 1 else 1.0
        new = np.sqrt(norm(z) / norm(slope))
        left, right = old * left + v[0] * new * slope, right / old + v[0] * z / new
        kf += np.outer(direct[t, 0] @ left, right)
    for rule, expected, drawn in ((UORO(), uoro.reshape(3, 6), signs), (KFRTRL(), kf, signs[..., 0])):
        found = ruled(rule, trajectory, direct, draws={"signs": drawn})
        close(found, {"W": expected[:, :2], "U": expected[:, 2:5], "b": expected[:, 5]}, 1e-12)


@pytest.mark.parametrize("rule", [UORO(), KFRTRL()], ids=lambda r: r.name)
def test_the_mean_over_what_is_drawn_is_the_exact_gradient(rule, rng):
    """Along the exact gradient and a random direction, at 4 standard errors: 1 false alarm in 8000 rules."""
    trajectory, direct = taken(LSTM(2, 3), rng, steps=12, batch=1)
    exact = by_adjoints(trajectory, direct)
    many = copies(trajectory, direct, 100)
    along = exact, {n: rng.standard_normal(g.shape) for n, g in exact.items()}

    def seen(gradient):
        return [sum(np.sum(d[n] * g) for n, g in gradient.items()) for d in along]

    means = []
    for seed in range(100):
        draws = drawn_by(rule, np.random.default_rng(seed), many[0])
        means.append(seen({n: g / 100 for n, g in ruled(rule, *many, draws=draws).items()}))
    error = np.std(means, axis=0, ddof=1) / 10
    assert (np.abs(np.mean(means, axis=0) - seen(exact)) < 4 * error).all()
    assert error[0] < 0.1 * seen(exact)[0]


def drawn_by(rule, rng, trajectory):
    steps, batch = trajectory.inputs.shape[:2]
    more = {"cell": trajectory.cell} if isinstance(rule, UORO) else {}
    return rule.draw(rng, steps=steps, batch=batch, **more)


@pytest.mark.parametrize("rule", [UORO(), KFRTRL()], ids=lambda r: r.name)
def test_nothing_that_is_carried_on_is_nothing_wrong(rule, rng):
    """With U = 0 no influence lasts, and with zeros from a product there is nothing to balance."""
    cell = Elman(2, 2)
    params = cell.init_params(rng)
    params |= {"U": np.zeros((2, 2))}
    trajectory, direct = taken(cell, rng, steps=3, batch=1, params=params)
    shape = (3, 2) if isinstance(rule, UORO) else (3,)
    close(mean_over_signs(rule, trajectory, direct, *shape), by_definition(trajectory, direct), 1e-13)


@pytest.mark.parametrize("rule", [UORO(), KFRTRL()], ids=lambda r: r.name)
@pytest.mark.parametrize("size", [1e-160, 1.0, 1e160])
def test_factors_whose_squares_leave_the_range_are_kept(rule, size, rng):
    """A linear cell moves with its inputs, and what weights of theirs do as well."""
    cell = Linear(2, 3)
    params = cell.init_params(rng)
    x, signs = rng.standard_normal((6, 2, 2)), rng.choice((-1, 1), (6, 2, 3))
    draws = {"signs": signs if isinstance(rule, UORO) else signs[..., 0]}
    found = []
    for factor in (1.0, size):
        trajectory = cell.unroll(params, np.zeros((2, 3)), factor * x, {}, one_by_one)
        direct = np.ones(trajectory.states.shape)
        found.append({n: g / factor for n, g in ruled(rule, trajectory, direct, draws=draws).items()})
    close(found[1], found[0], 1e-12)


@pytest.mark.parametrize("rule", [RTRL(), UORO()], ids=lambda r: r.name)
def test_an_influence_that_leaves_the_range_is_refused_with_what_to_do(rule):
    """That of biases, through steps that stay at zero."""
    cell = Elman(3, 4)
    params = cell.init_params(np.random.default_rng(0))
    params["U"] *= 1e12
    with refused(NonFiniteError, "gradsim_rule returned NaN or infinity for 'b'", "take fewer steps"):
        both(cell, rule, params=params, task=None, inputs=np.zeros((40, 2, 3)), batch=None)


def test_a_run_draws_signs_from_its_stream_and_leaves_the_rest_alone():
    for rule in (UORO(), KFRTRL()):
        exact, found = both(GRU(3, 4), rule)
        again, other = both(GRU(3, 4), rule)[1], both(GRU(3, 4), rule, rng=3)[1]
        close(found, again, 0)
        assert np.abs(found["U"] - other["U"]).max() > 1e-3
        readout = [n for n in found if "readout" in n]
        close({n: found[n] for n in readout}, {n: exact[n] for n in readout}, 0)
        single = both(GRU(3, 4), rule, dtype="float32")[1]
        assert all(g.dtype == np.float32 for g in single.values())
        close(single, found, 1e-3)


def test_steps_in_many_pieces_are_those_in_one(monkeypatch):
    whole = [both(LSTM(3, 4), rule)[1] for rule in (UORO(), KFRTRL(), ForwardErrors())]
    monkeypatch.setattr("gradsim_mitigations.influence._NUMBERS", 500)
    for rule, expected in zip((UORO(), KFRTRL(), ForwardErrors()), whole, strict=True):
        close(both(LSTM(3, 4), rule)[1], expected, 1e-9)


@pytest.mark.parametrize(
    "cell", [LRU(3, 4), GRU(3, 4, reset_after=False), Stack((Elman(3, 2),)), small("layer_norm")], ids=repr
)
def test_kf_rtrl_refuses_what_has_no_sums(cell):
    with refused(InputError, f"kf_rtrl: {cell.name} is not made of units", "take uoro"):
        both(cell, KFRTRL())
    with refused(InputError, "kf_rtrl: gated is not made of units"):
        both(Elman(3, 4), Gate(), KFRTRL())


def test_what_no_weight_multiplies_is_no_noise_in_kf_rtrl():
    inputs = np.zeros((20, 1, 3))
    inputs[0] = 1.0
    exact, estimate = both(
        Linear(3, 4, recurrent_scale=0.1), KFRTRL(), task=None, batch=None, inputs=inputs
    )  # a cell without a bias
    away = {n: np.linalg.norm(estimate[n] - exact[n]) / np.linalg.norm(exact[n]) for n in exact}
    assert max(away.values()) < 100, away


def test_dni_is_backpropagation_through_windows_that_end_with_a_guess(rng):
    """a_t = sum of q_s P(s, t) up to the end e of a window, and A (s_e, 1) P(e, t); A learns at each end."""
    trajectory, direct = taken(GRU(2, 3), rng, steps=8)
    products, states = trajectory.jacobian(), trajectory.states
    guess = 0.1 * rng.standard_normal((3, 4))
    rule, moment = DNI(k=3, learning_rate=0.2), Moment(1, 5, "learn", {})
    moment = Moment(2, 5, "learn", {rule: {"guess": guess}})

    def carried(total, start, end):
        """A cotangent (batch, m) at time `end`, at time `start`."""
        for t in range(end, start, -1):
            total = np.einsum("bi,bij->bj", total, products[t - 1])
        return total

    adjoints = np.zeros_like(direct)
    for first, end in ((1, 3), (4, 6), (7, 8)):
        z = np.concatenate((states[end], np.ones((2, 1))), axis=1)
        beyond = z @ guess.T if end < 8 else 0
        for t in range(max(first - 1, 1), end + 1):
            later = sum(carried(direct[s], t, s) for s in range(max(t, first), end + 1))
            found = later + carried(beyond + np.zeros((2, 3)), t, end)
            if t >= first:
                adjoints[t] = found
            else:
                seen = np.concatenate((states[t], np.ones((2, 1))), axis=1)
                error = found - seen @ guess.T
                guess = guess + 0.2 * np.einsum("bi,bj->ij", error, seen) / 2
    close(ruled(rule, trajectory, direct, moment=moment), trajectory.gradient(adjoints[1:]), 1e-12)
    np.testing.assert_allclose(moment.noted[rule]["guess"], guess, atol=1e-13)


@pytest.mark.parametrize("name", shipped())
def test_dni_over_the_whole_run_is_backpropagation_for_every_cell(name):
    cell = small(name)
    exact, found = both(cell, DNI(k=12))
    close(found, exact, fixed=cell.fixed)


def test_dni_without_learning_is_truncation():
    for cell in (LSTM(3, 4), small("exp_rnn")):
        close(both(cell, DNI(k=4, learning_rate=0))[1], both(cell, Truncate(4, 4))[1], 1e-13)


@pytest.mark.parametrize("k", [1, 3])
def test_dni_learns_the_adjoint_map_of_a_linear_cell(k, rng):
    """With q_t = Q s_t up to the end, where q_T = V s_T for V = Q + U^T V U: a_t = V s_t at all times.

    What comes from beyond is U^T V U s_t, of which A = (U^T V U, 0) makes every guess right.
    """
    cell = Linear(1, 3)
    recurrent = 0.9 * np.linalg.qr(rng.standard_normal((3, 3)))[0]
    params = {"W": np.zeros((3, 1)), "U": recurrent}
    seen = rng.standard_normal((3, 3))
    q = seen @ seen.T
    v = np.linalg.solve(np.eye(9) - np.kron(recurrent.T, recurrent.T), q.ravel()).reshape(3, 3)
    rule, memories = DNI(k=k, learning_rate=0.3), {}
    for update in range(1, 200):
        trajectory = cell.unroll(params, rng.standard_normal((8, 3)), np.zeros((9, 8, 1)), {}, one_by_one)
        direct = np.concatenate((trajectory.states[:-1] @ q, trajectory.states[-1:] @ v))
        moment = Moment(update, 200, "learn", memories)
        found, memories = ruled(rule, trajectory, direct, moment=moment), moment.noted
    np.testing.assert_allclose(
        memories[rule]["guess"], np.c_[recurrent.T @ v @ recurrent, np.zeros(3)], atol=1e-6
    )
    close(found, by_adjoints(trajectory, direct), 1e-6)


def test_targets_go_back_through_what_was_learned(rng):
    """a_{t-1} = q_{t-1} + a_t G_s^T, after G has learned step by step from states that have been moved."""
    trajectory, direct = taken(GRU(2, 3), rng, steps=6)
    inverse = 0.1 * rng.standard_normal((3, 6))
    rule = TargetPropagation(learning_rate=0.2, noise=0.3)
    moment = Moment(2, 5, "learn", {rule: {"inverse": inverse}})
    noise = rng.standard_normal((6, 2, 3))
    for t, x in enumerate(trajectory.inputs):
        old = trajectory.states[t] + 0.3 * noise[t]
        new = trajectory.cell.step(trajectory.params, old, x, np)
        y = np.concatenate((new, x, np.ones((2, 1))), axis=1)
        error = old - np.einsum("ij,bj->bi", inverse, y)
        inverse = inverse + 0.2 * np.einsum("bi,bj->ij", error, y) / 2
    adjoints = direct.copy()
    for t in range(6, 0, -1):
        adjoints[t - 1] = direct[t - 1] + np.einsum("bi,ji->bj", adjoints[t], inverse[:, :3])
    found = ruled(rule, trajectory, direct, draws={"noise": noise}, moment=moment)
    close(found, trajectory.gradient(adjoints[1:]), 1e-12)
    np.testing.assert_allclose(moment.noted[rule]["inverse"], inverse, atol=1e-13)


def test_target_propagation_learns_the_inverse_of_a_linear_cell(rng):
    """s_{t-1} = U^-1 (s_t - W x_t): with an orthogonal U its transpose is U, and targets move as adjoints."""
    cell = Linear(2, 3)
    params = {"W": rng.standard_normal((3, 2)), "U": np.linalg.qr(rng.standard_normal((3, 3)))[0]}
    rule, memories = TargetPropagation(learning_rate=0.1), {}
    for update in range(1, 300):
        inputs = rng.standard_normal((6, 16, 2))
        trajectory = cell.unroll(params, rng.standard_normal((16, 3)), inputs, {}, one_by_one)
        direct = rng.standard_normal(trajectory.states.shape)
        moment = Moment(update, 300, "learn", memories)
        found, memories = ruled(rule, trajectory, direct, moment=moment), moment.noted
    back = params["U"].T
    np.testing.assert_allclose(
        memories[rule]["inverse"], np.c_[back, -back @ params["W"], np.zeros(3)], atol=1e-6
    )
    close(found, by_adjoints(trajectory, direct), 1e-6)


def test_target_propagation_without_learning_is_the_immediate_derivative():
    for cell in (LSTM(3, 4), small("exp_rnn")):
        close(both(cell, TargetPropagation(learning_rate=0))[1], both(cell, Immediate())[1], 1e-13)


@pytest.mark.parametrize(
    "cell", [LRU(3, 4), GRU(3, 4), small("exp_rnn"), Stack((GRU(3, 3), LRU(3, 2)))], ids=repr
)
def test_errors_go_forward_as_they_go_back_where_steps_remember(cell):
    exact, found = both(cell, ForwardErrors())
    close(found, exact, 1e-7)


def test_rounding_grows_as_a_unit_forgets():
    """By lambda^-T, from the rounding of a first adjoint of the size of what is left of it, lambda^T."""
    lam, lost = 0.6, []
    for steps in (20, 60):
        cell = Linear(1, 1)
        inputs = np.random.default_rng(0).standard_normal((steps, 1, 1))
        params = {"W": np.ones((1, 1)), "U": np.full((1, 1), lam)}
        trajectory = cell.unroll(params, np.ones((1, 1)), inputs, {}, one_by_one)
        direct = np.random.default_rng(1).standard_normal((steps + 1, 1, 1))
        exact, found = by_adjoints(trajectory, direct)["W"], ruled(ForwardErrors(), trajectory, direct)["W"]
        lost.append(float(np.abs(found - exact).max()))
    assert 1e-15 < lost[0] < 1e-9
    assert 0.1 < lost[1] / lost[0] * lam**40 < 10


def test_what_has_no_inverse_is_refused(rng):
    cell = Elman(2, 3)
    params = cell.init_params(rng)
    params["U"][0] = 0
    trajectory, direct = taken(cell, rng, params=params)
    with refused(NonFiniteError, "a step Jacobian among those of steps 1 to 7 has no inverse", "rtrl"):
        ruled(ForwardErrors(), trajectory, direct)
    with refused(NonFiniteError, "the adjoints that it carries forward leave the range", "fewer steps"):
        both(Elman(3, 4), ForwardErrors(), task=FlipFlop(length=400))


def test_what_cannot_be_is_refused():
    with refused(InputError, "DNI: k should be"):
        DNI(k=0)
    with refused(InputError, "DNI: learning_rate should be"):
        DNI(learning_rate=-1.0)
    with refused(InputError, "TargetPropagation: learning_rate should be", "noise should be"):
        TargetPropagation(learning_rate=-1.0, noise=-0.1)

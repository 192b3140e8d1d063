"""What is known of cells with gates: closed forms, limits, and one cell as another."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import refused
from stepping import moved, sigmoid

import gradsim
from gradsim.errors import InputError
from gradsim_cells import (
    ATR,
    BRC,
    CFN,
    GRU,
    JANET,
    LEM,
    LSTM,
    MGU,
    MUT,
    NBRC,
    NRU,
    RAN,
    RHN,
    STAR,
    UGRNN,
    CoRNN,
    LiGRU,
    LSTMProjected,
    MinimalRNN,
    MultiplicativeLSTM,
    OriginalLSTM,
    PeepholeLSTM,
)


def run(cell, params, inputs, record=("state",), **options):
    return gradsim.simulate(cell, inputs, params=params, record=list(record), **options)


def test_without_forget_gate_the_error_in_a_cell_stays_the_same():
    """The constant error carousel: dc_t/dc_k = 1 where gates see no state."""
    cell = OriginalLSTM(1, 3)
    rng = np.random.default_rng(0)
    params = moved(cell, rng) | {"U": np.zeros((9, 3))}
    ds = run(cell, params, rng.standard_normal((60, 1, 1)), ["jacobian_product"])
    assert (ds.jacobian_product[-1, 0, 0, 3:, 3:].values == np.eye(3)).all()


def test_without_forget_gate_it_is_an_lstm_that_forgets_nothing(inputs, rng):
    params = moved(OriginalLSTM(2, 3), rng)
    i, g, o = (slice(3 * k, 3 * k + 3) for k in range(3))
    whole = {n: np.concatenate((p[i], np.zeros_like(p[i]), p[g], p[o])) for n, p in params.items()}
    whole["b"][3:6] = 1e3
    ours, theirs = run(OriginalLSTM(2, 3), params, inputs), run(LSTM(2, 3), whole, inputs)
    np.testing.assert_allclose(ours.state, theirs.state, rtol=1e-12, atol=1e-14)


def test_without_peepholes_it_is_the_lstm(inputs, rng):
    params = moved(LSTM(2, 3), rng)
    ours = run(PeepholeLSTM(2, 3), params | {"p": np.zeros(9)}, inputs, ["state", "jacobian_product"])
    theirs = run(LSTM(2, 3), params, inputs, ["state", "jacobian_product"])
    np.testing.assert_allclose(ours.state, theirs.state, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(ours.jacobian_product, theirs.jacobian_product, rtol=1e-10, atol=1e-13)


def test_of_a_janet_with_beta_0_nothing_is_left_but_a_ugrnn(inputs, rng):
    params = moved(UGRNN(2, 3), rng)
    ours, theirs = run(JANET(2, 3, beta=0.0), params, inputs), run(UGRNN(2, 3), params, inputs)
    np.testing.assert_allclose(ours.state, theirs.state, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("beta", [0.0, 1.0, 2.5])
def test_the_state_of_a_janet_tends_to_e_to_the_beta(beta):
    """Where its gate is open and its candidate 1, by (1 - sigma(s - beta)) / (1 - sigma(s)) -> e^beta."""
    params = {"W": np.zeros((2, 1)), "U": np.zeros((2, 1)), "b": np.array([4.0, 1e3])}
    ds = run(JANET(1, 1, beta=beta), params, np.zeros((1500, 1, 1)))
    bound = (1 + np.exp(4.0)) / (1 + np.exp(4.0 - beta))
    assert ds.state[-1].item() == pytest.approx(bound, rel=1e-8)
    assert bound <= np.exp(beta)


@pytest.mark.parametrize("cell", [UGRNN(2, 3), LiGRU(2, 3)], ids=repr)
def test_an_open_update_gate_keeps_state_and_gradient(cell, inputs, rng):
    params = moved(cell, rng)
    params["b"][:3] = 1e3
    start = np.array([0.3, -0.2, 0.9])
    ds = run(cell, params, inputs, ["state", "jacobian_product"], initial_state=start)
    assert (ds.state == start).all()
    assert (ds.jacobian_product[-1, 0, 0].values == np.eye(3)).all()


def test_a_chaos_free_network_falls_silent_without_inputs(rng):
    """Each unit shrinks, whatever the weights (Laurent & von Brecht 2017)."""
    cell = CFN(2, 20)
    params = {n: 10 * p for n, p in moved(cell, rng).items()}
    ds = run(cell, params, np.zeros((50, 4, 2)), initial_state=3 * rng.standard_normal(20))
    size = np.abs(ds.state.values)
    assert (size[1:] <= size[:-1]).all()
    assert (size[1:] < size[:-1]).any(axis=(1, 2)).all()


def test_the_step_jacobian_of_star(inputs, rng):
    """diag(1 - h'^2) (diag(1 - k) + diag((z - h) k (1 - k)) U)."""
    cell = STAR(2, 3)
    params = moved(cell, rng)
    ds = run(cell, params, inputs, ["state", "step_jacobian"])
    old, new, x = ds.state[4, 1].values, ds.state[5, 1].values, inputs[4, 1]
    k = sigmoid(params["W"][:3] @ x + params["U"] @ old + params["b"][:3])
    z = np.tanh(params["W"][3:] @ x + params["b"][3:])
    expected = np.diag(1 - new**2) @ (np.diag(1 - k) + np.diag((z - old) * k * (1 - k)) @ params["U"])
    np.testing.assert_allclose(ds.step_jacobian[4, 1], expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("a", "rest"), [(0.5, 0.0), (0.9, 0.0), (1.5, 0.8585596), (1.9, 0.9466680)])
def test_a_bistable_cell_remembers_a_sign_if_its_feedback_exceeds_1(a, rest):
    """It comes to rest where h = tanh(a h)."""
    params = {"W": np.zeros((3, 1)), "w": np.zeros(2), "b": np.array([np.arctanh(a - 1), -1.0, 0.0])}
    for sign in (1, -1):
        ds = run(BRC(1, 1), params, np.zeros((600, 1, 1)), initial_state=[0.3 * sign])
        assert ds.state[-1].item() == pytest.approx(rest * sign, abs=1e-6)


def test_a_bistable_cell_is_the_modulated_one_with_diagonal_weights(inputs, rng):
    params = moved(BRC(2, 3), rng)
    w = params.pop("w")
    u = np.concatenate([np.diag(w[:3]), np.diag(w[3:])])
    record = ["state", "jacobian_product"]
    ours = run(BRC(2, 3), params | {"w": w}, inputs, record)
    theirs = run(NBRC(2, 3), params | {"U": u}, inputs, record)
    np.testing.assert_allclose(ours.state, theirs.state, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(
        ours.jacobian_product,
        np.diagonal(theirs.jacobian_product.values, axis1=-2, axis2=-1)[..., None, None],
        rtol=1e-10,
        atol=1e-14,
    )


def test_the_twin_gates_of_atr_add_up_where_there_is_no_input():
    """With x = 0, h' = sigma(-U h) h: a unit of its own halves its state where U = 0."""
    params = {"W": np.ones((2, 1)), "U": np.zeros((2, 2)), "b": np.zeros(2)}
    ds = run(ATR(1, 2), params, np.zeros((5, 1, 1)), initial_state=[1.0, -3.0])
    np.testing.assert_allclose(ds.state[:, 0, 1], -3 / 2.0 ** np.arange(6), rtol=1e-14)


def test_a_minimal_gated_unit_with_a_closed_gate_keeps_all(inputs, rng):
    params = moved(MGU(2, 3), rng)
    params["b"][:3] = -1e3
    ds = run(MGU(2, 3), params, inputs, ["state", "jacobian_product"], initial_state=[0.3, -2, 5])
    assert (ds.state == [0.3, -2, 5]).all()
    assert (ds.jacobian_product[-1, 0, 0].values == np.eye(3)).all()


def test_a_minimal_network_whose_gate_sees_no_state_multiplies_its_gates(inputs, rng):
    cell = MinimalRNN(2, 3)
    params = moved(cell, rng) | {"U": np.zeros((3, 3))}
    ds = run(cell, params, inputs, ["jacobian_product"])
    z = np.tanh(inputs @ params["W"].T + params["b_z"])
    u = sigmoid(z @ params["V"].T + params["b_u"])
    for b in range(inputs.shape[1]):
        expected = np.diag(u[4:, b].prod(axis=0))
        np.testing.assert_allclose(ds.jacobian_product[-1, 4, b], expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("activation", ["tanh", "identity"])
def test_an_additive_network_adds_up_what_it_has_seen(activation, inputs, rng):
    """c_t = sum_j i_j f_{j+1} ... f_t c~_j, where the gates see no state; and g(c_t) is read."""
    cell = RAN(2, 3, activation=activation)
    params = moved(cell, rng) | {"U": np.zeros((6, 3))}
    i, f, content = np.split(inputs @ params["W"].T + params["b"], 3, axis=-1)
    kept = np.cumprod(sigmoid(f), axis=0)
    expected = (sigmoid(i) * content / kept).sum(axis=0) * kept[-1]
    last = run(cell, params, inputs).state[-1].values
    np.testing.assert_allclose(last, expected, rtol=1e-10)
    read = np.tanh(expected) if activation == "tanh" else expected
    np.testing.assert_allclose(cell.output(params, last, inputs[-1], np), read, rtol=1e-10)


def test_the_second_mutation_is_a_gru_that_resets_before_the_product(inputs, rng):
    params = moved(MUT(2, 3, form=2), rng)
    z, r, n = (slice(3 * k, 3 * k + 3) for k in range(3))
    gru = {k: np.concatenate((p[r], -p[z], p[n])) for k, p in params.items()} | {"c": np.zeros(9)}
    record = ["state", "jacobian_product"]
    ours = run(MUT(2, 3, form=2), params, inputs, record)
    theirs = run(GRU(2, 3, reset_after=False), gru, inputs, record)
    for name in record:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-9, atol=1e-13)


def test_a_highway_of_one_layer_is_a_ugrnn_with_the_other_sign(inputs, rng):
    params = moved(UGRNN(2, 3), rng)
    gate, candidate = slice(0, 3), slice(3, 6)
    turned = {n: np.concatenate((p[candidate], -p[gate])) for n, p in params.items()}
    highway = {"W": turned["W"], "U1": turned["U"], "b1": turned["b"]}
    record = ["state", "jacobian_product"]
    ours = run(RHN(2, 3, depth=1), highway, inputs, record)
    theirs = run(UGRNN(2, 3), params, inputs, record)
    for name in record:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("depth", [1, 4])
def test_a_highway_with_closed_gates_carries_state_and_gradient(depth, inputs):
    cell = RHN(2, 3, depth=depth, transform_bias=-1e4)
    ds = gradsim.simulate(cell, inputs, record=["jacobian_product"])
    assert (ds.jacobian_product[-1, 0].values == np.eye(3)).all()


def test_of_a_constant_input_a_multiplicative_lstm_can_make_an_lstm(inputs, rng):
    """W_m x = 1 and U_m = I leave m = h."""
    x = inputs.copy()
    x[..., 0] = 1
    params = moved(LSTM(2, 3), rng)
    same = {"W_m": np.array([[1.0, 0.0]] * 3), "U_m": np.eye(3)}
    ours, theirs = run(MultiplicativeLSTM(2, 3), params | same, x), run(LSTM(2, 3), params, x)
    np.testing.assert_allclose(ours.state, theirs.state, rtol=1e-12, atol=1e-14)


def test_without_input_nothing_reaches_a_multiplicative_lstm_from_its_output(rng):
    cell = MultiplicativeLSTM(2, 3)
    ds = run(cell, moved(cell, rng), np.zeros((3, 1, 2)), ["step_jacobian"], initial_state=np.ones(6))
    assert (ds.step_jacobian[..., :3] == 0).all()


def test_an_lstm_that_projects_is_that_of_pytorch(inputs, rng):
    cell = LSTMProjected(2, 5, projection_size=3)
    params = moved(cell, rng)
    theirs = torch.nn.LSTM(2, 5, proj_size=3, dtype=torch.float64)
    names = {"W": "weight_ih_l0", "U": "weight_hh_l0", "V": "weight_hr_l0", "b": "bias_ih_l0"}
    given = {names[n]: torch.tensor(p) for n, p in params.items()}
    theirs.load_state_dict(given | {"bias_hh_l0": torch.zeros(20, dtype=torch.float64)})
    outputs, (_, cells) = theirs(torch.tensor(inputs))
    ds = run(cell, params, inputs)
    np.testing.assert_allclose(ds.state[1:, :, :3], outputs.detach(), rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(ds.state[-1, :, 3:], cells[0].detach(), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("implicit", [False, True])
def test_without_force_oscillators_turn_and_decay(implicit):
    """P(t, k) is a power of one 2 x 2 matrix for each unit, and keeps areas where nothing is damped."""
    d, gamma, epsilon = 0.3, 1.7, 0.6
    for eps in (0.0, epsilon):
        cell = CoRNN(1, 2, time_step=d, gamma=gamma, epsilon=eps, implicit=implicit)
        params = {"W": np.zeros((2, 1)), "U": np.zeros((2, 2)), "U_z": np.zeros((2, 2)), "b": np.zeros(2)}
        ds = run(cell, params, np.zeros((20, 1, 1)), ["jacobian_product"])
        shrunk = 1 / (1 + d * eps) if implicit else 1 - d * eps
        pull = d * gamma / (1 + d * eps) if implicit else d * gamma
        unit = np.array([[1 - d * pull, d * shrunk], [-pull, shrunk]])
        assert np.linalg.det(unit) == pytest.approx(shrunk)
        expected = np.kron(np.linalg.matrix_power(unit, 20), np.eye(2))
        np.testing.assert_allclose(ds.jacobian_product[-1, 0, 0], expected, rtol=1e-11, atol=1e-14)


def test_a_long_expressive_memory_with_closed_steps_keeps_all(inputs, rng):
    params = moved(LEM(2, 3), rng)
    params["b"][:6] = -1e3
    start = np.array([0.3, -2, 5, 1, 2, 3])
    ds = run(LEM(2, 3), params, inputs, ["state", "jacobian_product"], initial_state=start)
    assert (ds.state == start).all()
    assert (ds.jacobian_product[-1, 0, 0].values == np.eye(6)).all()


def test_a_long_expressive_memory_with_whole_steps_is_a_network_of_two_layers(inputs, rng):
    """h' = tanh(W_h x + U_h tanh(W_z x + U_z h)), whose Jacobian is known."""
    params = moved(LEM(2, 3), rng)
    params["b"][:6] = 1e3
    ds = run(LEM(2, 3), params, inputs, ["state", "step_jacobian"])
    h, z = ds.state[1:, :, :3].values, ds.state[1:, :, 3:].values
    from_h = (1 - z**2)[..., None] * params["U"][6:]
    h_from_h = (1 - h**2)[..., None] * (params["U_h"] @ from_h)
    np.testing.assert_allclose(ds.step_jacobian[..., :3, :3], h_from_h, rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(ds.step_jacobian[..., 3:, :3], from_h, rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(ds.step_jacobian[..., 3:], 0, atol=1e-13)


def test_a_memory_that_its_heads_do_not_see_does_not_decay(inputs, rng):
    cell = NRU(2, 3, memory_size=8, heads=2)
    drawn = moved(cell, rng)
    ds = run(cell, drawn | {"B": 0 * drawn["B"], "C": 0 * drawn["C"]}, inputs, ["jacobian_product"])
    assert (ds.jacobian_product[-1, 0, 0, 3:, 3:].values == np.eye(8)).all()


def test_what_one_head_writes_has_the_length_of_its_strength(inputs, rng):
    cell = NRU(2, 3, memory_size=4, heads=1)
    params = moved(cell, rng)
    params = {n: 0 * p if n in "ABC" else p for n, p in params.items()}
    params["d"] = np.array([2.5, -1.0, *[1.0, 0.3], *[0.5, -0.7], *np.ones(4)])
    ds = run(cell, params, inputs)
    written = np.diff(ds.state[..., 3:], axis=0)
    np.testing.assert_allclose(np.linalg.norm(written, 5, axis=-1), 2.5, rtol=1e-12)


def test_a_memory_that_cannot_be_parted_is_refused():
    with refused(InputError, "NRU", "square", "4 * 10"):
        NRU(2, 3, memory_size=10, heads=4)

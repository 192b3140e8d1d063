"""The shipped cells against values from outside: PyTorch, closed forms, published numbers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from probes.recorders import InputGradient

import gradsim
from gradsim import Cell, Episode, Task
from gradsim_cells import GRU, LRU, LSTM, Elman, Linear, MinGRU, Stack
from gradsim_initializers import Ring

REFERENCE = Path(__file__).parents[1] / "reference"


@dataclass(frozen=True, eq=False)
class Inner(Task):
    """L = (1/batch) sum over t, b of <q_tb, y_tb>, on given inputs."""

    name = "inner"
    inputs: np.ndarray
    targets: np.ndarray

    @property
    def input_size(self):
        return self.inputs.shape[2]

    @property
    def output_size(self):
        return self.targets.shape[2]

    def sample(self, rng, batch):
        return Episode(self.inputs, self.targets, np.ones(self.inputs.shape[:2]))

    def loss(self, outputs, targets, xp):
        return xp.sum(outputs * targets, axis=-1)


def identity_readout(size):
    return {"readout_W": np.eye(size), "readout_b": np.zeros(size)}


TORCH = {
    "elman": (Elman(2, 4), {"W": "weight_ih", "U": "weight_hh", "b": "bias_ih"}),
    "gru": (GRU(2, 4), {"W": "weight_ih", "U": "weight_hh", "b": "bias_ih", "c": "bias_hh"}),
    "lstm": (LSTM(2, 4), {"W": "weight_ih", "U": "weight_hh", "b": "bias_ih"}),
    "stack": (
        Stack((LSTM(2, 4), LSTM(4, 4))),
        {
            f"layer{i}_{ours}": f"{theirs}_l{i}"
            for i in range(2)
            for ours, theirs in (("W", "weight_ih"), ("U", "weight_hh"), ("b", "bias_ih"))
        },
    ),
}


@pytest.mark.parametrize("kind", TORCH)
def test_agrees_with_pytorch(kind):
    cell, names = TORCH[kind]
    with np.load(REFERENCE / f"{kind}.npz") as file:
        torch = dict(file)
    params = {ours: torch[theirs] for ours, theirs in names.items()}
    if kind != "gru":
        for ours, theirs in names.items():
            if ours.endswith("b"):
                params[ours] = torch[theirs] + torch[theirs.replace("_ih", "_hh")]
    ds = gradsim.simulate(
        cell,
        task=Inner(torch["inputs"], torch["targets"]),
        batch=torch["inputs"].shape[1],
        params={**params, **identity_readout(4)},
        initial_state=torch["states"][0],
        record=["state", "adjoint", "gradient", "jacobian_product"],
    )
    close = {"rtol": 1e-10, "atol": 1e-14}
    np.testing.assert_allclose(ds.state, torch["states"], **close)
    np.testing.assert_allclose(ds.adjoint, torch["adjoints"], **close)
    np.testing.assert_allclose(ds.jacobian_product[-1, 0, 0], torch["product"], **close)
    for ours, theirs in names.items():
        np.testing.assert_allclose(ds[f"gradient_{ours}"], torch[f"grad_{theirs}"], **close)


@pytest.mark.parametrize(
    "cell",
    [Linear(2, 4), GRU(2, 4), LSTM(2, 2), *(Elman(2, 4, activation=a) for a in ("tanh", "relu", "logistic"))],
    ids=lambda c: getattr(c, "activation", c.name),
)
def test_analytic_second_derivatives_are_those_of_autograd(cell, rng):
    params = {n: rng.standard_normal(p.shape) for n, p in cell.init_params(rng).items()}
    state, x = rng.standard_normal((6, 3, 4)), rng.standard_normal((6, 3, 2))
    left, right = rng.standard_normal((2, 5, 6, 3, 4))
    gradient, states = cell.bilinear_vjp(params, state, x, left, right)
    free, free_states = Cell.bilinear_vjp(cell, params, state, x, left, right)
    np.testing.assert_allclose(states, free_states, rtol=1e-12, atol=1e-13)
    assert gradient.keys() == free.keys()
    for name, value in free.items():
        np.testing.assert_allclose(gradient[name], value, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_linear_products_are_powers(dtype):
    cell = Linear(input_size=1, hidden_size=6)
    ds = gradsim.simulate(cell, np.zeros((20, 2, 1)), record=["jacobian_product"], dtype=dtype)
    w = cell.init_params(np.random.default_rng(np.random.SeedSequence(0, spawn_key=(0,))))["U"]
    tolerance = 1e-12 if dtype == "float64" else 3e-5
    for t, k in [(0, 0), (1, 0), (20, 0), (20, 13), (20, 20)]:
        power = np.linalg.matrix_power(w, t - k)
        error = np.linalg.norm(ds.jacobian_product.sel(time=t, source=k) - power, axis=(1, 2))
        assert (error <= tolerance * np.linalg.norm(power)).all()


def test_jordan_block_grows_before_it_vanishes():
    """Closed form of the spectral norm of [[l, 1], [0, l]]^T for l = 0.9."""
    params = {"U": np.array([[0.9, 1], [0, 0.9]]), "W": np.zeros((2, 1))}
    pairs = gradsim.Pairs(sources=(0,))
    ds = gradsim.simulate(
        Linear(1, 2), np.zeros((100, 1, 1)), params=params, record=["product_spectral_norm"], pairs=pairs
    )
    expected = {1: 1.5295630140987, 10: 3.905335799309278, 50: 0.286413582767, 100: 0.00295150557630}
    for t, value in expected.items():
        assert ds.product_spectral_norm.sel(time=t).item() == pytest.approx(value, rel=1e-11)


def test_lstm_gradient_is_a_slice_of_the_joint_product():
    """dh_50/dh_0 at forget bias 3: right from the joint product, nothing like the product of h-h blocks."""
    rng = np.random.default_rng(4)
    cell = LSTM(input_size=1, hidden_size=32, forget_bias=3)
    x = rng.standard_normal((50, 1, 1))
    params = cell.init_params(np.random.default_rng(1))
    ds = gradsim.simulate(
        cell,
        x,
        params=params,
        record=["jacobian_product", "step_jacobian"],
        pairs=gradsim.Pairs(times=(-1,), sources=(0,)),
    )
    joint = ds.jacobian_product[0, 0, 0]
    h = (joint.block_out == "h") & (joint.block_in == "h")
    dh_dh = joint.values[h.any("state_in")][:, h.any("state_out")]

    def last_h(first_h):
        state = np.concatenate((first_h, np.zeros(32)))
        end = gradsim.simulate(cell, x, params=params, initial_state=state, record=["state"])
        return end.state[-1, 0, :32].values

    eye = 1e-5 * np.eye(32)
    differences = np.stack([(last_h(d) - last_h(-d)) / 2e-5 for d in eye], axis=1)
    np.testing.assert_allclose(np.linalg.norm(dh_dh), np.linalg.norm(differences), rtol=1e-5)
    np.testing.assert_allclose(dh_dh, differences, rtol=1e-5, atol=1e-7 * np.abs(dh_dh).max())
    naive = np.linalg.multi_dot(ds.step_jacobian[::-1, 0, :32, :32].values)
    assert np.linalg.norm(naive) < 1e-10 * np.linalg.norm(dh_dh)


def test_lstm_without_recurrent_weights_multiplies_its_forget_gates():
    """dc_T/dc_0 = diag of the product of f_t when the gates see no state."""
    cell = LSTM(input_size=2, hidden_size=3)
    rng = np.random.default_rng(0)
    params = cell.init_params(rng) | {"U": np.zeros((12, 3))}
    x = rng.standard_normal((30, 1, 2))
    ds = gradsim.simulate(cell, x, params=params, record=["jacobian_product"])
    f = 1 / (1 + np.exp(-(x[:, 0] @ params["W"].T + params["b"])[:, 3:6]))
    np.testing.assert_allclose(ds.jacobian_product[-1, 0, 0, 3:, 3:], np.diag(f.prod(axis=0)), rtol=1e-12)


def test_lstm_with_open_forget_gates_carries_the_error_unchanged():
    """The constant error carousel (Hochreiter & Schmidhuber 1997): exactly 1 at every lag."""
    cell = LSTM(input_size=1, hidden_size=2, forget_bias=1e3)
    params = cell.init_params(np.random.default_rng(0)) | {"U": np.zeros((8, 2))}
    ds = gradsim.simulate(cell, np.ones((100, 1, 1)), params=params, record=["jacobian_product"])
    assert (ds.jacobian_product[-1, 0, 0, 2:, 2:].values == np.eye(2)).all()


@pytest.mark.parametrize(
    ("w", "slope"),
    [(1.1, 0.821755855881845), (1.5, 0.39431302549860275), (3, 0.030512846047867748)],
)
def test_scalar_tanh_settles_at_the_slope_of_its_fixed_point(w, slope):
    params = {"U": [[w]], "W": [[0.0]], "b": [0.0]}
    ds = gradsim.simulate(
        Elman(1, 1), np.zeros((200, 1, 1)), params=params, initial_state=[0.5], record=["step_jacobian"]
    )
    assert ds.step_jacobian[-1].item() == pytest.approx(slope, rel=1e-10)


def test_tent_map_as_a_relu_network_explodes_exactly():
    """|dz_T/dz_0| = mu^T on the tent map (Mikhaeil, Monfared & Durstewitz 2022, theorem 2)."""
    mu = 1.9
    # z_1 = mu x, z_2 = 2 mu (x - 1/2)^+ with x = z_1' - z_2' of the old units: tent(x) = z_1 - z_2.
    params = {"U": mu * np.array([[1.0, -1.0], [2.0, -2.0]]), "W": np.zeros((2, 1)), "b": [0, -mu]}
    ds = gradsim.simulate(
        Elman(1, 2, activation="relu"),
        np.zeros((100, 1, 1)),
        params=params,
        initial_state=[0.37, 0.0],
        record=["jacobian_product"],
    )
    change = ds.jacobian_product[-1, 0, 0].values
    assert abs(change[0, 0] - change[1, 0]) == pytest.approx(mu**100, rel=1e-12)


def test_lru_products_rotate_and_decay():
    cell = LRU(input_size=1, hidden_size=5)
    ds = gradsim.simulate(cell, np.zeros((60, 1, 1)), record=["jacobian_product", "lyapunov"])
    params = cell.init_params(np.random.default_rng(np.random.SeedSequence(0, spawn_key=(0,))))
    eigenvalue = np.exp(-np.exp(params["nu"]) + 1j * np.exp(params["theta"]))
    power = eigenvalue**45
    block = ds.jacobian_product.sel(time=60, source=15, batch=0)
    np.testing.assert_allclose(block[:, 0, 0], power.real, rtol=1e-10, atol=1e-15)
    np.testing.assert_allclose(block[:, 1, 0], power.imag, rtol=1e-10, atol=1e-15)
    decay = np.sort(np.repeat(np.log(np.abs(eigenvalue)), 2))[::-1]
    np.testing.assert_allclose(ds.lyapunov[0], decay, rtol=1e-12)


def test_lru_gamma_normalises_and_eigenvalues_fill_the_ring():
    """E 1/(1 - |lambda|^2) for r in [0.4, 0.9] (Orvieto et al. 2023)."""
    cell = LRU(hidden_size=200_000, recurrent_init=Ring(0.4, 0.9))
    params = cell.init_params(np.random.default_rng(0))
    square = np.exp(-2 * np.exp(params["nu"]))
    np.testing.assert_allclose(np.exp(2 * params["log_gamma"]), 1 - square, rtol=1e-9)
    assert np.mean(1 / (1 - square)) == pytest.approx(2.28673510719519, rel=5e-3)


def test_min_gru_products_are_elementwise(inputs):
    cell = MinGRU(input_size=2, hidden_size=4)
    ds = gradsim.simulate(cell, inputs, record=["jacobian_product", "step_jacobian"])
    expected = ds.step_jacobian.prod("step").values
    np.testing.assert_allclose(ds.jacobian_product[-1, 0], expected, rtol=1e-12)


def test_gru_conventions_agree_without_recurrent_candidate(inputs):
    """With U_n = 0 it does not matter where the reset gate acts."""
    params = GRU(2, 4).init_params(np.random.default_rng(0))
    params["U"][8:] = 0
    runs = [
        gradsim.simulate(GRU(2, 4, reset_after=r), inputs, params=params, record=["state"])
        for r in (True, False)
    ]
    np.testing.assert_allclose(runs[0].state, runs[1].state, rtol=1e-12)
    params["U"][8:] = 1
    runs = [
        gradsim.simulate(GRU(2, 4, reset_after=r), inputs, params=params, record=["state"])
        for r in (True, False)
    ]
    assert np.abs(runs[0].state - runs[1].state).max() > 1e-3


def test_the_slope_of_relu_at_zero_is_zero_in_every_derivative():
    """Preactivations of exactly 0, as a first step without inputs has them; alone and above another layer."""
    cell, above = Elman(2, 3, activation="relu"), Stack((Linear(1, 2), Elman(2, 3, activation="relu")))
    for c in (cell, above):
        params = c.init_params(np.random.default_rng(0))
        ds = gradsim.simulate(
            c,
            np.zeros((2, 2, c.input_size)),
            params=params,
            record=["adjoint", "contribution", "step_jacobian", InputGradient()],
        )
        relu = slice(c.state_size - 3, None)
        assert (ds.step_jacobian[:, :, relu] == 0).all()
        assert (ds.adjoint[-1, :, relu] == 1 / 2).all()
        assert (ds.adjoint[:-1] == 0).all()
        assert (ds.input_gradient == 0).all()
        for name in params:
            assert (ds[f"contribution_{name}"] == 0).all(), name

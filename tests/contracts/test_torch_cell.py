"""Steps that are modules of PyTorch: its numbers, those of the shipped cells, and refusals."""

from __future__ import annotations

import gc
import json
import pickle
import subprocess
import sys
import weakref
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
import pytest
import torch
from torch import nn

import gradsim
from gradsim import TorchCell, from_torch
from gradsim.contracts.trajectory import Trajectory, one_by_one
from gradsim.engine.pulled import contributions_of, gradient_of
from gradsim.errors import DerivativeError, InputError, PluginError, UnknownNameError
from gradsim.testing import check_cell
from gradsim_cells import Residual, Stack
from gradsim_mitigations import JacobianPenalty
from gradsim_optimizers import Adam
from gradsim_tasks import Adding

INPUT, HIDDEN = 3, 4
ONE, TWO = {"h": HIDDEN}, {"h": HIDDEN, "c": HIDDEN}
X = np.random.default_rng(0).standard_normal((9, 5, INPUT))


class Own(nn.Module):
    """Layers of one's own; `inside` comes between."""

    def __init__(self, inside=None):
        super().__init__()
        self.inputs, self.state = nn.Linear(INPUT, HIDDEN), nn.Linear(HIDDEN, HIDDEN)
        self.norm, self.inside = nn.LayerNorm(HIDDEN), inside or nn.Identity()
        self.register_buffer("scale", torch.tensor(0.7))

    def sums(self, x, h):
        return self.inputs(x) + self.state(h)

    def forward(self, x, h):
        return torch.tanh(self.scale * self.inside(self.norm(self.sums(x, h))))


def step(params, x, state):
    h, c = state
    c = torch.tanh(x @ params["in.W"].T + h @ params["U"].T) + 0.5 * c
    return torch.sin(c), c


PARAMS = {
    "in.W": torch.linspace(-1, 1, HIDDEN * INPUT).reshape(HIDDEN, INPUT),
    "U": np.random.default_rng(1).standard_normal((HIDDEN, HIDDEN)),
}


def own(module=None, **options):
    torch.manual_seed(1)
    return from_torch(module or Own(), **({"input_size": INPUT, "blocks": ONE} | options))


MODELS = {
    "layers": own,
    "function": lambda: own(step, params=PARAMS, blocks=TWO),
    "lstm": lambda: own(nn.LSTMCell(INPUT, HIDDEN), blocks=TWO),
}


@pytest.mark.parametrize("kind", MODELS)
def test_it_keeps_the_contract_of_a_cell(kind):
    check_cell(MODELS[kind]().cell)


def arrays(cell, params, dtype="float64"):
    rng = np.random.default_rng(2)
    state, u = rng.standard_normal((2, 9, 5, cell.state_size)).astype(dtype)
    return {n: p.astype(dtype) for n, p in params.items()}, state, X.astype(dtype), u


@pytest.mark.parametrize(
    ("make", "blocks"), [(nn.RNNCell, ONE), (nn.GRUCell, ONE), (nn.LSTMCell, TWO)], ids=["rnn", "gru", "lstm"]
)
def test_the_numbers_are_those_of_the_shipped_cells(make, blocks):
    torch.manual_seed(3)
    module = make(INPUT, HIDDEN)
    (ours, params), (theirs, known) = own(module, blocks=blocks), from_torch(module)
    _, state, x, u = arrays(ours, params)
    for method, more in (("step_jacobian", ()), ("state_vjp", (u,))):
        a, b = (getattr(c, method)(p, state, x, *more) for c, p in ((ours, params), (theirs, known)))
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)
    a, b = (c.params_vjp(p, state, x, u) for c, p in ((ours, params), (theirs, known)))
    np.testing.assert_allclose(a["weight_hh"], b["U"], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(a["weight_ih"], b["W"], rtol=1e-12, atol=1e-12)

    runs = [
        gradsim.simulate(c, X, params=p, record=["state", "step_jacobian", "product_norm"])
        for c, p in ((ours, params), (theirs, known))
    ]
    for name in runs[0].data_vars:
        np.testing.assert_allclose(*(ds[name].values for ds in runs), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("kind", MODELS)
def test_states_adjoints_and_gradients_are_those_of_pytorch(kind):
    cell, params = MODELS[kind]()
    given = {n: torch.tensor(p, requires_grad=True) for n, p in params.items()}
    states = [torch.zeros(5, cell.state_size, dtype=torch.float64)]
    for x in torch.from_numpy(X):
        states.append(cell.step(given, states[-1], x, torch))
        states[-1].retain_grad()
    q = np.random.default_rng(4).standard_normal((9, 5, cell.state_size))
    sum((torch.from_numpy(w) * s).sum() for w, s in zip(q, states[1:], strict=True)).backward()

    taken = cell.unroll(params, np.zeros((5, cell.state_size)), X, {}, one_by_one)
    direct = np.concatenate((np.zeros_like(q[:1]), q[:-1]))
    pulled = taken.pull(q[-1], direct)
    np.testing.assert_allclose(taken.states, torch.stack(states).detach(), rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(pulled.adjoints[1:], [s.grad for s in states[1:]], rtol=1e-12, atol=1e-13)
    for name, value in gradient_of(taken, pulled).items():
        np.testing.assert_allclose(value, given[name].grad, rtol=1e-12, atol=1e-12)
    each = contributions_of(taken, pulled)
    for name, value in each.items():
        np.testing.assert_allclose(value.sum(axis=0), given[name].grad, rtol=1e-12, atol=1e-12)


def test_a_long_way_back_is_that_of_single_steps(monkeypatch):
    monkeypatch.setattr("gradsim.numerics.autodiff.by_torch._HELD", 4)
    cell, params = own()
    taken = cell.unroll(params, np.zeros((5, HIDDEN)), X, {}, one_by_one)
    plain = Trajectory(cell, params, taken.states, X, {})
    q = np.random.default_rng(5).standard_normal((10, 5, HIDDEN))
    for steps in (range(1, 10), range(1, 4), range(3, 9), range(6, 10)):
        rows = slice(steps.start - 1, steps.stop - 1)
        ours, theirs = (t[steps].pull(q[steps.stop - 1], q[rows]) for t in (taken, plain))
        np.testing.assert_allclose(ours.adjoints, theirs.adjoints, rtol=1e-12, atol=1e-14)
        mine, expected = (gradient_of(plain[steps], p) for p in (ours, theirs))
        for name, value in expected.items():
            np.testing.assert_allclose(mine[name], value, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (9, 1)], ids=str)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_one_step_and_one_sequence_do(shape, dtype):
    cell, params = own()
    x = X[: shape[0], : shape[1]]
    ds = gradsim.simulate(cell, x, params=params, record=["state", "step_jacobian"], dtype=dtype)
    assert ds.state.dtype == dtype
    assert ds.step_jacobian.shape == (*shape, HIDDEN, HIDDEN)
    with torch.no_grad():
        torch.manual_seed(1)
        h = Own()(torch.from_numpy(x[0]).float(), torch.zeros(shape[1], HIDDEN))
    np.testing.assert_allclose(ds.state.isel(time=1), h, rtol=1e-5, atol=1e-6)


@dataclass(frozen=True, eq=False)
class Drawn(TorchCell):
    """A cell that draws its module."""

    name = "drawn"
    input_size: int = 2
    hidden_size: int = 3

    @property
    def blocks(self):
        return {"h": self.hidden_size}

    def module(self):
        return nn.GRUCell(self.input_size, self.hidden_size)


def test_a_cell_that_makes_its_module_draws_it_from_the_rng():
    check_cell(Drawn())
    before = torch.get_rng_state()
    one, same, other = (Drawn().init_params(np.random.default_rng(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one["weight_hh"], same["weight_hh"])
    assert not np.array_equal(one["weight_hh"], other["weight_hh"])
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("around", [Residual, lambda cell: Stack((cell, Drawn(HIDDEN)))])
def test_it_goes_into_other_cells(around):
    found = gradsim.simulate(around(own().cell), X, record=["step_jacobian", "product_norm"])
    assert np.isfinite(found.step_jacobian).all()


def test_penalties_on_jacobians_have_second_derivatives():
    cell, params = own()
    found = gradsim.simulate(
        cell, X, params=params, mitigations=[JacobianPenalty(weight=0.1)], record=["effective_gradient"]
    )
    assert found.attrs["penalty"] > 0


def test_what_it_learns_goes_back_into_the_module(tmp_path):
    torch.manual_seed(5)
    module = nn.GRUCell(2, HIDDEN)
    module.bias_ih.requires_grad_(False)
    cell, params = from_torch(module, input_size=2, blocks=ONE)
    given = {"task": Adding(length=20), "batch": 8, "params": params, "rng": 0}
    given["optimizer"] = Adam(learning_rate=0.01)
    ds = gradsim.train(cell, **given, updates=6, store=tmp_path / "a")
    learned = gradsim.trained_params(ds)
    assert json.loads(ds.attrs["provenance"])["versions"]["torch"] == version("torch")
    again, _ = from_torch(module, input_size=2, blocks=ONE)  # as in another process
    resumed = gradsim.train(again, **given, updates=6, store=tmp_path / "a", resume=True)
    np.testing.assert_array_equal(resumed.trained_weight_hh, ds.trained_weight_hh)
    module.load_state_dict(cell.state_dict(learned))
    for name, p in module.named_parameters():
        np.testing.assert_allclose(p.detach(), learned[name], rtol=1e-6)
        assert np.array_equal(learned[name], params[name]) == (name == "bias_ih")
    with pytest.raises(UnknownNameError, match="unknown parameter 'weight_ih'"):
        cell.state_dict({})


def test_names_of_a_function_come_back_with_their_dots():
    cell, params = own(step, params=PARAMS, blocks=TWO)
    assert list(params) == ["in_W", "U"]
    assert list(cell.state_dict(params)) == ["in.W", "U"]


def test_weights_that_are_tied_are_one_parameter():
    module = Own()
    module.again = module.state
    cell, params = own(module)
    assert "again_weight" not in params
    module.load_state_dict(cell.state_dict(params))


def test_no_graph_outlives_a_run():
    cell, params = own()
    taken = cell.unroll(params, np.zeros((5, HIDDEN)), X, {}, one_by_one)
    last = weakref.ref(taken.block._held[0][-1][0])
    gc.disable()
    try:
        del taken
        assert last() is None
    finally:
        gc.enable()
    assert all(p.grad is None and p.grad_fn is None for p in cell._own.parameters())


def test_the_number_of_threads_changes_no_bit():
    cell, params = from_torch(nn.GRUCell(64, 256), input_size=64, blocks={"h": 256})
    x = np.random.default_rng(0).standard_normal((3, 32, 64))
    before, found = torch.get_num_threads(), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        taken = cell.unroll(params, np.zeros((32, 256)), x, {}, one_by_one)
        found.append((taken.states, taken.pull(taken.states[-1], taken.states[:-1]).gradient()["weight_hh"]))
        assert torch.get_num_threads() == threads
    torch.set_num_threads(before)
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode])
def test_what_is_in_force_around_changes_nothing(around):
    expected = gradsim.simulate(*of(own()), record=["step_jacobian"])
    with around():
        found = gradsim.simulate(*of(own()), record=["step_jacobian"])
    np.testing.assert_array_equal(found.step_jacobian, expected.step_jacobian)


def of(model):
    return model.cell, X


def test_a_copy_through_pickle_is_the_same_cell():
    cell, params = own()
    gradsim.simulate(cell, X, params=params)
    again = pickle.loads(pickle.dumps(cell))
    assert repr(again) == repr(cell)
    np.testing.assert_array_equal(*(c.step(params, np.zeros((5, HIDDEN)), X[0], np) for c in (cell, again)))


class ByRow(Own):
    """Looks at numbers, which does not go side by side."""

    def forward(self, x, h):
        rows = self.sums(x, h)
        return torch.stack([torch.tanh(r) if r[0].item() > 0 else torch.sin(r) for r in rows])


def test_a_module_that_looks_at_numbers_does():
    gradsim.simulate(*of(own(ByRow())), record=["step_jacobian", "product_norm"])
    cell, params = own(ByRow())
    _, state, x, u = arrays(cell, params)
    found = cell.params_vjp(params, state, x, u)
    for t in range(9):
        for name, value in cell.params_vjp(params, state[t], x[t], u[t]).items():
            np.testing.assert_allclose(found[name][t], value, rtol=1e-12, atol=1e-13)


class Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx, g):
        return g / (1 + ctx.saved_tensors[0].abs()) ** 2


class Variant(Own):
    """Another way to make the state of the sums."""

    def __init__(self, made):
        super().__init__()
        self.made, self.calls = made, 0

    def forward(self, x, h):
        self.calls += 1
        return self.made(self, x, h)


def detached(self, x, h):
    return torch.tanh(self.sums(x, h.detach()))


def spiking(self, x, h):
    return Spike.apply(self.sums(x, h))


@pytest.mark.parametrize("made", [detached, spiking])
def test_a_gradient_that_is_none_is_refused_unless_on_purpose(made):
    with pytest.raises(DerivativeError, match=r"differs from central differences .* say exact=False"):
        gradsim.simulate(*of(own(Variant(made))), record=["step_jacobian"])
    found = gradsim.simulate(*of(own(Variant(made), exact=False)), record=["step_jacobian"])
    assert '"step_jacobian": "surrogate"' in found.attrs["provenance"]


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (lambda: Own(nn.Dropout(0.5)), r"draws random numbers when it is called; put it into .eval\(\)"),
        (
            lambda: Own(nn.BatchNorm1d(HIDDEN)),
            "changes its own 'inside.num_batches_tracked' when",
        ),
        (lambda: Variant(lambda self, x, h: h.mul_(0.5) + self.inputs(x)), "changes x or the state in place"),
        (
            lambda: Variant(lambda self, x, h: (h, h)),
            r"makes \(2, 4\) float64 and \(2, 4\)",
        ),
        (
            lambda: Variant(lambda self, x, h: h[:, :2]),
            r"makes \(2, 2\) float64, where one like it is",
        ),
        (lambda: Variant(lambda self, x, h: None), "makes a NoneType, where one like it"),
        (lambda: nn.GRUCell(2, HIDDEN), r"module\(\) raised RuntimeError"),
    ],
)
def test_what_is_no_step_is_refused(module, message):
    with pytest.raises(PluginError, match=message):
        own(module())


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda self, x, h: torch.softmax(self.sums(x, h), dim=0), "of one batch element alone differs"),
        (lambda self, x, h: torch.tanh(self.sums(x, h) + self.calls), "two results for the same arguments"),
    ],
    ids=["rows that see each other", "hidden state"],
)
def test_what_depends_on_more_than_its_arguments_is_refused(made, message):
    with pytest.raises(PluginError, match=message):
        gradsim.simulate(*of(own(Variant(made))))


@pytest.mark.parametrize("inside", [nn.Dropout(0.5), nn.BatchNorm1d(HIDDEN)], ids=["dropout", "batch norm"])
def test_what_is_meant_for_training_goes_once_it_evaluates(inside):
    gradsim.simulate(*of(own(Own(inside).eval())), record=["step_jacobian"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda: own(blocks=None), "needs input_size and blocks of Own"),
        (lambda: own(blocks=["h"]), r'blocks should be sizes by name, such as {"h": 8} \(got'),
        (lambda: own(Own), "needs a module, and Own is the class; call it"),
        (lambda: own(input_size=0), "input_size should be greater than 0"),
        (lambda: own(prefix="encoder."), "takes no prefix"),
        (lambda: own(params=PARAMS), "Own has parameters of its own; leave out params"),
        (lambda: own(step), "a function step"),
        (lambda: own(step, params={"a.b": X, "a_b": X}), "would have one name"),
        (lambda: own(step, params={"U": np.arange(3)}), r"params\['U'\] is of torch.int64"),
        (lambda: from_torch(Own()), 'from_torch\\(module, input_size=3, blocks={"h": 8}\\)'),
    ],
)
def test_what_does_not_fit_is_refused(given, message):
    with pytest.raises(InputError, match=message):
        given()


def test_pytorch_is_loaded_by_who_asks_for_it():
    code = "import sys, gradsim; gradsim.TorchCell, gradsim.from_torch; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_pytorch_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'gradsim\[torch\]'"):
        Drawn().init_params(np.random.default_rng(0))

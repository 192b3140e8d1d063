"""Models from elsewhere: the same outputs, adjoints and gradients as the library that they come from."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import gradsim
from gradsim import from_torch, load_weights
from gradsim.errors import InputError, UnknownNameError

X = np.random.default_rng(0).standard_normal((9, 3, 2))

MODULES = {
    "rnn": lambda: torch.nn.RNN(2, 4),
    "relu": lambda: torch.nn.RNN(2, 4, nonlinearity="relu"),
    "gru": lambda: torch.nn.GRU(2, 4),
    "lstm": lambda: torch.nn.LSTM(2, 4),
    "no bias": lambda: torch.nn.LSTM(2, 4, bias=False),
    "projected": lambda: torch.nn.LSTM(2, 5, proj_size=4, num_layers=2),
    "two layers": lambda: torch.nn.LSTM(2, 4, num_layers=2),
    "three layers": lambda: torch.nn.GRU(2, 4, num_layers=3),
}


def module_of(kind):
    torch.manual_seed(7)
    return MODULES[kind]().double()


def last_block(ds):
    """The states of the block h that is read, (time, batch, n), from time 1 on."""
    h = [b for b in np.unique(ds.block) if b.endswith("h")][-1]
    return ds.state.sel(component=ds.block == h).transpose("time", "batch", "component").values[1:]


@pytest.mark.parametrize("kind", MODULES)
def test_outputs_and_gradients_are_those_of_pytorch(kind):
    module = module_of(kind)
    cell, params = from_torch(module)
    q = np.random.default_rng(1).standard_normal((9, 3, 4))

    outputs, _ = module(torch.from_numpy(X))
    (outputs * torch.from_numpy(q)).sum().backward()
    ds = gradsim.simulate(cell, X, params=params, record=["state"])
    np.testing.assert_allclose(last_block(ds), outputs.detach().numpy(), rtol=1e-12, atol=1e-14)

    first = "layer0_W" if "layer0_W" in params else "W"
    moved = {**params, first: params[first] + 1e-6}
    there = gradsim.simulate(cell, X, params=moved, record=["state"])
    slope = ((last_block(there) - last_block(ds)) * q).sum() / 1e-6
    assert slope == pytest.approx(module.weight_ih_l0.grad.sum().item(), rel=1e-4)


@pytest.mark.parametrize("make", [torch.nn.RNNCell, torch.nn.GRUCell, torch.nn.LSTMCell])
def test_cell_classes_come_in_too(make):
    torch.manual_seed(7)
    module = make(2, 4).double()
    cell, params = from_torch(module)
    state = None
    for x in torch.from_numpy(X):
        state = module(x, state)
    h = state[0] if isinstance(state, tuple) else state
    found = last_block(gradsim.simulate(cell, X, params=params, record=["state"]))[-1]
    np.testing.assert_allclose(found, h.detach().numpy(), rtol=1e-12, atol=1e-14)


def test_a_network_within_a_larger_model_is_found_by_its_prefix():
    model = torch.nn.ModuleDict({"encoder": module_of("gru"), "head": torch.nn.Linear(4, 1)})
    cell, params = from_torch(model, prefix="encoder.")
    direct = from_torch(module_of("gru"))
    assert repr(cell) == repr(direct.cell)
    for name, value in direct.params.items():
        np.testing.assert_array_equal(params[name], value)


def test_the_activation_of_a_network_within_a_larger_model_is_its_own():
    model = torch.nn.Sequential(module_of("relu"), torch.nn.Identity())
    cell, params = from_torch(model, prefix="0.")
    outputs, _ = model[0](torch.from_numpy(X))
    ds = gradsim.simulate(cell, X, params=params, record=["state"])
    np.testing.assert_allclose(last_block(ds), outputs.detach().numpy(), rtol=1e-12, atol=1e-14)


def test_tensors_and_arrays_may_be_mixed():
    cell, params = from_torch({"weight_hh": np.eye(2), "weight_ih": torch.ones(2, 1).bfloat16()})
    assert repr(cell) == "Elman(input_size=1, hidden_size=2, activation='tanh')"
    np.testing.assert_array_equal(params["W"], np.ones((2, 1)))


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (
            lambda: torch.nn.LSTM(2, 3, bidirectional=True),
            InputError,
            "_l0_reverse .* two directions",
        ),
        (lambda: torch.nn.Linear(2, 3), InputError, r"Linear is none; of a step of your own, module\(x, h\)"),
        (lambda: {"weight": torch.ones(2, 3)}, UnknownNameError, "unknown weight of torch 'weight_hh'"),
        (
            lambda: "rnn.pt",
            InputError,
            "needs a module of PyTorch or its state_dict, not 'rnn.pt'",
        ),
        (lambda: {}, InputError, "no weight begins with ''; there are: none"),
        (
            lambda: {"weight_hh": np.ones((4, 3)), "weight_ih": np.ones((4, 2))},
            InputError,
            r"weight_hh is \(4, 3\), where \(n, n\), \(3 n, n\) or \(4 n, n\) is needed",
        ),
        (
            lambda: {"weight_hh": np.ones((3, 3)), "weight_ih": np.ones((4, 2))},
            InputError,
            r"weight_ih has shape \(4, 2\), where \(3, 2\) is needed",
        ),
        (
            lambda: {"weight_hh": np.ones((3, 3)), "weight_ih": np.ones((3, 2)), "scale": np.ones(3)},
            InputError,
            "scale would not be used; leave them out, or take another layout",
        ),
    ],
)
def test_what_does_not_fit_is_refused(given, error, message):
    with pytest.raises(error, match=message):
        from_torch(given())


NAN = np.array([[1.0, np.nan], [0.0, 1.0]])

ODD = {
    "not a number": (NAN, r"weight_hh is nan at index \(0, 1\); weights are finite"),
    "infinite": (np.longdouble("1e400") * np.ones((2, 2)), r"weight_hh is inf at index \(0, 0\)"),
    "masked": (np.ma.masked_invalid(NAN), "weight_hh is no array: has 1 masked entries"),
    "ragged": ([[1.0], [1.0, 2.0]], "weight_hh is no array: .* inhomogeneous"),
    "complex": (torch.eye(2) * 1j, r"weight_hh is of shape \(2, 2\) and dtype complex64"),
    "sparse": (torch.eye(2).to_sparse(), "weight_hh is a tensor that cannot become an array: .*Sparse"),
    "without data": (torch.empty(2, 2, device="meta"), "weight_hh is a tensor .* no data"),
}


@pytest.mark.parametrize("kind", ODD)
def test_weights_that_are_none_are_named(kind):
    value, message = ODD[kind]
    with pytest.raises(InputError, match=message):
        load_weights({"weight_hh": value, "weight_ih": np.ones((2, 1))}, "torch")


WEIGHTS = {"weight_hh": np.eye(2), "weight_ih": np.ones((2, 1))}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weights": {0: np.eye(2)}}, r"weights have names, such as 'weight_hh_l0' \(got 0\)"),
        ({"weights": 3}, r"weights should be a file or named arrays \(got 3\)"),
        ({"prefix": 3}, r"prefix should be text, such as 'encoder.rnn.' \(got 3\)"),
        ({"layout": gradsim.Layout}, r"layout should be a name, such as 'torch', or a Layout"),
    ],
)
def test_arguments_of_another_kind_are_named(arguments, message):
    with pytest.raises(InputError, match=message):
        load_weights(**{"weights": WEIGHTS, "layout": "torch"} | arguments)


def test_a_class_is_no_module():
    with pytest.raises(InputError, match="needs a module of PyTorch or its state_dict, not <class"):
        from_torch(torch.nn.LSTM)


def test_weights_that_are_made_of_others_are_told_how_to_become_plain():
    module = torch.nn.utils.parametrizations.weight_norm(torch.nn.LSTM(2, 3), "weight_hh_l0")
    with pytest.raises(InputError, match=r"remove_parametrizations\(module, weight\)"):
        from_torch(module)


def test_a_model_of_very_many_names_makes_no_message_of_them_all():
    with pytest.raises(InputError, match=r"there are: x0, x1, .*\.\.\.$") as error:
        load_weights({f"x{i}": np.ones(1) for i in range(10_000)}, "torch", prefix="rnn.")
    assert len(str(error.value)) < 5000


def test_an_unknown_layout_offers_the_nearest():
    with pytest.raises(UnknownNameError, match="unknown layout 'keras_lsm'; did you mean 'keras_lstm'"):
        load_weights({"kernel": np.ones((2, 3))}, "keras_lsm")


@pytest.mark.parametrize(
    ("layout", "names"),
    [
        ("torch", ("weight_ih", "weight_hh")),
        ("torch", ("weight_ih", "weight_hh", "weight_hr")),
        ("keras_rnn", ("kernel", "recurrent_kernel")),
        ("keras_gru", ("kernel", "recurrent_kernel", "bias")),
        ("onnx_lstm", ("W", "R", "B", "P")),
    ],
)
@pytest.mark.parametrize(
    "weight",
    [np.zeros(()), np.zeros(0), np.zeros((0, 0)), np.zeros(1), np.zeros((1, 1, 1, 1)), [["a"]], [[1j]]],
    ids=lambda w: f"{np.shape(w)} {np.asarray(w).dtype}",
)
def test_what_is_no_weight_is_named(layout, names, weight):
    with pytest.raises(InputError, match="|".join(names)):
        load_weights(dict.fromkeys(names, weight), layout)

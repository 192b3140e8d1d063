"""The layouts of other libraries: the ONNX node tests, and Keras by its equations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from stepping import sigmoid

import gradsim
from gradsim import load_weights
from gradsim.errors import InputError, UnknownNameError
from gradsim_layouts import KerasGRU

ONNX = Path(__file__).parents[1] / "reference" / "onnx.npz"
OPERATORS = {"rnn": "onnx_rnn", "simple": "onnx_rnn", "gru": "onnx_gru", "lstm": "onnx_lstm"}


def onnx_cases():
    with np.load(ONNX) as file:
        found = {}
        for name in file.files:
            case, array = name.split("/")
            found.setdefault(case, {})[array] = file[name]
    return found


CASES = onnx_cases()


def last_h(cell, params, x):
    ds = gradsim.simulate(cell, x, params=params, record=["state"])
    return ds.state.sel(component=ds.block == "h").isel(time=-1).transpose("batch", "component")


@pytest.mark.parametrize("case", CASES)
def test_onnx_node_tests(case):
    arrays = dict(CASES[case])
    x, h = arrays.pop("X").astype(float), arrays.pop("h")
    cell, params = load_weights(arrays, OPERATORS[case.split("_")[0]])
    np.testing.assert_allclose(last_h(cell, params, x), h, atol=1e-6)


def test_the_onnx_cases_are_all_there():
    kinds = ("defaults", "with_initial_bias", "batchwise", "reverse", "bidirectional_0", "bidirectional_1")
    expected = {f"{op}_{kind}" for op in ("simple_rnn", "gru", "lstm") for kind in kinds}
    assert set(CASES) == expected | {"lstm_with_peepholes", "gru_seq_length", "rnn_seq_length"}


def test_two_directions_are_refused():
    arrays = {"W": np.ones((2, 8, 3)), "R": np.ones((2, 8, 2))}
    with pytest.raises(InputError, match=r"onnx_lstm: R has shape \(2, 8, 2\), where .* one direction"):
        load_weights(arrays, "onnx_lstm")


@pytest.fixture
def given():
    rng = np.random.default_rng(0)

    def arrays(gates, bias):
        shapes = {"kernel": (2, gates * 3), "recurrent_kernel": (3, gates * 3), "bias": bias}
        return {n: rng.standard_normal(s) for n, s in shapes.items()}

    return arrays, rng.standard_normal((6, 4, 2))


def test_keras_lstm(given):
    """i, f, c, o: c' = f c + i tanh(c~) and h = o tanh(c')."""
    arrays, x = given[0](4, 12), given[1]
    h = c = np.zeros((4, 3))
    for step in x:
        i, f, g, o = np.split(
            step @ arrays["kernel"] + h @ arrays["recurrent_kernel"] + arrays["bias"], 4, -1
        )
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
    np.testing.assert_allclose(last_h(*load_weights(arrays, "keras_lstm"), x), h, rtol=1e-12)


@pytest.mark.parametrize("after", [True, False])
def test_keras_gru(given, after):
    """z, r, h: h' = z h + (1 - z) tanh(h~); the reset gate acts after or before the product."""
    arrays, x = given[0](3, (2, 9) if after else (9,)), given[1]
    kernel, recurrent = arrays["kernel"], arrays["recurrent_kernel"]
    b, c = arrays["bias"] if after else (arrays["bias"], np.zeros(9))
    h = np.zeros((4, 3))
    for step in x:
        own, back = step @ kernel + b, h @ recurrent + c
        z, r = sigmoid(own[:, :3] + back[:, :3]), sigmoid(own[:, 3:6] + back[:, 3:6])
        past = r * back[:, 6:] if after else (r * h) @ recurrent[:, 6:]
        h = z * h + (1 - z) * np.tanh(own[:, 6:] + past)
    np.testing.assert_allclose(last_h(*load_weights(arrays, "keras_gru"), x), h, rtol=1e-12)


@pytest.mark.parametrize("after", [True, False])
def test_a_keras_gru_without_a_bias_is_told_where_it_resets(given, after):
    arrays, x = given[0](3, (9,)), given[1]
    zeros = np.zeros((2, 9) if after else 9)
    expected = last_h(*load_weights(arrays | {"bias": zeros}, "keras_gru"), x)
    del arrays["bias"]
    np.testing.assert_array_equal(last_h(*load_weights(arrays, KerasGRU(reset_after=after)), x), expected)
    with pytest.raises(InputError, match="bias has shape"):
        load_weights(arrays | {"bias": zeros}, KerasGRU(reset_after=not after))


def test_keras_rnn_without_a_bias(given):
    arrays, x = given[0](1, 3), given[1]
    del arrays["bias"]
    h = np.zeros((4, 3))
    for step in x:
        h = np.tanh(step @ arrays["kernel"] + h @ arrays["recurrent_kernel"])
    np.testing.assert_allclose(last_h(*load_weights(arrays, "keras_rnn"), x), h, rtol=1e-12)


def test_a_weight_that_is_missing_is_named():
    with pytest.raises(UnknownNameError, match="unknown weight of keras_lstm 'recurrent_kernel'"):
        load_weights({"kernel": np.ones((2, 4))}, "keras_lstm")
    with pytest.raises(InputError, match=r"recurrent_kernel has shape \(2, 4\), where \(2, 8\) is needed"):
        load_weights({"kernel": np.ones((2, 8)), "recurrent_kernel": np.ones((2, 4))}, "keras_lstm")

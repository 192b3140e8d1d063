"""What each of the shipped cells is told of its start: it changes what it is for, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from gradsim import Initializer, Weighted
from gradsim.errors import InputError
from gradsim.numerics.blocks import dense_blocks
from gradsim_cells import gradsim_register_cells
from gradsim_initializers import Chrono, Orthogonal

CELLS = {cls.name: cls for cls in gradsim_register_cells() if issubclass(cls, Weighted)}

# What each option starts: W, U and b, or what is told here; nothing where it is refused.
USUAL = {"input_init": "W", "recurrent_init": "U", "bias_init": "b"}
OTHERS = {
    "delta_net": {
        "input_init": "W_q W_k W_v W_beta",
        "recurrent_init": "",
        "bias_init": "b_q b_k b_v b_beta",
    },
    "mlstm": {
        "input_init": "W_q W_k W_v W_i W_f W_o",
        "recurrent_init": "",
        "bias_init": "b_q b_k b_v b_i b_f b_o",
    },
    "modern_hopfield": {"bias_init": ""},
    "selective_ssm": {"input_init": "W W_d W_B W_C", "recurrent_init": "", "bias_init": "b_d"},
    "cornn": {"recurrent_init": "U U_z"},
    "exp_rnn": {"recurrent_init": "A"},
    "gru": {"bias_init": "b c"},
    "lem": {"recurrent_init": "U U_h"},
    "lipschitz_rnn": {"recurrent_init": "M_A M_U"},
    "minimal_rnn": {"bias_init": "b_z b_u"},
    "multiplicative_lstm": {"input_init": "W W_m", "recurrent_init": "U U_m"},
    "rhn": {"recurrent_init": "U1 U2 U3", "bias_init": "b1 b2 b3"},
    "linear": {"bias_init": ""},
    "scrn": {"bias_init": ""},
}
APART = [
    "brc",
    "ind_rnn",
    "lrc_ssm",
    "min_gru",
    "min_lstm",
    "para_gru",
    "para_lstm",
    "qrnn",
    "sru",
    "unicornn",
    "urnn",
]
OTHERS |= {name: {"recurrent_init": ""} for name in APART}


@dataclass(frozen=True, eq=False)
class Sevens(Initializer):
    """Nothing draws a seven by itself."""

    name = "sevens"

    def weight(self, rng, shape):
        return np.full(shape, 7.0)

    def bias(self, rng, shape, keeps):
        return np.full(shape, 7.0)


def drawn(name, **options):
    options = {"input_size": 2, "hidden_size": 4, "recurrent_scale": 1.0} | options
    return CELLS[name](**options).init_params(np.random.default_rng(1))


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("option", [*USUAL, "recurrent_scale"])
def test_an_option_starts_what_it_is_for(name, option):
    kind = "recurrent_init" if option == "recurrent_scale" else option
    told = (USUAL | OTHERS.get(name, {}))[kind].split()
    value = 0.5 if option == "recurrent_scale" else Sevens()
    if not told:
        with pytest.raises(InputError, match=f"{CELLS[name].__name__}: {option} would start nothing, as"):
            drawn(name, **{option: value})
        return
    found, usual = drawn(name, **{option: value}), drawn(name)
    for param, other in usual.items():
        started = 0.5 * other if option == "recurrent_scale" else 7.0
        np.testing.assert_array_equal(found[param], started if param in told else other, err_msg=param)


@pytest.mark.parametrize("name", CELLS)
def test_each_part_of_a_recurrent_weight_is_drawn_by_itself(name):
    if (USUAL | OTHERS.get(name, {}))["recurrent_init"]:
        params = drawn(name, recurrent_init=Orthogonal())
        for param in CELLS[name](2, 4).recurrent_weights:
            for u in params[param].reshape(-1, 4, 4):
                np.testing.assert_allclose(u @ u.T, np.eye(4), atol=1e-14)


@pytest.mark.parametrize("name", [name for name, cls in CELLS.items() if cls.keeps or cls.admits])
def test_chrono_keeps_the_state_for_as_long_as_it_says(name):
    """Of each step u / (1 + u) is left, with biases log u and -log u, where gates see nothing else."""
    cell = CELLS[name](input_size=2, hidden_size=4, bias_init=Chrono(50.0))
    drawn = cell.init_params(np.random.default_rng(1))
    biases = [n for n, factor in cell.factors(drawn).items() if factor == "1"]
    params = {n: p if n in biases else np.zeros_like(p) for n, p in drawn.items()}
    times = [np.exp(np.abs(p).reshape(-1, min(4, p.size)).max(axis=0)) for p in map(params.get, biases)]
    expected = np.prod([u / (1 + u) for u in times if (u > 1).all()], axis=0)
    assert np.all((expected > 0.1) & (expected < 0.99))
    # Far out there is no feedback to the candidate; n = 1 / (1 - f) = 1 + u in the end, if i = 1.
    size = -np.log(1 - expected)
    at = {"brc": 50.0, "nbrc": 50.0, "slstm": np.tile(size, 3)}.get(name, 0.0)
    if name == "original_lstm":  # which keeps all, whatever it admits
        expected = 1.0
    state = np.zeros(cell.state_size) + at
    kept = np.diagonal(dense_blocks(cell.step_jacobian(params, state, np.zeros(2))))
    slow = next(block for block in "Cclzh" if block in cell.blocks)
    np.testing.assert_allclose(kept[cell.block(slow)] / expected, 1, rtol=1e-12)

from __future__ import annotations

import numpy as np
import pytest

import gradsim
from gradsim import analysis
from gradsim.errors import InputError
from gradsim_cells.elman import Elman


def simulate(inputs, **arguments):
    return gradsim.simulate(Elman(input_size=2, hidden_size=4), inputs, **arguments)


def test_without_a_log10_twin(inputs):
    ds = simulate(inputs)
    np.testing.assert_allclose(
        analysis.gain_by_lag(ds)["median"], analysis.gain_by_lag(ds[["product_norm"]])["median"], atol=1e-14
    )


@pytest.mark.parametrize(
    ("variable", "recorder"),
    [
        ("product_spectral_norm", "product_spectral_norm"),
        ("effective_product_norm_log10", "effective_product_norm"),
        ("effective_gain", "effective_product_norm"),
        ("loss_adjoint_norm", "loss_adjoint_norm"),
    ],
)
def test_a_missing_variable_names_the_recorder(inputs, variable, recorder):
    with pytest.raises(InputError, match=f"add the recorder '{recorder}'"):
        analysis.gain_by_lag(simulate(inputs), variable)

"""The table of what mitigations do and cost: medians of what was recorded, and horizons beyond the record."""

from __future__ import annotations

import numpy as np
import pytest

from gradsim import analysis, compare, simulate
from gradsim.errors import InputError
from gradsim_cells import GRU, Elman
from gradsim_mitigations import ClipNorm, Immediate, Truncate


@pytest.fixture(scope="module")
def compared():
    inputs = np.random.default_rng(2).standard_normal((30, 2, 2))
    cells = {"elman": Elman(2, 3), "gru": GRU(2, 3)}
    chosen = [Truncate(1, 4), Immediate(), [Truncate(1, 4), ClipNorm(1e-3)]]
    return compare(cells, inputs=inputs, mitigations=chosen, seeds=3, replicates=2)


def test_a_row_is_the_median_of_what_was_recorded(compared):
    found = analysis.effects(compared)
    assert set(found.bias.dims) == {"cell", "mitigation"}
    here = {"cell": "gru", "mitigation": "truncate+clip_norm"}
    row, own = found.sel(here), compared.sel(here)
    assert float(row.bias) == float(own.overall_gradient_bias.median())
    assert float(row.gradient_factor) == float(own.effective_gradient_factor.median())
    assert float(row.gradient_seconds) == float(own.gradient_seconds.median())
    assert float(row.mean_bias) == pytest.approx(float(row.bias))
    assert float(row.horizon) == float(analysis.horizon(own, apart=()).horizon)
    assert float(row.effective_horizon) <= 4
    table = found.to_dataframe()
    assert table.loc[("gru", "truncate"), "phases"] == "jacobians: truncate"


def test_what_does_not_exist_is_missing_and_what_is_beyond_is_infinite(compared):
    found = analysis.effects(compared, threshold=1e-300)
    assert found.effective_horizon.sel(mitigation="immediate").isnull().all()
    assert np.isinf(found.horizon).all()
    assert found.energy_removed.sel(mitigation="immediate").isnull().all()
    assert (found.energy_removed.sel(mitigation="truncate") > 0).all()


def test_without_mitigations_there_are_no_effects():
    with pytest.raises(InputError, match="needs a comparison with mitigations"):
        analysis.effects(simulate(Elman(1, 2), np.ones((4, 1, 1))))

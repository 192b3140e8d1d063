"""States that hold older ones: the derivatives are those of the step, by way of the cell inside."""

from __future__ import annotations

import numpy as np
import pytest

from gradsim import Cell
from gradsim.contracts.hooks import RunHooks
from gradsim.contracts.moment import Moment
from gradsim_cells import GRU, LRU, LSTM, Elman, MinGRU, Residual
from gradsim_mitigations import Dilate, Gate, Skip, SpectralNorm, Zoneout

CELLS = {
    "elman": Elman(2, 3),
    "gru": GRU(2, 3),
    "lstm": LSTM(2, 3),
    "min_gru": MinGRU(2, 3),
    "lru": LRU(2, 3),
    "skipping": Residual(LSTM(2, 3), around="step"),
}
MADE = {
    "skip": [Skip(3, 0.7)],
    "skip one": [Skip(1, 0.7)],
    "dilate": [Dilate(3)],
    "both": [Skip(2, 0.7), Dilate(3)],
    "around": [SpectralNorm(), Zoneout(0.3), Skip(2, 0.7), Gate()],
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("made", MADE)
@pytest.mark.parametrize("name", CELLS)
def test_the_derivatives_are_the_free_ones(name, made, dtype, rng):
    if made == "around" and not CELLS[name].recurrent_weights:
        made = "both"
    cell = RunHooks(MADE[made])("gradsim_cell", cell=CELLS[name])
    lead, m, g = (4, 2), cell.state_size, cell.jacobian_groups

    def normal(*shape):
        return rng.standard_normal(shape).astype(dtype)

    params = {n: p.astype(dtype) for n, p in cell.init_params(rng).items()}
    drawn = cell.draw(rng, np.zeros((*lead, 2)), Moment())
    data = {n: drawn[n].astype(dtype) for n in cell.step_data}
    where = params, normal(*lead, m), normal(*lead, 2)
    left, right = normal(5, *lead, m), normal(5, *lead, m)
    asked = {
        "step_jacobian": (),
        "state_vjp": (left[0],),
        "params_vjp": (left[0],),
        "bilinear_vjp": (left, right),
        "jacobian_vjp": (normal(*lead, g, m // g, m // g),),
        "path_jacobians": (),
    }
    accuracy = 1e-12 if dtype == "float64" else 1e-4
    for method, more in asked.items():
        found = getattr(cell, method)(*where, *more, **data)
        free = getattr(Cell, method)(cell, *where, *more, **data)
        for one, other in zip(_arrays(found), _arrays(free), strict=True):
            assert one.dtype == dtype
            np.testing.assert_allclose(one, other, rtol=0, atol=accuracy * np.abs(other).max(initial=0.0))


def _arrays(found):
    """All arrays in what a derivative gives, by name where they have one."""
    match found:
        case dict():
            return [found[name] for name in sorted(found)]
        case tuple():
            return [array for part in found for array in _arrays(part)]
    return [found]


@pytest.mark.parametrize("method", ["step_jacobian", "state_vjp", "params_vjp"])
def test_they_are_not_made_by_a_library(method):
    for mitigation in (Skip(), Dilate()):
        assert RunHooks([mitigation])("gradsim_cell", cell=LSTM(2, 3)).analytic(method)

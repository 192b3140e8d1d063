"""Mitigations where gradients explode or vanish, and where nothing trains."""

from __future__ import annotations

import numpy as np
import pytest

import gradsim
from gradsim.errors import GradsimError, InputError, NonFiniteError
from gradsim_cells import QRNN, SRU, EchoState, Elman
from gradsim_mitigations import (
    ARTBP,
    Activity,
    AuxiliaryLoss,
    ClipNorm,
    ClipValue,
    Flossing,
    HDetach,
    JacobianPenalty,
    SoftCap,
    SoftOrthogonality,
    WeightDecay,
)
from gradsim_optimizers import SGD
from gradsim_tasks import Adding, FlipFlop

STEPS = 40


def turning(decades, **setting):
    """An Elman cell that rests at 0 and scales adjoints by 10^decades over all steps."""
    cell, rng = Elman(2, 3), np.random.default_rng(0)
    turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    params = {"W": np.zeros((3, 2)), "U": 10 ** (decades / STEPS) * turn, "b": np.zeros(3)}
    return gradsim.simulate(cell, task=Adding(length=STEPS), batch=2, params=params, rng=0, **setting)


@pytest.mark.parametrize("form", ["ratio", "squared_ratio"])
@pytest.mark.parametrize(("decades", "dtype"), [(200, "float64"), (25, "float32")])
def test_omega_where_squares_of_adjoints_leave_the_range(form, decades, dtype):
    """rho = 10^(decades / T) at each step, however large the adjoint is."""
    ds = turning(
        decades, dtype=dtype, mitigations=[JacobianPenalty(0.1, form)], record=["effective_gradient"]
    )
    rho = 10 ** (decades / STEPS)
    size = rho if form == "ratio" else rho**2
    assert ds.attrs["penalty"] == pytest.approx(0.1 * STEPS * (size - 1) ** 2, rel=1e-4)


def test_omega_says_that_the_adjoint_leaves_the_range():
    with pytest.raises(NonFiniteError, match=r"JacobianPenalty.*asks for the adjoint.*float32.*float64"):
        turning(60, dtype="float32", mitigations=[JacobianPenalty()], record=["effective_gradient"])


@pytest.mark.parametrize("made", [ClipNorm(where="contribution"), ClipValue(where="contribution")])
def test_contributions_where_nothing_trains(made):
    """A reservoir without a readout has no gradient, and nothing to clip."""
    ds = gradsim.simulate(
        EchoState(2, 5), inputs=np.ones((3, 1, 2)), mitigations=[made], record=["effective_gradient"]
    )
    assert not any(ds[name].any() for name in ds.data_vars if name.startswith("effective_gradient"))


def test_random_truncation_with_a_tail_that_is_thin_without_end():
    """As alpha grows, c_t becomes 1 / length."""
    with np.errstate(all="raise"):
        found = ARTBP(20.0, 1e308).draw(np.random.default_rng(0), 200, 3)["carried"]
    expected = ARTBP(20.0, None).draw(np.random.default_rng(0), 200, 3)["carried"]
    np.testing.assert_allclose(found, expected, rtol=1e-14)


def test_empty_names_are_refused_for_what_they_are():
    with pytest.raises(InputError, match="names are empty; name some, or leave them out"):
        turning(0, mitigations=[SoftOrthogonality(names=())])


@pytest.mark.parametrize("cell", [SRU(2, 3), SRU(2, 3, reset_sees_state=True), QRNN(2, 3)], ids=repr)
def test_soft_caps_of_cells_whose_options_say_how_many_sums_there_are(cell):
    """A cap that nothing comes near changes nothing."""
    given = {"inputs": np.ones((3, 1, 2)), "record": ["effective_gradient"], "rng": 0}
    plain, capped = (gradsim.simulate(cell, mitigations=ms, **given) for ms in ([], [SoftCap(1e9)]))
    for name in (name for name in plain.data_vars if name.startswith("effective_gradient")):
        np.testing.assert_allclose(capped[name], plain[name], rtol=1e-12, atol=1e-15)


WITHOUT = [Flossing(exponents=9), Flossing(transient=99), AuxiliaryLoss(length=99), WeightDecay(names=("V",))]


@pytest.mark.parametrize("made", [*WITHOUT, HDetach(), Activity(blocks=("c",))], ids=repr)
def test_a_training_that_lacks_what_a_mitigation_acts_on_leaves_no_folder(made, tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(GradsimError, match=r"of elman|" + made.name):
        gradsim.train(
            Elman(2, 3),
            task=FlipFlop(length=8, channels=2),
            optimizer=SGD(0.1),
            updates=1,
            mitigations=[made],
            store=folder,
        )
    assert not folder.exists()

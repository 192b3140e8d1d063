"""The auxiliary loss at random anchors against plain loops and differences."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import numerical_gradient

import gradsim
from gradsim.contracts.hooks import RunHooks
from gradsim.errors import InputError
from gradsim.testing import conformance
from gradsim_cells import LSTM, Elman
from gradsim_mitigations import AuxiliaryLoss, Gate, OrthogonalWeights, Truncate
from gradsim_optimizers import Adam
from gradsim_tasks import FlipFlop

test_auxiliary_losses_keep_the_contract = conformance(
    AuxiliaryLoss(0.3, "after", length=2, anchors=3), AuxiliaryLoss(), cell=LSTM(2, 3)
)


def anchors_of(auxiliary, steps, batch):
    return AuxiliaryLoss.draw(auxiliary, np.random.default_rng(5), steps, batch)["first"]


class Fixed(AuxiliaryLoss):
    """With the same anchors every time."""

    def draw(self, rng, steps, batch):
        return {"first": anchors_of(self, steps, batch)}


@pytest.mark.parametrize("of", ["before", "after"])
@pytest.mark.parametrize("cell", [Elman(2, 4), LSTM(2, 3)], ids=lambda c: c.name)
def test_the_loss_is_that_of_a_plain_loop_and_its_gradient_the_slope(cell, of, inputs):
    auxiliary = Fixed(0.7, of, length=2, anchors=2)
    prepared = RunHooks([auxiliary])("gradsim_cell", cell=cell)
    params = prepared.init_params(np.random.default_rng(3))
    params["decoding1_d"] += 0.1

    def run(values):
        record = ["state", "gradient", "effective_gradient"]
        return gradsim.simulate(cell, inputs, params=values, mitigations=[auxiliary], record=record)

    ds, (steps, batch, _) = run(params), inputs.shape
    errors = []
    for b in range(batch):
        for first in anchors_of(auxiliary, steps, batch)[:, b]:
            time = first + 2 if of == "before" else first
            seen = np.concatenate([inputs[first, b], inputs[first + 1, b]])
            said = params["decoding1_D"] @ ds.state.values[time, b] + params["decoding1_d"]
            errors.extend((said - seen) ** 2)
    assert ds.attrs["penalty"] == pytest.approx(0.7 * np.mean(errors), rel=1e-12)
    for name in params:
        slope = numerical_gradient(lambda p: run(p).attrs["loss"] + run(p).attrs["penalty"], params, name)
        np.testing.assert_allclose(ds[f"effective_gradient_{name}"], slope, rtol=1e-5, atol=1e-8)


def test_anchors_lie_where_there_are_inputs_and_each_sequence_has_its_own():
    first = AuxiliaryLoss(length=4, anchors=17).draw(np.random.default_rng(0), 20, 500)["first"]
    assert (np.sort(first, axis=0) == np.arange(17)[:, None]).all()  # all that there are, each once
    first = AuxiliaryLoss(length=4).draw(np.random.default_rng(0), 20, 5000)["first"]
    np.testing.assert_allclose(np.bincount(first[0]) / 5000, 1 / 17, atol=0.015)


def test_its_adjoint_goes_as_far_as_truncation_lets_it(inputs):
    auxiliary = Fixed(1.0, "after", length=1, anchors=1)
    cell = RunHooks([auxiliary])("gradsim_cell", cell=Elman(2, 4))
    run = {"params": cell.init_params(np.random.default_rng(0)), "record": ["adjoint", "effective_adjoint"]}
    both = [auxiliary, Truncate(1, 2)]
    ds = gradsim.simulate(Elman(2, 4), inputs, mitigations=both, **run)
    steps, batch, _ = inputs.shape
    reached = ds.effective_adjoint.values.any(axis=-1)
    for b, anchor in enumerate(anchors_of(auxiliary, steps, batch)[0]):
        near = [t for t in range(steps + 1) if (t > 0 and anchor - 2 < t <= anchor) or t > steps - 2]
        assert [t for t in range(1, steps + 1) if reached[t, b]] == near


@pytest.mark.parametrize(
    "mitigations",
    [
        [AuxiliaryLoss(anchors=9), Gate()],
        [Gate(), AuxiliaryLoss(anchors=9)],
        [AuxiliaryLoss(anchors=9), OrthogonalWeights()],
        [OrthogonalWeights(), AuxiliaryLoss(anchors=9)],
        [AuxiliaryLoss(anchors=9), AuxiliaryLoss(anchors=5)],
    ],
    ids=lambda ms: "-".join(m.name for m in ms),
)
def test_a_decoder_learns_what_the_state_knows(mitigations):
    """Beside other cells around it, too."""
    ds = gradsim.train(
        Elman(3, 8),
        FlipFlop(length=20),
        mitigations=mitigations,
        optimizer=Adam(0.02),
        batch=16,
        updates=60,
        rng=0,
    )
    penalty = ds.train_penalty.values
    assert penalty[-10:].mean() < 0.8 * penalty[:3].mean()


def test_anchors_that_do_not_fit_are_refused(inputs):
    with pytest.raises(InputError, match=r"auxiliary_loss: 1 anchors with 99 inputs each do not fit into"):
        gradsim.simulate(Elman(2, 4), inputs, mitigations=[AuxiliaryLoss(length=99)])

"""The shipped tasks against their definitions and known baselines."""

from __future__ import annotations

import numpy as np
import pytest

import gradsim
from gradsim_tasks import Adding, TemporalOrder


@pytest.fixture(scope="module")
def adding():
    return Adding(length=40).sample(np.random.default_rng(0), 20_000)


def test_adding_marks_two_values_and_asks_for_their_scaled_sum(adding):
    values, markers = adding.inputs[..., 0], adding.inputs[..., 1]
    assert np.abs(values).max() <= 1
    assert (markers[-1] == -1).all()
    marked = markers == 1
    assert (marked.sum(axis=0) == 2).all()
    assert set(np.unique(markers)) == {-1, 0, 1}
    assert not marked[20:].any()
    ordinary = ~marked[0]
    total = np.sum(values * marked, axis=0)[ordinary]
    np.testing.assert_allclose(adding.targets[-1, ordinary, 0], 0.5 + total / 4, rtol=1e-14)
    assert (adding.weights.sum(axis=0) == 1).all()
    assert (adding.weights[-1] == 1).all()


def test_adding_marks_where_the_paper_says(adding):
    """The first marker is uniform over ten steps, the second over the other ones of the first half."""
    marked = adding.inputs[..., 1] == 1
    share = marked.mean(axis=1)
    first_ten = 1 / 10 + (9 / 10) / 19
    np.testing.assert_allclose(share[:10], first_ten, atol=0.01)
    np.testing.assert_allclose(share[10:20], 1 / 19, atol=0.01)


def test_adding_baseline(adding):
    """Always 0.5: a mean squared error of 1/24 where both values count, 1/48 where one does."""
    ordinary = adding.inputs[0, :, 1] == -1
    error = (adding.targets[-1, :, 0] - 0.5) ** 2
    assert error[ordinary].mean() == pytest.approx(1 / 24, rel=0.03)
    assert error[~ordinary].mean() == pytest.approx(1 / 48, rel=0.03)


def test_adding_is_solved_within_the_published_margin():
    task, target = Adding(), np.array([[[0.3]]])
    for error, solved in ((0.0, 1), (-0.039, 1), (0.039, 1), (0.041, 0), (-0.041, 0)):
        assert task.score(target + error, target) == [[solved]]


def test_temporal_order_sequences():
    episode = TemporalOrder(length=100).sample(np.random.default_rng(1), 5000)
    assert (episode.inputs.sum(axis=-1) == 1).all()
    symbols = episode.inputs.argmax(axis=-1)
    assert (symbols[0] == 7).all()
    assert (symbols[-1] == 6).all()
    told = (symbols == 4) | (symbols == 5)
    assert (told.sum(axis=0) == 2).all()
    at = np.array([np.flatnonzero(column) for column in told.T])
    assert (at[:, 0].min(), at[:, 0].max(), at[:, 1].min(), at[:, 1].max()) == (10, 20, 50, 60)
    order = np.take_along_axis(symbols, at.T, axis=0) - 4
    assert (episode.targets[-1] == 2 * order[0] + order[1]).all()
    np.testing.assert_allclose(np.bincount(episode.targets[-1]) / 5000, 1 / 4, atol=0.03)


def test_temporal_order_plateau():
    """A readout that says nothing has the loss ln 4 (Pascanu, Mikolov & Bengio 2013)."""
    from gradsim_cells import Elman

    params = Elman(8, 3).init_params(np.random.default_rng(0))
    params |= {"readout_W": np.zeros((4, 3)), "readout_b": np.zeros(4)}
    ds = gradsim.simulate(Elman(8, 3), task=TemporalOrder(length=30), batch=5, params=params, record=["loss"])
    assert ds.attrs["loss"] == pytest.approx(1.3862943611, abs=1e-10)

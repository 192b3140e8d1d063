"""How a suite makes its checks, and what it compares with."""

from __future__ import annotations

from unittest import SkipTest

import numpy as np
import pytest
from examples import Tanh, WrongJacobian
from proofs import failures

from gradsim.testing import checks_of
from gradsim.testing.kit import Bench, copied, no_global_randomness, same


def test_a_check_without_its_ground_is_not_made():
    calls = dict(checks_of(WrongJacobian()))
    with pytest.raises(SkipTest, match="jacobian_product rests on jacobian, which fails"):
        calls["jacobian_product"]()


def test_the_same_verdict_every_time():
    assert failures(WrongJacobian()) == failures(WrongJacobian())


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ({"a": np.array([1.0, np.nan])}, {"a": np.array([1.0, np.nan])}, True),
        ({"a": np.ones(2)}, {"a": np.ones(2, dtype=np.float32)}, False),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ([1, (2.0, "x")], [1, (2.0, "x")], True),
        ([1, 2], [1], False),
        (np.ones((2, 1)), np.ones(2), False),
    ],
)
def test_what_is_the_same_is_so_to_the_last_bit(one, other, equal):
    assert same(one, other) == same(other, one) == equal


def test_a_copy_shares_nothing_and_can_be_changed():
    given = {"a": [np.zeros(2)], "b": np.broadcast_to(1.0, 3)}
    made = copied(given)
    assert same(made, given)
    made["a"][0] += 1
    made["b"] += 1
    assert same(given, {"a": [np.zeros(2)], "b": np.ones(3)})


def test_global_randomness_is_noticed_and_put_back():
    bench = Bench(Tanh())
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    with no_global_randomness(bench, "nobody"):
        np.random.default_rng().random()
    with (
        pytest.raises(AssertionError, match=r"Tanh.*somebody uses the global random state"),
        no_global_randomness(bench, "somebody"),
    ):
        np.random.random()  # noqa: NPY002
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_each_purpose_has_a_stream_of_its_own():
    bench = Bench(Tanh())
    assert bench.rng("inputs").random() == bench.rng("inputs").random() != bench.rng("params").random()

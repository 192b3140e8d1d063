"""The checks of an initializer, each proven by a plugin that it alone catches."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from proofs import WRONG, proven

from gradsim import Initializer
from gradsim.errors import InputError
from gradsim.testing import check_initializer, checks_of
from gradsim.testing.initializer import CHECKS


@dataclass(frozen=True, eq=False)
class Small(Initializer):
    """Small weights; good."""

    name = "proof_small"

    size: float = 0.1

    def weight(self, rng, shape):
        return self.size * rng.standard_normal(shape)


class CapitalSmall(Small):
    name = "Small"


class Undecorated(Small):
    more: float = 1.0


@dataclass(frozen=True, eq=False)
class NeedsMore(Small):
    more: float = field(kw_only=True)


@dataclass(frozen=True, eq=False)
class Nothing(Initializer):
    name = "proof_nothing"


class RefusesAll(Small):
    def weight(self, rng, shape):
        raise InputError("no")


class Single(Small):
    def weight(self, rng, shape):
        return super().weight(rng, shape).astype(np.float32)


class Thin(Small):
    def weight(self, rng, shape):
        return super().weight(rng, shape)[:1]


class Infinite(Small):
    def weight(self, rng, shape):
        return super().weight(rng, shape) / np.zeros(shape)


class Listed(Small):
    def weight(self, rng, shape):
        return super().weight(rng, shape).tolist()


class RealEigenvalues(Small):
    def eigenvalues(self, rng, n):
        return rng.uniform(size=n)


class Drifts(Small):
    seen = [1.0]  # noqa: RUF012

    def weight(self, rng, shape):
        self.seen[0] *= WRONG
        return self.seen[0] * super().weight(rng, shape)


class Global(Small):
    def weight(self, rng, shape):
        np.random.seed(1)  # noqa: NPY002
        return super().weight(rng, shape)


class Kept(Small):
    kept = {}  # noqa: RUF012

    def weight(self, rng, shape):
        return self.kept.setdefault(shape, np.ones(shape))


PROOFS = [
    ("name_and_repr", CapitalSmall()),
    ("frozen_dataclass", Undecorated()),
    ("constructs_with_defaults", NeedsMore(more=1.0)),
    ("draws_something", Nothing()),
    ("draws_something", RefusesAll()),
    ("finite_and_of_this_shape", Single()),
    ("finite_and_of_this_shape", Thin()),
    ("finite_and_of_this_shape", Infinite()),
    ("finite_and_of_this_shape", Listed()),
    ("finite_and_of_this_shape", RealEigenvalues()),
    ("all_randomness_is_of_the_rng", Drifts()),
    ("all_randomness_is_of_the_rng", Global()),
    ("all_randomness_is_of_the_rng", Kept()),
]


test_fails_this_check_and_no_other, test_every_check_has_a_proof = proven(PROOFS, CHECKS)


def test_a_good_initializer_passes_every_check():
    assert [name for name, call in checks_of(Small()) if call() is None] == [c.name for c in CHECKS]
    check_initializer(Small())


def test_a_class_is_refused():
    with pytest.raises(InputError, match="call the class"):
        check_initializer(Small)

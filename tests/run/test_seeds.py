"""One seed for all random numbers of a run: what is drawn for one purpose moves nothing of another."""

from __future__ import annotations

import numpy as np
import pytest

from gradsim.errors import InputError
from gradsim.run.seeds import Seeds


def first(seeds, purpose, *key):
    return seeds.generator(purpose, *key).random()


def test_every_purpose_and_key_has_its_own_numbers():
    seeds = Seeds(3)
    found = [first(seeds, purpose) for purpose in Seeds.purposes]
    found += [first(seeds, "update", key) for key in (0, 1)]
    found.append(first(seeds.within("update", 1), "task"))
    assert len(set(found)) == len(found)
    assert first(seeds, "task") == first(Seeds(3), "task")


def test_what_lies_within_is_the_seed_that_numpy_would_spawn():
    expected = np.random.SeedSequence(3, spawn_key=(Seeds.purposes.index("update"), 7))
    assert Seeds(3).within("update", 7).seed.spawn_key == expected.spawn_key
    assert first(Seeds(expected), "task") == first(Seeds(3).within("update", 7), "task")


@pytest.mark.parametrize("rng", [-1, True, 0.5, "3"])
def test_what_is_no_seed_is_refused(rng):
    with pytest.raises(InputError, match="rng should be a non-negative int"):
        Seeds(rng)

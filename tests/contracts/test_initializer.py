"""What an initializer is asked for and cannot draw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from gradsim import Initializer
from gradsim.errors import InputError
from gradsim_initializers import Chrono, Identity


@dataclass(frozen=True, eq=False)
class Nothing(Initializer):
    name = "draws_nothing"


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda rng: Chrono().weight(rng, (1, 2, 2)), "draws no weights; it draws biases"),
        (lambda rng: Chrono().eigenvalues(rng, 2), "draws no eigenvalues; it draws biases"),
        (lambda rng: Identity().bias(rng, (1, 2), None), "draws no biases; it draws weights and eigenvalues"),
        (lambda rng: Nothing().weight(rng, (1, 2, 2)), "Nothing() draws no weights; it draws nothing"),
    ],
)
def test_what_it_cannot_draw_is_said_with_what_it_can(draw, message):
    with pytest.raises(InputError) as caught:
        draw(np.random.default_rng(0))
    assert message in str(caught.value)

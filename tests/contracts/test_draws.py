"""A cell's `draw` is called with what it names."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import gradsim
from gradsim import Cell
from gradsim.testing import check_cell


@dataclass(frozen=True, eq=False)
class Surprised(Cell):
    """Its noise is as large as the input is on average over the run, and off while it validates."""

    name = "surprised"
    input_size: int = 2

    @property
    def blocks(self):
        return {"h": 3}

    def init_params(self, rng):
        return {"U": rng.standard_normal((3, 3)) / 3}

    def draw(self, inputs, rng, moment):
        size = np.abs(inputs).mean(axis=(0, 2))[:, None] * (not moment.validating)
        return {"noise": size * rng.standard_normal((*inputs.shape[:2], 3))}

    def step(self, params, state, inputs, xp, *, noise):
        return xp.tanh(state @ params["U"].T) + noise


def test_it_passes_the_conformance_kit():
    check_cell(Surprised())


def test_it_sees_the_inputs(inputs):
    loud, soft = (
        gradsim.simulate(Surprised(), scale * inputs, record=["state"], rng=0).state for scale in (1, 0)
    )
    assert loud.any()
    assert not soft.any()

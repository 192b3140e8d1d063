"""The checks of what a readout sees, each proven by a plugin that it alone catches."""

from __future__ import annotations

import numpy as np
from examples import Tanh
from proofs import proven, wrong_tanh

from gradsim.testing import check_cell
from gradsim.testing.cell.outputs import CHECKS


class Gated(Tanh):
    """Is read through a gate; good."""

    def output(self, params, state, inputs, xp):
        return xp.tanh(inputs @ params["W"].T) * state


class ThinOutput(Gated):
    output_size = 3


class PromotesOutput(Gated):
    def output(self, params, state, inputs, xp):
        return np.float64(1) * super().output(params, state, inputs, xp)


class OutputWrites(Gated):
    def output(self, params, state, inputs, xp):
        seen = super().output(params, state, inputs, xp)
        if isinstance(state, np.ndarray) and state.flags.writeable:
            state *= 0.999
        return seen


class OutputOfNumpy(Gated):
    def output(self, params, state, inputs, xp):
        return np.tanh(np.asarray(state))


class OutputMixesBatch(Gated):
    def output(self, params, state, inputs, xp):
        seen = super().output(params, state, inputs, xp)
        return seen + 0.001 * xp.mean(xp.reshape(seen, (-1, 4)), axis=0)


class WrongOutput(Gated):
    def output(self, params, state, inputs, xp):
        return wrong_tanh(inputs @ params["W"].T, xp) * state


class WrongOutputOfState(Gated):
    def output(self, params, state, inputs, xp):
        return wrong_tanh(super().output(params, state, inputs, xp), xp)


PROOFS = [
    ("output_shape_and_dtype", ThinOutput()),
    ("output_shape_and_dtype", PromotesOutput()),
    ("output_is_pure", OutputWrites()),
    ("output_speaks_the_standard", OutputOfNumpy()),
    ("output_leading_axes", OutputMixesBatch()),
    ("output_derivative", WrongOutput()),
    ("output_derivative", WrongOutputOfState()),
]


test_fails_this_check_and_no_other, test_every_check_has_a_proof = proven(PROOFS, CHECKS)


def test_a_gated_cell_passes():
    check_cell(Gated())

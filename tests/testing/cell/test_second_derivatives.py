"""The checks of a cell's second derivatives, each proven by a plugin that it alone catches."""

from __future__ import annotations

import numpy as np
from examples import Tanh
from proofs import WRONG, failures, proven

from gradsim import detach
from gradsim.testing import check_cell
from gradsim.testing.cell.second_derivatives import CHECKS


class OnceDifferentiable(Tanh):
    """Its first derivative is that of tanh, and its second one that times 2 - 0.999."""

    def step(self, params, state, inputs, xp):
        a = self.drive(params, state, inputs)
        h = xp.tanh(a)
        straight = detach(h) + (a - detach(a)) * (1 - h * h)
        return 0.999 * h + 0.001 * straight


class Bends(Tanh):
    """Knows its second derivatives; good."""

    def bilinear_vjp(self, params, state, inputs, left, right):
        h, slope = np.tanh(self.drive(params, state, inputs)), self.slope(params, state, inputs)
        d = -2 * h * slope * (left * (right @ params["U"].T)).sum(axis=0)
        sides = (left * slope, right, d, state, inputs)
        through, right, flat, state, inputs = (x.reshape(-1, x.shape[-1]) for x in sides)
        found = {"U": through.T @ right + flat.T @ state, "W": flat.T @ inputs, "b": flat.sum(axis=0)}
        return found, d @ params["U"]


class WrongBends(Bends):
    def bilinear_vjp(self, *arguments):
        params, states = super().bilinear_vjp(*arguments)
        return {**params, "U": WRONG * params["U"]}, states


class WrongBendsOfStates(Bends):
    def bilinear_vjp(self, *arguments):
        params, states = super().bilinear_vjp(*arguments)
        return params, WRONG * states


class BendsOneCopy(Bends):
    def bilinear_vjp(self, params, state, inputs, left, right):
        return super().bilinear_vjp(params, state, inputs, left[:1], right[:1])


class BendsAtEachStep(Bends):
    def bilinear_vjp(self, *arguments):
        params, states = super().bilinear_vjp(*arguments)
        return {**params, "b": np.broadcast_to(params["b"], (len(states), 4))}, states


class BendsOnceDifferentiable(OnceDifferentiable):
    bilinear_vjp = Bends.bilinear_vjp


class BendsCoarsely(Bends):
    def bilinear_vjp(self, *arguments):
        params, states = super().bilinear_vjp(*arguments)
        return params, states if states.dtype == np.float64 else states * np.float32(WRONG)


class WrongJacobianVjp(Tanh):
    def jacobian_vjp(self, *arguments):
        params, states = super().jacobian_vjp(*arguments)
        return {**params, "U": WRONG * params["U"]}, states


class InexactBends(WrongBends):
    exact = False


PROOFS = [
    ("second_derivatives", OnceDifferentiable()),
    ("second_derivatives", WrongBends()),
    ("second_derivatives", WrongBendsOfStates()),
    ("second_derivatives", InexactBends()),
    ("second_derivatives", BendsOneCopy()),
    ("second_derivatives", BendsAtEachStep()),
    ("jacobian_derivatives", WrongJacobianVjp()),
    ("float32_second_derivatives", BendsCoarsely()),
    ("free_second_derivatives", BendsOnceDifferentiable()),
]


test_fails_this_check_and_no_other, test_every_check_has_a_proof = proven(PROOFS, CHECKS)


def test_a_good_cell_passes():
    assert failures(Bends()) == {}
    check_cell(Bends())

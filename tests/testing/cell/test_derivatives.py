"""The checks of a cell's first derivatives, each proven by a plugin that it alone catches."""

from __future__ import annotations

import numpy as np
from examples import Diagonal, Tanh, WrongJacobian
from proofs import WRONG, failures, proven, wrong_tanh

from gradsim.testing.cell.derivatives import CHECKS


class OneWrongElement(Tanh):
    def step_jacobian(self, params, state, inputs):
        j = super().step_jacobian(params, state, inputs)
        j[..., 0, 2, 1] *= WRONG
        return j


class Transposed(Tanh):
    def step_jacobian(self, params, state, inputs):
        return super().step_jacobian(params, state, inputs).swapaxes(-1, -2)


class WrongInARun(Tanh):
    def step_jacobian(self, params, state, inputs):
        return super().step_jacobian(params, state, inputs) * (WRONG if state.ndim == 3 else 1)


class WrongStateVjp(Tanh):
    def state_vjp(self, params, state, inputs, cotangent):
        return WRONG * super().state_vjp(params, state, inputs, cotangent)


class WrongParamsVjp(Tanh):
    def params_vjp(self, params, state, inputs, cotangent):
        found = super().params_vjp(params, state, inputs, cotangent)
        found["U"][..., 1, 2] *= WRONG
        return found


class ForgetsBias(Tanh):
    def params_vjp(self, params, state, inputs, cotangent):
        found = super().params_vjp(params, state, inputs, cotangent)
        return {n: found[n] for n in "WU"}


class SpreadsContributions(Tanh):
    def params_vjp(self, params, state, inputs, cotangent):
        found = super().params_vjp(params, state, inputs, cotangent)
        if state.ndim == 3:
            found = {n: g + 0.001 * g.mean(axis=0) for n, g in found.items()}
        return found


class CoarseFloat32(Tanh):
    def step_jacobian(self, params, state, inputs):
        j = super().step_jacobian(params, state, inputs)
        return j if j.dtype == np.float64 else j * np.float32(WRONG)


class SmallFloat32(CoarseFloat32):
    """Too low wherever it is wrong."""

    def step_jacobian(self, params, state, inputs):
        j = Tanh.step_jacobian(self, params, state, inputs)
        return j if j.dtype == np.float64 else np.where(j > 0, j / np.float32(WRONG), j)


class WrongPrimitive(Tanh):
    """Wrong where it is traced; the derivatives that it brings along are right."""

    step_jacobian, state_vjp, params_vjp = Tanh.step_jacobian, Tanh.state_vjp, Tanh.params_vjp

    def step(self, params, state, inputs, xp):
        return wrong_tanh(self.drive(params, state, inputs), xp)


class Inexact:
    """A step whose backward pass is only compared with itself."""

    exact = False


class InexactWrongJacobian(Inexact, WrongJacobian):
    pass


class InexactWrongStateVjp(Inexact, WrongStateVjp):
    pass


class InexactWrongParamsVjp(Inexact, WrongParamsVjp):
    pass


class InexactOutsideGroups(Inexact, Diagonal):
    pass


PROOFS = [
    ("jacobian", WrongJacobian()),
    ("jacobian", OneWrongElement()),
    ("jacobian", Transposed()),
    ("jacobian_structure", Diagonal(coupling=0.001)),
    ("jacobian", InexactWrongJacobian()),
    ("jacobian_structure", InexactOutsideGroups(coupling=0.001)),
    ("state_vjp", InexactWrongStateVjp()),
    ("parameter_vjp", InexactWrongParamsVjp()),
    ("jacobian_product", WrongInARun()),
    ("state_vjp", WrongStateVjp()),
    ("parameter_vjp", WrongParamsVjp()),
    ("parameter_vjp", ForgetsBias()),
    ("contributions_by_step", SpreadsContributions()),
    ("float32_derivatives", CoarseFloat32()),
    ("float32_derivatives", SmallFloat32()),
    ("free_derivatives", WrongPrimitive()),
]


test_fails_this_check_and_no_other, test_every_check_has_a_proof = proven(PROOFS, CHECKS)


class Stairs(Tanh):
    """Jumps so often that differences say nothing; without derivatives of its own."""

    def step(self, params, state, inputs, xp):
        fine = 1e7 * super().step(params, state, inputs, xp)
        return xp.floor(fine) / 1e7


def test_what_jumps_nearly_everywhere_is_said_to_be_unchecked():
    found = failures(Stairs())
    assert any("has a kink or a jump at" in message for message in found.values())

"""The checks of paths and gates, each proven by a plugin that it alone catches."""

from __future__ import annotations

import numpy as np
from examples import Tanh
from proofs import WRONG, proven

from gradsim import through
from gradsim.testing.cell.paths import CHECKS


class Tagged(Tanh):
    """Good."""

    @property
    def paths(self):
        return ("drive",)

    def drive(self, params, state, inputs):
        return through(super().drive(params, state, inputs), "drive")


class UnknownPath(Tagged):
    @property
    def paths(self):
        return ("drive", "gate")


class UntoldPath(Tagged):
    @property
    def paths(self):
        return ()


class WrongShare(Tagged):
    def path_jacobians(self, *arguments):
        found = super().path_jacobians(*arguments)
        return {**found, "drive": WRONG * found["drive"]}


class LowShare(Tagged):
    """Too low wherever it is wrong."""

    def path_jacobians(self, *arguments):
        found = super().path_jacobians(*arguments)
        return {**found, "drive": found["drive"] - (WRONG - 1) * np.abs(found["drive"])}


class UnknownGate(Tanh):
    @property
    def gates(self):
        return {"V": ("input", "forget")}


class UnevenGates(Tanh):
    @property
    def gates(self):
        return {"W": ("input", "forget", "candidate")}


PROOFS = [
    ("paths_are_tags", UnknownPath()),
    ("paths_are_tags", UntoldPath()),
    ("path_shares", WrongShare()),
    ("path_shares", LowShare()),
    ("gates_fit_parameters", UnknownGate()),
    ("gates_fit_parameters", UnevenGates()),
]


test_fails_this_check_and_no_other, test_every_check_has_a_proof = proven(PROOFS, CHECKS)

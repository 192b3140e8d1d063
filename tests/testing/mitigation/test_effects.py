"""The checks of what a mitigation does to a run, each proven by a plugin that it alone catches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from examples import MakesSlow, Scale
from proofs import WRONG, proven

from gradsim import Mitigation, Penalty, hookimpl
from gradsim.testing import check_mitigation
from gradsim.testing.mitigation.effects import CHECKS


class MovesStates(Scale):
    @hookimpl(wrapper=True)
    def gradsim_adjoint(self, trajectory, time):
        adjoint = yield
        if time == 1:
            states = trajectory.states
            owner = states if states.base is None else states.base
            owner.flags.writeable = True
            owner[1] *= WRONG
        return adjoint


class Seeds(Scale):
    @hookimpl(wrapper=True)
    def gradsim_adjoint(self):
        adjoint = yield
        np.random.seed(7)  # noqa: NPY002
        return adjoint


@dataclass(frozen=True, eq=False)
class ChangesItsMind(Mitigation):
    name = "proof_changes_its_mind"

    penalised = []  # noqa: RUF012

    @hookimpl(wrapper=True)
    def gradsim_jacobians(self):
        jacobians = yield
        factor = 0.5 * WRONG if self.penalised else 0.5
        return jacobians.changed(lambda blocks: factor * blocks)

    @hookimpl(wrapper=True)
    def gradsim_penalty(self):
        penalty = yield
        self.penalised.append(True)
        return penalty

    @hookimpl(wrapper=True)
    def gradsim_gradient(self):
        gradient = yield
        self.penalised.clear()
        return gradient


@dataclass(frozen=True, eq=False)
class Decay(Mitigation):
    """Half the squares of parameters and of states; good, unless told otherwise."""

    name = "proof_decay"

    of_params: float = 1.0
    of_states: float = 1.0

    @hookimpl(wrapper=True)
    def gradsim_penalty(self, trajectory):
        penalty = yield
        params, states = trajectory.params, trajectory.states
        value = 0.5 * sum(np.sum(p * p) for p in params.values()) + 0.5 * np.sum(states**2)
        gradient = {n: self.of_params * p for n, p in params.items()}
        return penalty + Penalty(float(value), gradient, self.of_states * states)


class NeverIdle(Scale):
    idle = {"factor": WRONG}  # noqa: RUF012


class NeverIdleAtFirst(NeverIdle):
    idle = {"factor": 1.0}  # noqa: RUF012

    @hookimpl(wrapper=True)
    def gradsim_params(self):
        params = yield
        return {**params, "U": WRONG * params["U"]}


class NeverIdleAtLast(NeverIdleAtFirst):
    @hookimpl(wrapper=True)
    def gradsim_params(self):
        return (yield)

    @hookimpl(wrapper=True)
    def gradsim_update(self):
        params = yield
        return {n: WRONG * p for n, p in params.items()}


PROOFS = [
    ("leaves_trajectory_and_jacobians", MovesStates()),
    ("inactive_unless_chosen", Seeds()),
    ("composes", MakesSlow(once=True)),
    ("idle_is_identity", NeverIdle()),
    ("idle_is_identity", NeverIdleAtFirst()),
    ("idle_is_identity", NeverIdleAtLast()),
    ("effective_products", ChangesItsMind()),
    ("penalty_gradient", Decay(of_params=WRONG)),
    ("penalty_gradient", Decay(of_states=WRONG)),
]


test_fails_this_check_and_no_other, test_every_check_has_a_proof = proven(PROOFS, CHECKS)


def test_a_good_penalty_passes():
    check_mitigation(Decay())


def test_a_good_idle_passes():
    class Idles(Scale):
        idle = {"factor": 1.0}  # noqa: RUF012

    check_mitigation(Idles())

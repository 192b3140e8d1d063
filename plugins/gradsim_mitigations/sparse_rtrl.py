"""Real-time recurrent learning along some paths, chosen at random."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Mitigation, hookimpl
from gradsim.types import PositiveInt
from gradsim_mitigations.influence import Forward, influence_bytes, influence_flops, step_jacobian


@dataclass(frozen=True, eq=False)
class SparseRTRL(Mitigation):
    """Carry the influence of the parameters forward along a few random paths into each component.

    M_t = (K * J_t) M_{t-1} + I_t, and the gradient is the sum over t of q_t M_t; letters as in `rtrl`.
    K (m, m) has `paths` ones in each row, drawn uniformly without replacement, and zeros: it stays the same
    through a run, and through a training. Nothing makes up for what is dropped, so that the gradient is
    biased. `paths` >= m is `rtrl`; in a J of groups, at most k components lead to one.

    Takes as much as `rtrl` here; with sparse products the operations would be `paths` / m of that.

    Shalev-Merin (2026), Massive redundancy in gradient transport enables sparse online learning,
    arXiv:2603.15195, where 4 of 64 paths recover 84 % of what RTRL does in online adaptation. Known here from
    the abstract: that paths are drawn by rows, once, and are not weighted up is our reading.
    """

    name = "sparse_rtrl"

    paths: PositiveInt = 4

    def draw(self, rng, cell):
        groups, k = cell.jacobian_groups, cell.state_size // cell.jacobian_groups
        ranks = rng.permuted(np.broadcast_to(np.arange(k), (groups, k, k)), axis=-1)
        return {"kept": ranks < self.paths}

    def carry_bytes(self, problem):
        return influence_bytes(problem, problem.block)

    def flops(self, problem):
        return influence_flops(problem, problem.block)

    @hookimpl(wrapper=True)
    def gradsim_rule(self, trajectory, direct, draws, moment):
        yield
        kept = moment.memory(self).get("kept", draws[self]["kept"])
        moment.remember(self, kept=kept)
        return Forward(trajectory, lambda some: step_jacobian(some) * kept).gradient(direct)

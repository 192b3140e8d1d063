"""Real-time recurrent learning along some paths, chosen at random."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Mitigation, hookimpl
from gradsim.types import PositiveInt
from gradsim_mitigations.influence import Forward, influence_bytes, influence_flops


@dataclass(frozen=True, eq=False)
class SparseRTRL(Mitigation):
    """Carry the influence of the parameters forward along a few random paths into each component.

    M_t = (K * J_t) M_{t-1} + I_t, and the gradient is the sum over t of q_t M_t; letters as in `rtrl`.
    K (m, m) has `paths` ones in each row, drawn uniformly without replacement, and zeros: it stays the same
    through a run, and through a training. Nothing makes up for what is dropped, so that the gradient is
    biased. `paths` >= m is `rtrl`; in a J of groups, at most k components lead to one.

    Takes the memory of `rtrl`, and `paths` / m of its operations where that is a third or less, by compiled
    loops (``pip install gradsim[fast]``): with 4 of 128 an eighth of the time. Without them, or with more
    paths, it takes the time of `rtrl`.

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
        return influence_flops(problem, problem.block, paths=self.paths)

    @hookimpl(wrapper=True)
    def gradsim_rule(self, trajectory, direct, draws, moment):
        yield
        kept = moment.memory(self).get("kept", draws[self]["kept"])
        moment.remember(self, kept=kept)
        return Forward(trajectory, kept).gradient(direct)

"""Adjoints that are scaled path by path."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gradsim import Mitigation, hookimpl
from gradsim.errors import unknown
from gradsim.types import NonNegativeFloat


@dataclass(frozen=True, eq=False)
class ScalePaths(Mitigation):
    """Carry adjoints by J~_t = sum over the paths p of factor_p J_t^(p), in place of their sum J_t.

    J_t^(p): the share of a path in the step Jacobian, such as that of a gate; "direct" is what goes through
    none. `factors` says how much of it is left; 1 where a path is not named. What each step adds to the
    gradient is as before. Linear in the adjoint, and no gradient of any loss.

    With {"direct": 1} and 0 elsewhere an LSTM keeps the way through its cell alone, whose error flow
    Hochreiter & Schmidhuber (1997), Long short-term memory, section 4, truncate at the gates; at random
    that is `h_detach`.
    """

    name = "scale_paths"
    idle = {"factors": {}}

    factors: Mapping[str, NonNegativeFloat] = field(default_factory=dict)

    def refuse(self, cell):
        for path in self.factors:
            if path not in ("direct", *cell.paths):
                raise unknown(f"path of {cell.name} in {self.name}", path, ("direct", *cell.paths))

    @hookimpl(wrapper=True)
    def gradsim_jacobians(self, trajectory):
        jacobians = yield
        if all(factor == 1 for factor in self.factors.values()):
            return jacobians

        def scaled(blocks):
            shares = trajectory.call(trajectory.cell.path_jacobians)
            return (blocks + sum((f - 1) * shares[p] for p, f in self.factors.items())).astype(blocks.dtype)

        return jacobians.changed(scaled)

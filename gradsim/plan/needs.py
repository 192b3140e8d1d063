"""What a run needs, by what is recorded and by the hooks that its mitigations implement.

Whether something is made, kept or changed is asked here and nowhere else: bytes, operations, chunks and the
run itself follow what this object says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from gradsim.contracts.hooks import RunHooks
from gradsim.contracts.pieces import Gradient, GradientByLag, LossRows, ProductNorms, Products
from gradsim.contracts.plugin import number_of
from gradsim.contracts.problem import Problem
from gradsim.contracts.recorder import Recorder, Variable, declared
from gradsim.engine import layout
from gradsim.engine.streams import BACKWARD, FROM_JACOBIANS, PRODUCTS


@dataclass(frozen=True)
class Needs:
    """What the recorders and the mitigations of a run need of it."""

    problem: Problem
    recorders: Sequence[Recorder]
    hooks: RunHooks
    in_memory: bool
    tiled: bool = False
    """Whether norms are made by tiles also where halving would do: for a short trial of a long run."""

    def __post_init__(self) -> None:
        self.variables()  # a recorder that declares something wrong is refused here

    # What is recorded. Asked for several times a run, and a small run takes no longer than to answer.

    def variables(self) -> list[tuple[Recorder, Variable]]:
        """Every variable that will be written, named in full."""
        return self._variables

    @cached_property
    def _variables(self) -> list[tuple[Recorder, Variable]]:
        return declared(self.problem, self.recorders)

    def costs(self) -> dict[Recorder, float]:
        """The operations that each recorder says it takes."""
        return self._costs

    @cached_property
    def _costs(self) -> dict[Recorder, float]:
        return {r: r.cost(self.problem) for r in self.recorders}

    @cached_property
    def _asked(self) -> dict[bool | None, set[type]]:
        raw, effective = ({r.stream for r in self.recorders if way in r.flows} for way in (False, True))
        return {False: raw, True: effective, None: raw | effective}

    def asks(self, *streams: type, effective: bool | None = None) -> bool:
        """Whether a recorder wants one of these streams."""
        return not self._asked[effective].isdisjoint(streams)

    def runs_of(self, *streams: type) -> int:
        """How often these streams are made: raw, effective, or both."""
        return max(1, sum(self.asks(*streams, effective=e) for e in (False, True)))

    @property
    def together(self) -> set[type]:
        """The streams of which somebody wants the raw and the effective piece at one time."""
        return {r.stream for r in self.recorders if r.both}

    # What the hooks of the mitigations change, and what they read.

    @property
    def changes_jacobians(self) -> bool:
        """Whether a mitigation changes what carries the adjoint back."""
        return self.hooks.uses("gradsim_jacobians")

    @property
    def shows_states(self) -> bool:
        """Whether a mitigation reads states where it changes Jacobians."""
        return self.hooks.uses("gradsim_jacobians", "trajectory")

    @property
    def penalty_sees_states(self) -> bool:
        """Whether a penalty that will be asked for reads the trajectory."""
        return self.goes_back and self.hooks.uses("gradsim_penalty", "trajectory")

    @property
    def penalty_needs_adjoint(self) -> bool:
        """Whether a penalty that will be asked for reads the raw adjoint."""
        return self.goes_back and self.hooks.uses("gradsim_penalty", "adjoint")

    @property
    def penalty_needs_jacobians(self) -> bool:
        """Whether a penalty that will be asked for reads all raw step Jacobians."""
        return self.goes_back and self.hooks.uses("gradsim_penalty", "jacobians")

    @property
    def _reads_states(self) -> bool:
        whole = ("gradsim_penalty", "gradsim_rule", "gradsim_gradient")
        return any(self.hooks.uses(hook, "trajectory") for hook in whole)

    @property
    def has_rule(self) -> bool:
        """Whether a mitigation puts another algorithm in place of backpropagation."""
        return self.hooks.uses("gradsim_rule")

    @property
    def mitigating(self) -> float:
        """The operations that mitigations say their hooks take, if they act at all."""
        acting = self.hooks.mitigations if self.measures else ()
        return sum(number_of(m, "flops", self.problem) for m in acting)

    # What follows.

    @property
    def goes_back(self) -> bool:
        """Whether something effective is made of the loss, to which penalties add."""
        return self.asks(*BACKWARD, GradientByLag, effective=True)

    @property
    def ways_back(self) -> int:
        """How often adjoints are carried back: raw, effective but not by a rule, and for a penalty."""
        raw = self.asks(*BACKWARD, effective=False)
        again = self.penalty_needs_adjoint and (not raw or bool(self.together))
        return raw + again + (self.asks(*BACKWARD, effective=True) and not self.has_rule)

    @property
    def measures(self) -> bool:
        """Whether mitigations act at all, so that what they require has to be measured."""
        return self.asks(*BACKWARD, *FROM_JACOBIANS, effective=True)

    @property
    def needs_states(self) -> bool:
        """Whether all states are needed at one time."""
        return (self.goes_back and self._reads_states) or self.asks(GradientByLag)

    @property
    def needs_direct(self) -> bool:
        """Whether the derivatives of all losses are needed at one time."""
        ruled = self.has_rule and self.asks(Gradient, effective=True)
        return self.asks(LossRows, GradientByLag) or ruled

    @property
    def makes_jacobians(self) -> bool:
        """Whether step Jacobians are made at all."""
        changed = self.goes_back and self.changes_jacobians
        return self.asks(*FROM_JACOBIANS) or changed or self.keeps_jacobians(False)

    def keeps_jacobians(self, effective: bool) -> bool:
        """Whether step Jacobians must be kept: for products, or for a penalty."""
        if self.asks(*PRODUCTS, LossRows, GradientByLag, effective=effective):
            return True
        return self.penalty_needs_jacobians and not effective

    @property
    def kept_jacobians(self) -> int:
        """How many sets of step Jacobians are kept at one time: changed ones beside the raw count twice."""
        raw, effective = self.keeps_jacobians(False), self.keeps_jacobians(True)
        return raw + (effective and (self.changes_jacobians or not raw))

    @cached_property
    def halved(self) -> int:
        """How many batch elements at a time have their norms made by halving; 0: by tiles, if at all."""
        return layout.halves(self.problem) if self.asks(ProductNorms) and not self.tiled else 0

    def norms_at_once(self, effective: bool) -> bool:
        """Whether the norms of all pairs may be in memory at one time: what records them takes as much."""
        recorded = (v for r, v in self._variables if r.stream is ProductNorms and r.effective == effective)
        each = 2 * 8 * (self.problem.steps + 1) ** 2 * self.problem.batch
        return self.in_memory and sum(v.bytes(self.problem) for v in recorded) >= each

    @property
    def walked(self) -> list[bool]:
        """For which of raw and effective the products are made one by one."""
        streams = (Products,) if self.halved else PRODUCTS
        return [e for e in (False, True) if self.asks(*streams, effective=e)]

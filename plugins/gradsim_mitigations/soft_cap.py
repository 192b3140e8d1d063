"""Sums of units that are capped softly."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from gradsim import Dense, Mitigation, hookimpl
from gradsim.errors import InputError, unknown
from gradsim.types import PositiveFloat
from gradsim_cells.algebra import capped
from gradsim_mitigations.acting import refuse_empty


def soft_capped(cell, cap, numbers):
    """A dense cell whose units see cap tanh(a / cap) of these sums a; all else is as it was."""

    class SoftCapped(type(cell)):
        name = f"soft_capped_{cell.name}"
        step_data = cell.step_data

        def unit(self, sums, old, xp, **data):
            sums = (capped(a, cap, xp) if i in numbers else a for i, a in enumerate(sums))
            return super().unit(tuple(sums), old, xp, **data)

    SoftCapped.__qualname__ = f"SoftCapped{type(cell).__qualname__}"
    return SoftCapped(**{f.name: getattr(cell, f.name) for f in fields(cell) if f.init})


@dataclass(frozen=True, eq=False)
class SoftCap(Mitigation):
    """Let the units of a dense cell see cap tanh(a / cap) in place of each sum a = W x + U h + b.

    It is nearly a where |a| is small, and between -cap and cap, so that exponentials of sums stay finite and
    gates never shut for good; its slope 1 - tanh(a / cap)^2 multiplies that of the unit. `gates` says whose
    sums; by default all.

    Beck et al. (2025), xLSTM 7B: a recurrent LLM for fast and efficient inference, with cap = 15 for the sums
    of the input and forget gates; the cells of the extended LSTM here have an option for it, which is set.
    """

    name = "soft_cap"

    cap: PositiveFloat = 15.0
    gates: tuple[str, ...] | None = None

    @hookimpl(wrapper=True)
    def gradsim_cell(self):
        cell = yield
        refuse_empty(self, "gates")
        if self.gates is None and any(f.name == "soft_cap" for f in fields(cell)):
            return replace(cell, soft_cap=self.cap)
        if not (isinstance(cell, Dense) and cell.of_units):
            raise InputError(
                f"soft_cap: {cell!r} has no units whose sums it could cap; put it in front of what changes "
                "the cell, or choose another one"
            )
        return soft_capped(cell, self.cap, self._sums(cell))

    def _sums(self, cell):
        """The numbers of the sums that are capped."""
        if self.gates is None:
            return tuple(range(cell.sums))
        n, found = cell.units, {}
        for term in cell.counted(cell.init_params(np.random.default_rng(0))):
            for i, gate in enumerate(cell.gates.get(term.param, ())):
                if term.rows.start <= i * n < term.rows.stop:
                    found.setdefault(gate, set()).add((term.column - term.rows.start) // n + i)
        for gate in self.gates:
            if gate not in found:
                raise unknown(f"gate of {cell.name}", gate, found)
        return tuple(sorted(set().union(*(found[gate] for gate in self.gates))))

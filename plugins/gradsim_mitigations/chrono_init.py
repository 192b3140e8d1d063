"""Gates that start with memories of many lengths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Gt

from gradsim.contracts.start import Start
from gradsim_initializers import Chrono
from gradsim_mitigations.starting import Starting


@dataclass(frozen=True, eq=False)
class ChronoInit(Starting):
    """Start biases at log u for gates that keep the state, at -log u for those that admit something new.

    u: uniform between 1 and `longest` - 1, one for each unit; all other biases start at 0. Where a gate sees
    nothing else it keeps f = u / (1 + u), so that a unit remembers, and carries the gradient, for about
    1 + u steps: those of a cell have all lengths up to `longest`, T_max in the paper, which should be that
    of the dependencies that are looked for.

    Tallec & Ollivier (2018), Can recurrent neural networks warp time?, section 2.
    """

    name = "chrono_init"

    longest: Annotated[float, Gt(2)] = 100.0

    @property
    def start(self):
        return Start(bias_init=Chrono(self.longest))

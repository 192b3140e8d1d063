"""Gates that start open towards the past."""

from __future__ import annotations

from dataclasses import dataclass

from gradsim.contracts.start import Start
from gradsim_initializers import Forget
from gradsim_mitigations.starting import Starting


@dataclass(frozen=True, eq=False)
class ForgetBiasInit(Starting):
    """Start the biases of the gates that keep the state at `value`, and all other biases at 0.

    Where a gate sees nothing else, it keeps f = 1 / (1 + exp(-value)) of the state, and with it of the
    gradient, at each step: 0.731 at 1, half of which is lost after 2.2 steps; after 14 at 3. In a cell that
    has a gate which admits something new in place of one that keeps, such as MGU, that one starts at -value.

    Gers, Schmidhuber & Cummins (2000), Learning to forget: continual prediction with LSTM, section 4;
    Jozefowicz, Zaremba & Sutskever (2015), An empirical exploration of recurrent network architectures, who
    recommend 1.
    """

    name = "forget_bias_init"

    value: float = 1.0

    @property
    def start(self):
        return Start(bias_init=Forget(self.value))

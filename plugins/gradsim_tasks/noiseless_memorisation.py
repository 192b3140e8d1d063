"""The noiseless memorisation problem."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge

from gradsim.types import PositiveInt
from gradsim_tasks.copy_memory import CopyMemory


@dataclass(frozen=True, eq=False)
class NoiselessMemorisation(CopyMemory):
    """Say a short pattern again after a long silence of `delay` steps.

    It is `copy_memory` but for the marker, which stands at the step of the first answer: inputs are
    `count` symbols, delay blanks, a marker, count - 1 blanks.

    - 5-bit problem: count=5, alphabet=2, the default; there are 32 different sequences;
    - 20-bit problem: count=10, alphabet=5; there are 5^10, which is more than 2^20.

    What forgets the pattern gets a loss of count ln(alphabet) / (delay + 2 count).

    Martens & Sutskever (2011), Learning recurrent neural networks with Hessian-free optimization; as in
    the public code of Pascanu, Mikolov & Bengio (2013), On the difficulty of training recurrent neural
    networks.
    """

    name = "noiseless_memorisation"

    delay: PositiveInt = 50
    count: PositiveInt = 5
    alphabet: Annotated[int, Ge(2)] = 2

    marker_ahead: ClassVar[int] = 0

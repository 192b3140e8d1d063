"""What lies in the folder in which fuzzed commands are called."""

from __future__ import annotations

OWN = '''
from dataclasses import dataclass

from gradsim import Cell


@dataclass(frozen=True, eq=False)
class Own(Cell):
    """A cell that reads a parameter it does not have."""

    name = "own"

    input_size: int = 1

    @property
    def blocks(self):
        return {"h": 2}

    def init_params(self, rng):
        return {"W": rng.standard_normal((2, 2))}

    def step(self, params, state, inputs, xp):
        return state @ params["V"]
'''
SMALL = {
    "name": "small",
    "batch": 2,
    "task": {"name": "adding", "length": 20},
    "mitigations": [{"name": "gate"}],
    "cell": {"name": "elman", "hidden_size": 2},
}
OTHER = {"compare": [{"label": "gru", "cell": {"name": "gru", "hidden_size": 2}}]}
TRAINED = {**SMALL, "updates": 2, "optimizer": {"name": "adam", "learning_rate": 0.1}}

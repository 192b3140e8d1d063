"""Random configurations: everything that a run is told, and the plain description of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from loops import cells, plain
from loops.acts.act import Act
from loops.choosing import choose, log_uniform

from gradsim import Cell, Episode, Pairs, Task
from gradsim.contracts.task import cross_entropy, squared_error
from gradsim_cells import GRU, LRU, LSTM, Elman, Linear, MinGRU, Stack
from gradsim_initializers import Ring

SEED = 20261121


@dataclass(frozen=True, eq=False)
class Told(Task):
    """Inputs, targets and weights as they were drawn elsewhere."""

    name = "loops_told"

    kind: str
    outputs: int | None
    episode: Episode
    looks: bool = field(default=True)

    @property
    def readout(self):
        return self.looks

    @property
    def input_size(self):
        return self.episode.inputs.shape[-1]

    @property
    def output_size(self):
        return self.outputs

    def sample(self, rng, batch):
        return self.episode

    def loss(self, outputs, targets, xp):
        if self.kind == "quartic":
            return xp.sum((outputs - targets) ** 4, axis=-1)
        return {"squared": squared_error, "cross_entropy": cross_entropy}[self.kind](outputs, targets, xp)


def squared(said, targets):
    gap = said - targets
    return (gap**2).mean(-1), 2 * gap / gap.shape[-1]


def quartic(said, targets):
    gap = said - targets
    return (gap**4).sum(-1), 4 * gap**3


def entropy(said, targets):
    """-log softmax(y)[target]."""
    below = said - said.max(-1, keepdims=True)
    total = np.exp(below).sum(-1, keepdims=True)
    chosen = np.eye(said.shape[-1])[targets]
    return np.log(total[..., 0]) - (below * chosen).sum(-1), np.exp(below) / total - chosen


LOSSES = {"squared": squared, "quartic": quartic, "cross_entropy": entropy}


@dataclass
class Configuration:
    """A run, and what of it the plain loops need to be told."""

    number: int
    cell: Cell
    plain: plain.Plain
    acts: list[Act]
    arguments: dict[str, Any]
    inputs: np.ndarray
    first: np.ndarray | None
    task: Told | None
    steps: int
    batch: int
    dtype: str
    pairs: Pairs
    room: float | None
    threads: int
    compiled: bool
    stored: bool
    cut: bool
    extreme: bool

    def __str__(self):
        t = self.task
        loss = f"{t.kind}{'' if t.looks else ' without readout'}" if t else "last state"
        how = f"room {self.room}, threads {self.threads}, compiled {self.compiled}, stored {self.stored}"
        return (
            f"{self.number}: {self.cell!r}, {self.dtype}, T={self.steps}, batch {self.batch}, {loss}, "
            f"{[a.made for a in self.acts]}, {self.pairs}, {how}, cut {self.cut}, extreme {self.extreme}"
        )


def _simple(rng, features, n, scale):
    """A cell that ships and is no stack, and the same in plain."""
    kind = rng.choice(["tanh", "relu", "logistic", "linear", "lstm", "gru", "cho", "min_gru", "lru"])
    if kind in ("tanh", "relu", "logistic"):
        return Elman(features, n, kind, recurrent_scale=scale), plain.elman(n, kind)
    return {
        "linear": lambda: (Linear(features, n, recurrent_scale=scale), plain.elman(n, "linear")),
        "lstm": lambda: (LSTM(features, n, float(rng.normal()), recurrent_scale=scale), plain.lstm(n)),
        "gru": lambda: (GRU(features, n, True, recurrent_scale=scale), plain.gru(n, True)),
        "cho": lambda: (GRU(features, n, False, recurrent_scale=scale), plain.gru(n, False)),
        "min_gru": lambda: (MinGRU(features, n, float(rng.normal())), plain.min_gru(n)),
        "lru": lambda: (LRU(features, n, Ring(0.3, 0.98)), plain.lru(n)),
    }[kind]()


def _cell(rng, features, extreme):
    """Any cell, and the same in plain."""
    if extreme:
        scale = log_uniform(rng, 1e-12, 1e12)
        return Linear(features, n := int(rng.integers(1, 5)), recurrent_scale=scale), plain.elman(n, "linear")
    n, scale = int(rng.integers(1, 6)), log_uniform(rng, 0.3, 1.6)
    kind = rng.choice(["simple"] * 8 + ["stack"] * 2 + ["coupled", "clocked", "noisy", "sru", "normed"])
    if kind == "simple":
        return _simple(rng, features, n, scale)
    if kind == "stack":
        layers, size = [], features
        for _ in range(rng.integers(2, 4)):
            layers.append(_simple(rng, size, int(rng.integers(1, 4)), scale))
            size = layers[-1][0].output_size
        return Stack(tuple(c for c, _ in layers)), plain.stack([p for _, p in layers])
    return {
        "coupled": lambda: (cells.Coupled(features, n), cells.coupled(n)),
        "clocked": lambda: (cells.Clocked(features, n), cells.clocked(n)),
        "noisy": lambda: (cells.Noisy(features), cells.noisy()),
        "sru": lambda: (cells.SRU(features), cells.sru(features)),
        "normed": lambda: (cells.Normed(Elman(features, n + 1)), cells.normed(plain.elman(n + 1, "tanh"))),
    }[kind]()


def _blocks(rng, cell):
    """The whole products, or the parts between some blocks."""
    names = list(cell.blocks)
    some = lambda: tuple(str(n) for n in rng.choice(names, size=rng.integers(1, len(names) + 1)))
    sides = [side for side in ("blocks_out", "blocks_in") if rng.random() < 0.2]
    return {side: some() for side in sides}


def _pairs(rng, steps):
    some = lambda: tuple(int(i) for i in rng.integers(-steps - 1, steps + 1, size=rng.integers(1, 6)))
    lags = tuple(int(i) for i in rng.integers(0, steps + 1, size=rng.integers(1, 5)))
    ways = [
        *[{}] * 4,
        {"max_lag": int(rng.integers(0, steps + 3))},
        {"lags": lags},
        {"times": some()},
        {"sources": some()},
        {"times": (*some(), steps), "sources": some()},
        {"lags": (*lags, 0), "sources": some()},
    ]
    return Pairs(**ways[rng.integers(len(ways))])


def _task(rng, inputs, features):
    """Losses at the last step, at every or at some, of any kind; None for the sum of the last outputs."""
    if rng.random() < 0.15:
        return None
    steps, batch = inputs.shape[:2]
    weights = {
        "last": lambda: np.eye(steps)[-1][:, None] * np.ones(batch),
        "every": lambda: np.ones((steps, batch)),
        "some": lambda: rng.integers(0, 9, (steps, batch)) / 8 * (rng.random((steps, 1)) < 0.3),
        "any": lambda: rng.integers(0, 9, (steps, batch)) / 8 * (rng.random((steps, batch)) < 0.6),
        "none": lambda: np.zeros((steps, batch)),
    }[rng.choice(["last", "every", "some", "any", "none"], p=[0.25, 0.3, 0.2, 0.2, 0.05])]()
    kind, looks = str(rng.choice(list(LOSSES))), rng.random() < 0.8
    outputs = int(rng.integers(1 + (kind == "cross_entropy"), 4)) if looks else features
    if kind == "cross_entropy":
        targets = rng.integers(0, outputs, (steps, batch))
    else:
        targets = rng.standard_normal((steps, batch, outputs))
    return Told(kind, outputs, Episode(inputs, targets, weights), looks)


def draw(number):
    """Configuration `number`: the same in every run of the program."""
    rng = np.random.default_rng([SEED, number])
    extreme = bool(rng.random() < 0.08)
    dtype = "float32" if rng.random() < 0.3 else "float64"
    features, batch = int(rng.integers(1, 4)), int(rng.integers(1, 5))
    cell, same = _cell(rng, features, extreme)
    steps = int(rng.choice([1, 2, 3, *[int(rng.integers(4, 41 if dtype == "float64" else 26))] * 7]))
    pairs = _pairs(rng, steps)
    if not extreme and rng.random() < 0.04:  # beyond one segment, as real runs cut it
        steps, pairs = 261, Pairs(lags=(0, 1, 200), sources=(0, 3, -1))
    pairs = replace(pairs, **_blocks(np.random.default_rng([SEED, number, 1]), cell))
    size = log_uniform(rng, 0.1, 1.5)
    nothing = steps < 41 and rng.random() < 0.05
    inputs = size * (not nothing) * rng.standard_normal((steps, batch, features))
    task = None if extreme else _task(rng, inputs, cell.output_size)
    chosen = choose(rng, cell, same, task, steps, extreme)
    for act in chosen:
        if act.cell:
            same = act.cell(same)
    first = None
    if rng.random() < 0.4:
        first = rng.standard_normal((batch, same.size)[rng.integers(2) :])
    given = {"inputs": inputs} if task is None else {"task": task, "batch": batch}
    return Configuration(
        number, cell, same, chosen,
        given | {"rng": number, "dtype": dtype, "mitigations": [a.made for a in chosen]},
        inputs, first, task, steps, batch, dtype, pairs,
        room=[None, 0.0, 1e3, 3e4][rng.integers(4)],
        threads=int(rng.integers(1, 4)),
        compiled=bool(rng.random() < 0.5),
        stored=bool(rng.random() < 0.25),
        cut=bool(rng.random() < 0.5),
        extreme=extreme,
    )  # fmt: skip

"""Dense cells of somebody else: nothing but what a unit does."""

from __future__ import annotations

from dataclasses import dataclass

from gradsim import Dense, Term, through


def sigmoid(x, xp):
    return 0.5 + 0.5 * xp.tanh(0.5 * x)


@dataclass(frozen=True, eq=False)
class Sized(Dense):
    input_size: int = 2
    hidden_size: int = 4

    @property
    def blocks(self):
        return {"h": self.hidden_size}


class Coupled(Sized):
    """An LSTM whose input gate is 1 - f."""

    name = "coupled"
    sums = 3
    paths = "forget", "output"

    @property
    def blocks(self):
        return {"h": self.hidden_size, "c": self.hidden_size}

    def unit(self, sums, old, xp):
        f, o = through(sigmoid(sums[0], xp), "forget"), through(sigmoid(sums[1], xp), "output")
        c = f * old[1] + (1 - f) * xp.tanh(sums[2])
        return o * xp.tanh(c), c


class Peephole(Coupled):
    """Its output gate sees c, by weights of its own."""

    name = "peephole"
    sums = 4
    paths = ()

    @property
    def terms(self):
        n = self.hidden_size
        return Term("W", "x", column=n), Term("U", "h", column=n), Term("b", "1", column=n), Term("p", "1")

    def init_params(self, rng):
        n = self.hidden_size
        shapes = {"W": (3 * n, self.input_size), "U": (3 * n, n), "b": (3 * n,), "p": (n,)}
        return {name: rng.standard_normal(shape) for name, shape in shapes.items()}

    def unit(self, sums, old, xp):
        p, f, o, g = sums
        c = sigmoid(f, xp) * old[1] + xp.tanh(g)
        return sigmoid(o + p * c, xp) * xp.tanh(c), c


class Chained(Sized):
    """Blocks that are made of each other, of each other's old ones, and one that only passes on."""

    name = "chained"
    sums = 2

    @property
    def blocks(self):
        return dict.fromkeys(("h", "c", "e", "last"), self.hidden_size)

    def unit(self, sums, old, xp):
        a, b = sums
        h, c, e, _ = old
        e = xp.tanh(0.5 * e + a)
        c = e * xp.sin(c) + h
        return xp.tanh(c * e - b), c, e, h


class Dropped(Sized):
    """Units that do not listen at random, and more and more slowly."""

    name = "dropped"

    def draw(self, rng, steps, batch, moment):
        kept = rng.random((steps, batch, self.hidden_size)) < (1.1 if moment.validating else 0.7)
        return {"kept": kept.astype(float)}

    def unit(self, sums, old, xp, *, kept, step_index):
        rate = 1 / xp.astype(step_index + 1, kept.dtype)[..., None]
        return (1 - rate * kept) * old[0] + rate * kept * xp.tanh(sums[0])

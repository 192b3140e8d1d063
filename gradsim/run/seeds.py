"""The random numbers of a run, all from one seed."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradsim.errors import InputError, shown

Seed = int | np.random.SeedSequence | np.random.Generator | None

_MANY = ("task", "order")
"""Purposes with a generator for every update, of which the first one stands for all."""


class Seeds:
    """Independent random numbers from one seed, by purpose, so that adding a purpose changes no other."""

    purposes = (
        *("params", "task", "cell", "readout", "mitigation", "check"),
        *("order", "update", "validation", "probe"),
    )

    def __init__(self, rng: Seed) -> None:
        if isinstance(rng, np.random.Generator):
            rng = int(rng.integers(2**63))
        if not isinstance(rng, np.random.SeedSequence):
            if (
                isinstance(rng, bool)
                or not isinstance(rng, int | np.integer | None)
                or (rng is not None and rng < 0)
            ):
                raise InputError(
                    f"rng should be a non-negative int, SeedSequence, Generator or None (got {shown(rng)})"
                )
            rng = np.random.SeedSequence(None if rng is None else int(rng))
        try:
            str(rng.entropy)
        except ValueError as error:
            raise InputError(f"rng: the seed is too long to be written down ({error})") from None
        self.seed = rng
        self._made: dict[tuple[str | int, ...], tuple[np.random.Generator, Any]] = {}

    def generator(self, purpose: str, *key: int) -> np.random.Generator:
        """The random numbers of one purpose."""
        made = np.random.default_rng(self._seed(purpose, *key))
        if purpose in _MANY:
            key = ()
        if (purpose, *key) not in self._made:
            self._made[purpose, *key] = made, made.bit_generator.state
        return made

    def used(self) -> list[str]:
        """The purposes for which something that counts has been drawn."""
        moved = {p for (p, *_), (made, state) in self._made.items() if made.bit_generator.state != state}
        return [purpose for purpose in self.purposes if purpose in moved and purpose != "check"]

    def within(self, purpose: str, *key: int) -> Seeds:
        """Seeds for all purposes, for example of one update of a training."""
        return Seeds(self._seed(purpose, *key))

    def _seed(self, purpose: str, *key: int) -> np.random.SeedSequence:
        spawn_key = (*self.seed.spawn_key, self.purposes.index(purpose), *key)
        return np.random.SeedSequence(self.seed.entropy, spawn_key=spawn_key)

    @property
    def description(self) -> dict[str, Any]:
        """The seed, as plain values."""
        return {"entropy": str(self.seed.entropy), "spawn_key": list(self.seed.spawn_key)}

"""Writing a text on, one character after the other."""

from __future__ import annotations

import functools
import sys
from dataclasses import dataclass

import numpy as np

from gradsim import Episode
from gradsim.contracts.task import FiniteTask
from gradsim.errors import InputError
from gradsim.types import PositiveInt
from gradsim_tasks.answers import Classes
from gradsim_tasks.arrays import frequencies
from gradsim_tasks.files import FromFile
from gradsim_tasks.series import cut, fitting, window

SPLIT = (0.9, 0.05, 0.05)


def topics():
    """The help texts of this Python, in the order of their names."""
    try:
        from pydoc_data import topics
    except ImportError:
        raise InputError("Text: this Python comes without its help texts; give a path") from None
    return "\n".join(topics.topics[name] for name in sorted(topics.topics))


@dataclass(frozen=True, eq=False)
class Text(Classes, FromFile, FiniteTask):
    """Say the next character of a text, at every character.

    The text is the UTF-8 file `path`; without one the help texts that come with Python (pydoc_data.topics,
    PSF licence), which differ from one version of Python to the next. The first 90 % of its characters are
    for training, then 5 % for validation and 5 % for the test, or more where that is too little for a
    sequence, as in `gradsim_tasks.series.Series`. Each part is cut into consecutive sequences of `length`
    steps; unless it is given 100, or fewer in a text of less than 673 characters.

    Inputs are one-hot: a symbol for each character that is at least `min_count` times in the part for
    training, in the order of Unicode, and a last one for all others; unless it is given it is 10, or fewer
    in a text of less than 10,000 characters. The loss is the mean over the steps,
    in nats for each character. The baseline "unigram" says the frequencies of the symbols in the part for
    training; where the one before is known as well (a bigram), less is possible. In the help texts of
    Python 3.11.7, 465,048 characters: 3.29 and 2.38 nats.
    """

    name = "text"
    consecutive = True

    path: str | None = None
    length: PositiveInt | None = None
    min_count: PositiveInt | None = None

    def __post_init__(self):
        super().__post_init__()
        count = len(self._codes)
        if self.length is None:
            object.__setattr__(self, "length", window(round(0.15 * count), 1))
        if self.min_count is None:
            object.__setattr__(self, "min_count", max(1, min(10, count // 1000)))
        shortest = min(stop - start for start, stop in self.parts.values())
        if shortest <= self.length:
            raise self.error(
                f"length should be below {shortest}, the characters in its shortest part (got "
                f"{self.length}); or use a longer text than its {count}"
            )
        if not self.alphabet:
            raise self.error(f"no character is there min_count={self.min_count} times; choose a smaller one")

    @property
    def source(self):
        return "the help texts" if self.path is None else self.path

    def content(self):
        return topics().encode() if self.path is None else super().content()

    @property
    def input_size(self):
        return len(self.alphabet) + 1

    @property
    def output_size(self):
        return self.input_size

    @property
    def sequences(self):
        return {part: (stop - start - 1) // self.length for part, (start, stop) in self.parts.items()}

    @property
    def parts(self):
        """The first character of each part and the one behind its last."""
        return cut(fitting(SPLIT, len(self._codes), self.length + 1), len(self._codes))

    @functools.cached_property
    def alphabet(self):
        """The characters that have a symbol of their own."""
        counts = np.bincount(self._codes[slice(*self.parts["train"])])
        return "".join(chr(code) for code in np.flatnonzero(counts >= self.min_count))

    @functools.cached_property
    def symbols(self):
        """The whole text as numbers of symbols."""
        table = np.full(sys.maxunicode + 1, len(self.alphabet), dtype=np.int32)
        table[[ord(character) for character in self.alphabet]] = np.arange(len(self.alphabet))
        return table[self._codes]

    def take(self, part, chosen):
        now = self._now(part, chosen)
        inputs = np.zeros((*now.shape, self.input_size))
        np.put_along_axis(inputs, self.symbols[now][..., None], 1, axis=-1)
        return Episode(inputs, self.symbols[now + 1], np.full(now.shape, 1 / self.length))

    @functools.cached_property
    def baseline(self):
        counts = np.bincount(self.symbols[slice(*self.parts["train"])], minlength=self.output_size)
        part = "validation" if "validation" in self.parts else "train"
        targets = self.symbols[self._now(part, np.arange(self.sequences[part])) + 1]
        return frequencies("unigram", counts, targets, np.full(targets.shape, 1 / self.length))

    def _now(self, part, chosen):
        """Where the inputs are in the text, (time, batch)."""
        start, _ = self.parts[part]
        return start + self.length * np.asarray(chosen) + np.arange(self.length)[:, None]

    @functools.cached_property
    def _codes(self):
        """The code point of each character."""
        return np.frombuffer(self.text().encode("utf-32-le"), dtype="<u4")

"""Handwritten digits, read pixel by pixel."""

from __future__ import annotations

import functools
import gzip
from dataclasses import dataclass
from typing import Literal

import numpy as np

from gradsim_tasks.answers import at_the_end
from gradsim_tasks.arrays import Classified
from gradsim_tasks.files import packaged

PARTS = {"train": slice(0, 1257), "validation": slice(1257, 1527), "test": slice(1527, 1797)}


@functools.cache
def images():
    """Images (1797, 8, 8) with values 0..16 and the digit of each, in the order of the source."""
    path = packaged("sklearn", "datasets/data/digits.csv.gz", "Digits")
    rows = np.loadtxt(gzip.decompress(path.read_bytes()).decode().splitlines(), delimiter=",", dtype=np.int64)
    return rows[:, :64].reshape(-1, 8, 8), rows[:, 64]


@dataclass(frozen=True, eq=False)
class Digits(Classified):
    """Say which digit an image shows, once all its pixels have been read one by one.

    1797 images of 8 x 8 pixels, from top left to bottom right, scaled to [0, 1]: 64 steps with one
    feature `by` pixel, or 8 steps with eight `by` row. The class is asked at the last step. In the order
    of the source 1257 images are for training, 270 for validation, 270 for the test. The baseline "most
    frequent class" is right about once in ten.

    Alpaydin & Kaynak (1998), Optical recognition of handwritten digits, UCI repository (CC BY 4.0), its
    test set; read from scikit-learn. Pixel by pixel, with the larger MNIST images, as Le, Jaitly & Hinton
    (2015), A simple way to initialize recurrent networks of rectified linear units.
    """

    name = "digits"
    output_size = 10

    by: Literal["pixel", "row"] = "pixel"

    def __post_init__(self):
        super().__post_init__()
        images()

    @property
    def input_size(self):
        return 1 if self.by == "pixel" else 8

    @functools.cached_property
    def whole(self):
        pixels, digits = images()
        inputs = np.moveaxis(pixels.reshape(len(pixels), -1, self.input_size) / 16, 0, 1)
        return {n: at_the_end(inputs[:, part], digits[part]) for n, part in PARTS.items()}

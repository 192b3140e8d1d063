"""The colours of the heat map: blue for vanishing, red for exploding, light grey where the gain is 1."""

from __future__ import annotations

import functools

import numpy as np
from matplotlib.colors import ListedColormap, to_rgb

from gradsim.types import Array

_BLUE = ("#eeeeee", "#7fb2dd", "#2b62ad", "#101f55")
_RED = ("#eeeeee", "#eda27c", "#b93a32", "#520b22")

ZERO = "#000000"
"""A gain of exactly zero."""

# Ottosson (2020), A perceptual color space for image processing: linear sRGB -> Oklab.
_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def to_oklab(rgb: Array) -> Array:
    """From sRGB in 0..1, (..., 3), to Oklab, in which equal distances look equal."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return np.asarray(np.cbrt(linear @ _LMS.T) @ _LAB.T)


def from_oklab(lab: Array) -> Array:
    """From Oklab to sRGB, clipped to 0..1."""
    linear = np.clip((lab @ np.linalg.inv(_LAB).T) ** 3 @ np.linalg.inv(_LMS).T, 0, 1)
    return np.asarray(np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055))


def _half(colours: tuple[str, ...], n: int) -> Array:
    """Oklab colours at equal perceptual distances along a path."""
    path = to_oklab(np.array([to_rgb(c) for c in colours]))
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    even = np.linspace(0, along[-1], n)
    return np.stack([np.interp(even, along, channel) for channel in path.T], axis=1)


@functools.cache
def diverging(n: int = 256) -> ListedColormap:
    """A perceptually even map of 2 n - 1 colours, from vanishing through 1 to exploding."""
    blue, red = _half(_BLUE, n), _half(_RED, n)
    return ListedColormap(from_oklab(np.concatenate([blue[:0:-1], red])), "gradsim_diverging")

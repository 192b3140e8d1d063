"""Gates of weights, from the order of one library into that of another."""

from __future__ import annotations

import numpy as np


def reordered(weight, theirs, ours):
    """Rows of a weight (gates * n, ...), whose gates lie in the order `theirs`, in the order `ours`."""
    blocks = dict(zip(theirs, np.split(weight, len(theirs)), strict=True))
    return np.concatenate([blocks[gate] for gate in ours])

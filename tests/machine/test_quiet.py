"""Expected warnings are kept back, and afterwards all is as it was, whoever comes and goes in between."""

from __future__ import annotations

import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest

from gradsim.machine.quiet import without_warnings


def test_only_what_is_expected_is_kept_back():
    with without_warnings("as usual", UserWarning):
        warnings.warn("as usual", stacklevel=1)
        with pytest.raises(UserWarning, match="unusual"):
            warnings.warn("unusual", stacklevel=1)
        with pytest.raises(RuntimeWarning):
            warnings.warn("as usual", RuntimeWarning, stacklevel=1)


def test_blocks_can_be_nested():
    with without_warnings("outer"), without_warnings("inner"):
        warnings.warn("outer", stacklevel=1)
        warnings.warn("inner", stacklevel=1)


def test_the_filters_are_as_before_after_blocks_in_several_threads():
    """Each comes before the one before it leaves, unless it has to wait."""
    before, count = list(warnings.filters), 4
    left = [threading.Event() for _ in range(count)]

    def block(i):
        with without_warnings(f"{i}"):
            left[i].wait(timeout=0.2 * (i + 1))
        left[(i + 1) % count].set()

    with ThreadPoolExecutor(count) as pool:
        list(pool.map(block, range(count)))
    assert warnings.filters == before

"""How the checks of the conformance kit are proven: by broken plugins.

Where a number is at stake, a plugin is wrong by 0.1 %.
"""

from __future__ import annotations

from unittest import SkipTest

import pytest

from gradsim import surrogate
from gradsim.testing import checks_of

WRONG = 1.001


def failures(plugin, **options):
    """The names of the checks that fail, and what they say."""
    found = {}
    for name, call in checks_of(plugin, **options):
        try:
            call()
        except AssertionError as error:
            found[name] = str(error)
        except SkipTest:
            pass
    return found


def proven(proofs, checks):
    """The two tests of proofs, [(check, broken plugin), ...], of these checks."""

    @pytest.mark.parametrize(
        ("check", "plugin"),
        [
            pytest.param(check, plugin, id=f"{check}-{type(plugin).__name__}-{i}")
            for i, (check, plugin) in enumerate(proofs)
        ],
    )
    def fails_this_check_and_no_other(check, plugin):
        found = failures(plugin)
        assert set(found) == {check}, found
        assert type(plugin).__name__ in found[check]

    def every_check_has_a_proof():
        assert {check for check, _ in proofs} == {check.name for check in checks}

    return fails_this_check_and_no_other, every_check_has_a_proof


def wrong_tanh(x, xp):
    """The values of tanh, with a derivative wrong by 0.1 %."""
    return surrogate(xp.tanh(x), WRONG * xp.tanh(x))

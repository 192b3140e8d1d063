"""The checks of a layout, each proven by a plugin that it alone catches."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from proofs import proven

from gradsim import Layout, Model
from gradsim.errors import InputError
from gradsim.testing import check_layout, checks_of
from gradsim.testing.layout import CHECKS
from gradsim_cells import Elman


@dataclass(frozen=True, eq=False)
class Plain(Layout):
    """W, U and b, as they are; good."""

    name = "proof_plain"

    activation: str = "tanh"

    def model(self, arrays):
        n, size = arrays["W"].shape
        return Model(Elman(size, n, self.activation), {p: arrays[p] for p in ("W", "U", "b")})


class CapitalPlain(Plain):
    name = "Plain"


class Undecorated(Plain):
    more: float = 1.0


@dataclass(frozen=True, eq=False)
class NeedsMore(Plain):
    more: float = field(kw_only=True)


class LooksElsewhere(Plain):
    def model(self, arrays):
        return dict(arrays)["W"]


class Content(Plain):
    def model(self, arrays):
        return Model(Elman(), {})


PROOFS = [
    ("name_and_repr", CapitalPlain()),
    ("frozen_dataclass", Undecorated()),
    ("constructs_with_defaults", NeedsMore(more=1.0)),
    ("what_is_missing_is_named", LooksElsewhere()),
    ("what_is_missing_is_named", Content()),
]


test_fails_this_check_and_no_other, test_every_check_has_a_proof = proven(PROOFS, CHECKS)


def test_a_good_layout_passes_every_check():
    assert [name for name, call in checks_of(Plain()) if call() is None] == [c.name for c in CHECKS]
    check_layout(Plain())


def test_a_class_is_refused():
    with pytest.raises(InputError, match="call the class"):
        check_layout(Plain)

"""The checks of a layout of weights."""

from __future__ import annotations

from gradsim.contracts.layout import Arrays, Layout
from gradsim.errors import GradsimError
from gradsim.testing import common
from gradsim.testing.kit import Bench, Checks

CHECKS = Checks(common.CHECKS)


class LayoutBench(Bench):
    """A layout without a file: what it reads is in the tests of its author."""

    family = "layouts"

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout)
        self.layout = layout


@CHECKS()
def what_is_missing_is_named(bench: LayoutBench) -> None:
    """Without any weight it names one that is missing."""
    try:
        bench.layout.model(Arrays({}, bench.layout.name))
    except GradsimError:
        return
    except Exception as error:  # of any kind but the one that is wanted
        bench.fail(f"model() of no weights raises {error!r}; take them with `arrays[name]` or `arrays.take`")
    bench.fail("model() makes something of no weights; take them with `arrays[name]` or `arrays.take`")

"""What the long list tells of each cell."""

from __future__ import annotations

import dataclasses
import io

from rich.console import Console

from gradsim.cli.cells import deviation, long_table, reference, small
from gradsim.contracts import registry
from gradsim_cells import GRU, LIF, LRU, LSTM, Elman, Residual, Stack


def test_every_shipped_cell_is_measured_and_right():
    for name, cls in registry.catalogue().plugins["cells"].items():
        if (cell := cls()).exact:
            assert deviation(small(cell)) < 1e-5, name


@dataclasses.dataclass(frozen=True, eq=False)
class Wrong(Elman):
    """Half of its gradient is lost."""

    name = "wrong"

    def state_vjp(self, params, state, inputs, cotangent):
        return 0.5 * super().state_vjp(params, state, inputs, cotangent)


@dataclasses.dataclass(frozen=True, eq=False)
class Needy(Elman):
    """It cannot be made without its size."""

    name = "needy"
    size: int = dataclasses.field(kw_only=True)


def test_the_long_list_shows_what_is_wrong():
    assert 0.1 < deviation(small(Wrong())) < 10
    made, failures = long_table({"wrong": Wrong, "needy": Needy})
    assert list(made.columns[0].cells) == ["needy", "wrong"]
    assert "failed" in list(made.columns[5].cells)
    assert failures == ["needy: InputError: Needy() needs size"]


def test_the_long_list_fits_a_terminal_of_120_columns():
    made, _ = long_table({"stack": Stack, "lstm": LSTM, "lif": LIF})
    out = Console(width=120, record=True, file=io.StringIO())
    out.print(made)
    lines = out.export_text().splitlines()
    assert max(len(line.rstrip()) for line in lines) <= 120
    text = " ".join(" ".join(lines).split())
    for word in ("layer0_h 16", "1 x 64", "4352", "Schmidhuber"):
        assert word in text
    assert len(lines) < 25


def test_cells_and_those_inside_are_made_small():
    assert (small(GRU()).input_size, small(GRU()).hidden_size) == (4, 4)
    assert small(Stack()).state_size == 16
    assert small(Residual(LSTM(3, 5), scale=0.5)).scale == 0.5
    assert small(LRU()).state_size == 8


def test_the_reference_is_the_first_of_the_last_paragraph_with_a_year():
    class Documented:
        """An equation.

        Mine (2001), Of old.

        Jordan (1986),
        Serial order, eq. 2; Elman (1990), Finding structure in time.

        No reference at all.
        """

    assert reference(Documented) == "Jordan (1986), Serial order, eq. 2"
    assert reference(LSTM) == "Hochreiter & Schmidhuber (1997), Long short-term memory"
    assert reference(type("Bare", (), {})) == ""

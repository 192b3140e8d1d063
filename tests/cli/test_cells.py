"""What the long list tells of each cell."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
from rich.console import Console

from gradsim.cli.cells import ON_PURPOSE, deviation, deviation32, long_table, reference, small
from gradsim.contracts import registry
from gradsim.testing.cell import libraries
from gradsim_cells import GRU, LIF, LRU, LSTM, Elman, Residual, Stack

NOT_EXACT = {"lif"}
"""Cells whose way back is not the derivative of their step on purpose."""


def test_every_row_is_green():
    made, notes = long_table(registry.catalogue().plugins["cells"])
    columns = {column.header: list(column.cells) for column in made.columns}
    assert len(columns["name"]) > 60
    assert notes == [f"{name}: {ON_PURPOSE}" for name in sorted(NOT_EXACT)]
    for name, f64, f32, runs in zip(*(columns[c] for c in ("name", "f64", "f32", "runs")), strict=True):
        assert runs == "J t a", name
        if name in NOT_EXACT:
            assert f64 == f32 == "-"
        else:
            assert float(f64) < 1e-5, name
            assert float(f32) < 2e-5, name


def test_what_is_not_installed_is_said_once(monkeypatch):
    monkeypatch.setitem(libraries.LIBRARIES, "torch", "no_such_module")
    made, notes = long_table({"elman": Elman, "gru": GRU})
    assert notes == ["not installed: torch with array-api-compat"]
    assert list(made.columns[-2].cells) == ["J a", "J a"]
    assert "(J JAX, a array-api-strict)" in made.title


@dataclasses.dataclass(frozen=True, eq=False)
class Picky(Elman):
    """Its step refuses JAX."""

    name = "picky"

    def step(self, params, state, inputs, xp):
        if getattr(xp, "__name__", "") == "jax.numpy":
            raise ValueError("not here\nnor anywhere")
        return super().step(params, state, inputs, xp)


def test_a_step_that_does_not_go_with_a_library_has_its_reason_below():
    made, notes = long_table({"picky": Picky})
    assert list(made.columns[-2].cells) == ["- t a"]
    assert notes == ["picky: its step does not go with JAX (ValueError: not here)"]


@dataclasses.dataclass(frozen=True, eq=False)
class Low(Elman):
    """Its derivatives are right in float64 alone."""

    name = "low"

    def state_vjp(self, params, state, inputs, cotangent):
        found = super().state_vjp(params, state, inputs, cotangent)
        return found.astype(np.float16).astype(np.float32) if found.dtype == np.float32 else found


def test_float32_is_measured_by_itself():
    assert deviation(small(Low())) < 1e-6
    assert 1e-5 < deviation32(small(Low())) < 1e-2
    assert deviation32(small(Elman())) < 1e-6


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

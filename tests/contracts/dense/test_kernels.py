"""Compiled passes of somebody's own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

import gradsim
from gradsim import Dense
from gradsim.contracts.dense import kernels as of_all
from gradsim.errors import PluginError
from gradsim.machine import accelerator
from gradsim.testing import check_cell


@dataclass(frozen=True, eq=False)
class Leaky(Dense):
    """h = 0.9 h + 0.1 tanh(W x + U h + b)."""

    name = "leaky_dense"

    input_size: int = 2
    hidden_size: int = 5

    @property
    def blocks(self):
        return {"h": self.hidden_size}

    def unit(self, sums, old, xp):
        return 0.9 * old[0] + 0.1 * xp.tanh(sums[0])


KERNELS = """
from gradsim.contracts.dense.parts import preactivations, pull, range_ends, room, tanh


def forward(inputs, input_weight, state_weight, bias, states, saved, first, last):
    n = states.shape[2]
    kept, new = states.dtype.type(0.9), states.dtype.type(0.1)
    a = room(last - first, input_weight, state_weight, 0)
    for t in range(len(inputs)):
        old = states[t, first:last]
        preactivations(inputs[t, first:last], old, input_weight, state_weight, bias, 0, a)
        for b in range(first, last):
            for j in range(n):
                saved[t, b, j] = tanh(a[b - first, j])
                states[t + 1, b, j] = kept * states[t, b, j] + new * saved[t, b, j]


def backward(states, saved, state_weight, direct, adjoints, cotangents, ends, first, last):
    n = states.shape[2]
    one, kept, new = states.dtype.type(1), states.dtype.type(0.9), states.dtype.type(0.1)
    pulled = room(last - first, state_weight, state_weight, 0)
    for t in range(len(direct) - 1, -1, -1):
        for b in range(first, last):
            for j in range(n):
                slope = new * (one - saved[t, b, j] * saved[t, b, j])
                cotangents[t, b, j] = adjoints[t + 1, b, j] * slope
        pull(cotangents[t, first:last], state_weight, pulled)
        for b in range(first, last):
            for j in range(n):
                carried = kept * adjoints[t + 1, b, j]
                adjoints[t, b, j] = carried + pulled[b - first, j] + direct[t, b, j]
        if range_ends(adjoints, t, ends, first, last):
            return
"""


class LeakyCompiled(Leaky):
    name = "leaky_compiled"
    kernel = "leaky_kernels_of_somebody"

    @property
    def kernel_saves(self):
        return self.hidden_size


class Softer(LeakyCompiled):
    """Another unit, which the kernel does not know."""

    name = "softer"

    def unit(self, sums, old, xp):
        return 0.9 * old[0] + 0.1 * xp.atan(sums[0])


@pytest.fixture
def kernels(tmp_path, monkeypatch):
    (tmp_path / f"{LeakyCompiled.kernel}.py").write_text(KERNELS)
    monkeypatch.syspath_prepend(tmp_path)


def test_a_cell_without_a_kernel_passes_the_kit():
    check_cell(Leaky())


def test_a_cell_with_a_kernel_outside_the_tree_passes_the_kit(kernels):
    check_cell(LeakyCompiled())


def test_both_give_the_same_numbers(kernels, inputs):
    params = Leaky().init_params(np.random.default_rng(0))
    record = ["state", "adjoint", "gradient"]
    plain, compiled = (
        gradsim.simulate(cell, inputs, params=params, record=record) for cell in (Leaky(), LeakyCompiled())
    )
    for name in plain.data_vars:
        np.testing.assert_allclose(compiled[name], plain[name], rtol=1e-12, atol=1e-14)


def test_a_kernel_that_is_not_there_is_not_looked_for_without_numba(inputs, monkeypatch):
    monkeypatch.setenv("GRADSIM_COMPILED", "0")
    gradsim.simulate(LeakyCompiled(), inputs, record=["gradient"])


def test_a_kernel_is_not_inherited_by_another_unit(kernels):
    assert Softer.kernel is None
    check_cell(Softer())


def test_a_kernel_is_compiled_anew_where_what_it_is_made_of_has_changed(tmp_path, monkeypatch):
    (tmp_path / "some_kernels.py").write_text(NOTHING)
    monkeypatch.syspath_prepend(tmp_path)
    found = []
    for stamp in ("one", "one", "other", "other"):
        monkeypatch.setattr(accelerator, "made_of", lambda name, stamp=stamp: stamp)
        stats = of_all.compiled.__wrapped__("some_kernels", "forward", np.dtype("float32")).stats
        found.append(sum(stats.cache_hits.values()))
    assert found == [0, 1, 0, 1]


NOTHING = '''"""Steps that do nothing."""


def forward(inputs, input_weight, state_weight, bias, states, saved, first, last):
    """The state stays."""
    states[1:, first:last] = states[:1, first:last]
'''


@pytest.mark.parametrize(
    ("module", "text", "message"),
    [
        ("kernels_nowhere", None, "No module named 'kernels_nowhere'; name a module that"),
        ("kernels_without", "", "has no attribute 'forward'; name a module that"),
        (
            "kernels_misspelt",
            "def forward(inputs, input_weight, state_weight, bias, states, saved, first, last):\n    row\n",
            r"cannot compile forward\(inputs, .*last\)(.|\n)*'row' is not defined",
        ),
        (
            "kernels_of_all_rows",
            "def forward(inputs, states, first):\n    pass\n",
            r"forward\(inputs, states, first\) should take the rows `first` to `last`",
        ),
    ],
)
def test_a_kernel_that_does_not_compile_is_named(module, text, message, tmp_path, monkeypatch):
    if text is not None:
        (tmp_path / f"{module}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PluginError, match=f"kernel '{module}': .*{message}"):
        of_all.compiled(module, "forward", np.dtype("float64"))


def test_a_wrong_kernel_is_what_to_mend(tmp_path, monkeypatch):
    (tmp_path / "wrong_kernels.py").write_text(KERNELS.replace("new * saved[t, b, j]\n", "saved[t, b, j]\n"))
    monkeypatch.syspath_prepend(tmp_path)

    class Wrong(LeakyCompiled):
        kernel = "wrong_kernels"

    with pytest.raises(AssertionError, match=r"mend Wrong\.kernel, or delete it to go step by step"):
        check_cell(Wrong())

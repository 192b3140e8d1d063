"""What in the source of a step keeps a library from seeing it."""

from __future__ import annotations

import math

import numpy as np

from gradsim.numerics.autodiff import advice, uses


def squashed(x, xp):
    return xp.tanh(np.concatenate([x, x]))


def good(params, state, inputs, xp):
    return xp.tanh(state) + xp.linalg.vector_norm(inputs)


def bad(params, state, inputs, xp):
    return squashed(state, xp) * math.sqrt(2) + xp.einsum("i,i", inputs, inputs)


def test_nothing_is_said_of_a_step_in_the_standard():
    assert [use.call for use in uses(good)] == ["xp.tanh", "xp.linalg.vector_norm"]
    assert advice(good) == ""


def test_each_call_outside_comes_with_its_line_and_what_to_write():
    first = bad.__code__.co_firstlineno + 1
    inside = squashed.__code__.co_firstlineno + 1
    assert sorted(advice(bad).split("; ")[1:]) == [
        f"use the operator @, xp.tensordot or xp.sum in place of xp.einsum (line {first})",
        f"use xp.concat in place of np.concatenate (line {inside})",
        f"use xp.sqrt in place of math.sqrt (line {first})",
    ]

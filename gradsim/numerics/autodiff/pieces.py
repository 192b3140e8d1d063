"""Derivatives that are made of others, path by path or piece by piece."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gradsim.numerics.autodiff.providers import Step, step_jacobian
from gradsim.numerics.autodiff.tags import opened
from gradsim.types import Array, Params, StepData

_PIECE_BYTES = 2**18
"""Largest array of cotangents of one piece; a trace of second derivatives holds some hundred such."""


def path_jacobians(
    step: Step,
    paths: tuple[str, ...],
    groups: int,
    params: Params,
    state: Array,
    inputs: Array,
    data: StepData,
) -> dict[str, Array]:
    """The share of each path in the step Jacobian: what opening it adds to those before it.

    "direct" is what is left with all of them closed. The sum is that of all differences, J itself.
    """
    found: dict[str, Array] = {}
    before: Array | float = 0.0  # a Python number, which widens no float32
    for count, name in enumerate(("direct", *paths)):
        with opened(paths[:count]):
            whole = step_jacobian(step, groups, params, state, inputs, data)
        found[name], before = whole - before, whole
    return found


def bilinear_in_pieces(
    bilinear_vjp: Callable[..., tuple[Params, Array]],
    step: Step,
    params: Params,
    state: Array,
    inputs: Array,
    left: Array,
    right: Array,
    data: StepData,
) -> tuple[Params, Array]:
    """Derivative of the sum of left @ J @ right, at some positions at a time, so that memory is bounded."""
    copies, *lead, m = left.shape
    count = math.prod(lead)
    flat = {n: x.reshape(count, *x.shape[len(lead) :]) for n, x in data.items()}
    states, along = state.reshape(count, m), inputs.reshape(count, inputs.shape[-1])
    left, right = (x.reshape(copies, count, m) for x in (left, right))
    gradient = {n: np.zeros_like(p) for n, p in params.items()}
    found = np.empty_like(states)
    for at in _slices(count, max(1, _PIECE_BYTES // (copies * m * state.itemsize))):
        there = {n: x[at] for n, x in flat.items()}
        more, found[at] = bilinear_vjp(step, params, states[at], along[at], left[:, at], right[:, at], there)
        for n, value in more.items():
            gradient[n] += value
    return gradient, found.reshape(state.shape)


def jacobian_vjp(
    bilinear_vjp: Callable[..., tuple[Params, Array]],
    params: Params,
    state: Array,
    inputs: Array,
    cotangent: Array,
    data: StepData,
) -> tuple[Params, Array]:
    """Derivative of sum(cotangent * J): of e_r @ J @ cotangent[r] for all rows r of the blocks.

    Some rows at some positions at a time, so that the memory it takes is bounded.
    """
    *lead, g, k, _ = cotangent.shape
    m = g * k
    right = cotangent.reshape(-1, g, k, k).transpose(2, 0, 3, 1).reshape(k, -1, m)
    left = np.zeros((k, k, g), dtype=cotangent.dtype)
    left[np.arange(k), np.arange(k)] = 1
    left = left.reshape(k, 1, m)
    count = math.prod(lead)  # -1 would not do for arrays of no size
    flat = {n: x.reshape(count, *x.shape[len(lead) :]) for n, x in data.items()}
    states, inputs = state.reshape(count, m), inputs.reshape(count, inputs.shape[-1])
    gradient = {n: np.zeros_like(p) for n, p in params.items()}
    found = np.zeros_like(states)
    room = max(1, _PIECE_BYTES // (m * state.itemsize))
    for at in _slices(len(states), max(1, room // k)):
        here: tuple[Any, ...] = params, states[at], inputs[at]
        there = {n: x[at] for n, x in flat.items()}
        for rows in _slices(k, room):
            pushed = right[rows, at]
            more, moved = bilinear_vjp(*here, np.broadcast_to(left[rows], pushed.shape), pushed, **there)
            found[at] += moved
            for n, value in more.items():
                gradient[n] += value
    return gradient, found.reshape(state.shape)


def _slices(length: int, size: int) -> list[slice]:
    return [slice(i, min(i + size, length)) for i in range(0, length, size)]

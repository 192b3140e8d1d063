"""Compiled passes of the dense cells over a block of steps.

Imported through `gradsim.machine.accelerator` only, because it needs numba. A kernel takes the rows
``first:last`` of the batch through all steps, so that threads work side by side and never wait for another.
What it computes is written down, in NumPy, in the cell of the same name.
"""

from __future__ import annotations

import functools

import numpy as np
from numba import njit, types

from gradsim_cells.kernel_parts import OPTIONS, preactivations, pull, room, sigmoid_all, tanh_all


@functools.cache
def compiled(name, dtype):
    """The kernel of this name for this dtype, compiled, or loaded from the cache on disk.

    A forward kernel takes (inputs, input_weight, state_weight, bias, states, saved), a backward one (states,
    saved, state_weight, direct, adjoints, cotangents), and writes the last two. Integers follow.
    """
    function = globals()[name]
    number = types.float32 if dtype == np.float32 else types.float64
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    arrays = [
        types.Array(number, 1 if n == "bias" else 3, "C", readonly=i < 4) for i, n in enumerate(names[:6])
    ]
    signature = types.void(*arrays, *[types.intp] * len(names[6:]))
    try:
        return njit(signature, cache=True, **OPTIONS)(function)
    except RuntimeError:  # there is no folder that a cache could be written to
        return njit(signature, **OPTIONS)(function)


# Elman: activation 0 tanh, 1 relu, 2 logistic, 3 none (the linear cell).


def elman_forward(inputs, input_weight, state_weight, bias, states, saved, first, last, activation):
    """The new state is phi(a)."""
    n = states.shape[2]
    a = room(last - first, input_weight, state_weight, 0)
    for t in range(len(inputs)):
        old, new = states[t, first:last], states[t + 1, first:last]
        preactivations(inputs[t, first:last], old, input_weight, state_weight, bias, 0, a)
        for b in range(last - first):
            new[b] = a[b, :n]
            if activation == 0:
                tanh_all(new[b])
            elif activation == 1:
                for j in range(n):
                    if new[b, j] < 0:  # and a NaN stays one
                        new[b, j] = 0
            elif activation == 2:
                sigmoid_all(new[b])


def elman_backward(states, saved, state_weight, direct, adjoints, cotangents, first, last, activation):
    """The adjoint times phi', which follows from the state."""
    n = states.shape[2]
    one = states.dtype.type(1)
    pulled = room(last - first, state_weight, state_weight, 0)
    for t in range(len(direct) - 1, -1, -1):
        for b in range(first, last):
            h, adjoint, d = states[t + 1, b], adjoints[t + 1, b], cotangents[t, b]
            if activation == 0:
                for j in range(n):
                    d[j] = adjoint[j] * (one - h[j] * h[j])
            elif activation == 1:
                for j in range(n):
                    d[j] = adjoint[j] if h[j] > 0 else 0
            elif activation == 2:
                for j in range(n):
                    d[j] = adjoint[j] * (h[j] * (one - h[j]))
            else:
                d[:] = adjoint
        pull(cotangents[t, first:last], state_weight, pulled)
        for b in range(first, last):
            for j in range(n):
                adjoints[t, b, j] = pulled[b - first, j] + direct[t, b, j]


# LSTM: saved are i, f, g, o and tanh(c).


def lstm_forward(inputs, input_weight, state_weight, bias, states, saved, first, last):
    """The new c is f c + i g, and h is o tanh(c)."""
    n = states.shape[2] // 2
    a = room(last - first, input_weight, state_weight, 0)
    for t in range(len(inputs)):
        old = states[t, first:last]
        preactivations(inputs[t, first:last], old, input_weight, state_weight, bias, 0, a)
        for b in range(first, last):
            gates, tanh_c = saved[t, b, : 4 * n], saved[t, b, 4 * n :]
            gates[:] = a[b - first, : 4 * n]
            sigmoid_all(gates[: 2 * n])
            tanh_all(gates[2 * n : 3 * n])
            sigmoid_all(gates[3 * n :])
            h, c, c_old = states[t + 1, b, :n], states[t + 1, b, n:], states[t, b, n:]
            for j in range(n):
                c[j] = gates[n + j] * c_old[j] + gates[j] * gates[2 * n + j]
            tanh_c[:] = c
            tanh_all(tanh_c)
            for j in range(n):
                h[j] = gates[3 * n + j] * tanh_c[j]


def lstm_backward(states, saved, state_weight, direct, adjoints, cotangents, first, last):
    """The cotangents of i, f, g, o, of c before, and through them of h before."""
    n = states.shape[2] // 2
    one = states.dtype.type(1)
    pulled = room(last - first, state_weight, state_weight, 0)
    for t in range(len(direct) - 1, -1, -1):
        for b in range(first, last):
            i, f, g = saved[t, b, :n], saved[t, b, n : 2 * n], saved[t, b, 2 * n : 3 * n]
            o, tanh_c, c_old = saved[t, b, 3 * n : 4 * n], saved[t, b, 4 * n :], states[t, b, n:]
            dh, dc, d = adjoints[t + 1, b, :n], adjoints[t, b, n:], cotangents[t, b]
            for j in range(n):
                dc[j] = adjoints[t + 1, b, n + j] + dh[j] * o[j] * (one - tanh_c[j] * tanh_c[j])
            for j in range(n):
                d[j] = dc[j] * g[j] * i[j] * (one - i[j])
            for j in range(n):
                d[n + j] = dc[j] * c_old[j] * f[j] * (one - f[j])
            for j in range(n):
                d[2 * n + j] = dc[j] * i[j] * (one - g[j] * g[j])
            for j in range(n):
                d[3 * n + j] = dh[j] * tanh_c[j] * o[j] * (one - o[j])
            for j in range(n):
                dc[j] = dc[j] * f[j] + direct[t, b, n + j]
        pull(cotangents[t, first:last], state_weight, pulled)
        for b in range(first, last):
            for j in range(n):
                adjoints[t, b, j] = pulled[b - first, j] + direct[t, b, j]


# GRU: saved are n, r, z and the recurrent part U_n h + c_n of n.


def gru_forward(inputs, input_weight, state_weight, bias, states, saved, first, last):
    """The new h is z h + (1 - z) n."""
    n = states.shape[2]
    a = room(last - first, input_weight, state_weight, n)
    for t in range(len(inputs)):
        old = states[t, first:last]
        preactivations(inputs[t, first:last], old, input_weight, state_weight, bias, n, a)
        for b in range(first, last):
            gates, h, h_old = saved[t, b], states[t + 1, b], states[t, b]
            candidate = gates[:n]
            gates[:] = a[b - first, : 4 * n]
            sigmoid_all(gates[n : 3 * n])
            for j in range(n):
                candidate[j] += gates[n + j] * gates[3 * n + j]
            tanh_all(candidate)
            for j in range(n):
                h[j] = candidate[j] + gates[2 * n + j] * (h_old[j] - candidate[j])


def gru_backward(states, saved, state_weight, direct, adjoints, cotangents, first, last):
    """The cotangents of the preactivations of n, r, z, and of the recurrent part of n."""
    n = states.shape[2]
    one = states.dtype.type(1)
    pulled = room(last - first, state_weight, state_weight, 0)
    for t in range(len(direct) - 1, -1, -1):
        for b in range(first, last):
            candidate, r, z = saved[t, b, :n], saved[t, b, n : 2 * n], saved[t, b, 2 * n : 3 * n]
            recurrent, h_old = saved[t, b, 3 * n :], states[t, b]
            adjoint, d = adjoints[t + 1, b], cotangents[t, b]
            for j in range(n):
                d[j] = adjoint[j] * (one - z[j]) * (one - candidate[j] * candidate[j])
            for j in range(n):
                d[n + j] = d[j] * recurrent[j] * r[j] * (one - r[j])
            for j in range(n):
                d[2 * n + j] = adjoint[j] * (h_old[j] - candidate[j]) * z[j] * (one - z[j])
            for j in range(n):
                d[3 * n + j] = d[j] * r[j]
        pull(cotangents[t, first:last, n:], state_weight, pulled)
        for b in range(first, last):
            for j in range(n):
                local = adjoints[t + 1, b, j] * saved[t, b, 2 * n + j]
                adjoints[t, b, j] = pulled[b - first, j] + local + direct[t, b, j]

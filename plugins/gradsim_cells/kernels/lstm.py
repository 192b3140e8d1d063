"""Compiled passes of the LSTM; saved are i, f, g, o and tanh(c)."""

from gradsim.contracts.dense.parts import at, preactivations, pull, range_ends, room, sigmoid, tanh


def forward(inputs, input_weight, state_weight, bias, states, saved, first, last):
    """The new c is f c + i g, and h is o tanh(c)."""
    n = states.shape[2] // 2
    a = room(last - first, input_weight, state_weight, 0)
    for t in range(len(inputs)):
        old = states[t, first:last]
        preactivations(inputs[t, first:last], old, input_weight, state_weight, bias, 0, a)
        for b in range(first, last):
            for j in range(2 * n):
                saved[t, b, j] = sigmoid(a[at(b - first), j])
            for j in range(n):
                saved[t, b, at(2 * n + j)] = tanh(a[at(b - first), at(2 * n + j)])
            for j in range(n):
                saved[t, b, at(3 * n + j)] = sigmoid(a[at(b - first), at(3 * n + j)])
            for j in range(n):
                c = (
                    saved[t, b, at(n + j)] * states[t, b, at(n + j)]
                    + saved[t, b, j] * saved[t, b, at(2 * n + j)]
                )
                states[t + 1, b, at(n + j)] = c
            for j in range(n):
                saved[t, b, at(4 * n + j)] = tanh(states[t + 1, b, at(n + j)])
            for j in range(n):
                states[t + 1, b, j] = saved[t, b, at(3 * n + j)] * saved[t, b, at(4 * n + j)]


def backward(states, saved, state_weight, direct, adjoints, cotangents, ends, first, last):
    """The cotangents of i, f, g, o, of c before, and through them of h before."""
    n = states.shape[2] // 2
    one = states.dtype.type(1)
    pulled = room(last - first, state_weight, state_weight, 0)
    for t in range(len(direct) - 1, -1, -1):
        for b in range(first, last):
            for j in range(n):
                o, tanh_c = saved[t, b, at(3 * n + j)], saved[t, b, at(4 * n + j)]
                through_h = adjoints[t + 1, b, j] * o * (one - tanh_c * tanh_c)
                adjoints[t, b, at(n + j)] = adjoints[t + 1, b, at(n + j)] + through_h
            for j in range(n):
                i, dc = saved[t, b, j], adjoints[t, b, at(n + j)]
                cotangents[t, b, j] = dc * saved[t, b, at(2 * n + j)] * i * (one - i)
            for j in range(n):
                f, dc = saved[t, b, at(n + j)], adjoints[t, b, at(n + j)]
                cotangents[t, b, at(n + j)] = dc * states[t, b, at(n + j)] * f * (one - f)
            for j in range(n):
                g, dc = saved[t, b, at(2 * n + j)], adjoints[t, b, at(n + j)]
                cotangents[t, b, at(2 * n + j)] = dc * saved[t, b, j] * (one - g * g)
            for j in range(n):
                o, dh = saved[t, b, at(3 * n + j)], adjoints[t + 1, b, j]
                cotangents[t, b, at(3 * n + j)] = dh * saved[t, b, at(4 * n + j)] * o * (one - o)
            for j in range(n):
                adjoints[t, b, at(n + j)] = (
                    adjoints[t, b, at(n + j)] * saved[t, b, at(n + j)] + direct[t, b, at(n + j)]
                )
        pull(cotangents[t, first:last], state_weight, pulled)
        for b in range(first, last):
            for j in range(n):
                adjoints[t, b, j] = pulled[at(b - first), j] + direct[t, b, j]
        if range_ends(adjoints, t, ends, first, last):
            return

"""Compiled passes of the GRU; saved are n, r, z and the recurrent part U_n h + c_n of n."""

from gradsim.contracts.dense.parts import at, preactivations, pull, range_ends, room, sigmoid, tanh


def forward(inputs, input_weight, state_weight, bias, states, saved, first, last):
    """The new h is z h + (1 - z) n."""
    n = states.shape[2]
    a = room(last - first, input_weight, state_weight, n)
    for t in range(len(inputs)):
        old = states[t, first:last]
        preactivations(inputs[t, first:last], old, input_weight, state_weight, bias, n, a)
        for b in range(first, last):
            for j in range(2 * n):
                saved[t, b, at(n + j)] = sigmoid(a[at(b - first), at(n + j)])
            for j in range(n):
                saved[t, b, at(3 * n + j)] = a[at(b - first), at(3 * n + j)]
            for j in range(n):
                saved[t, b, j] = tanh(
                    a[at(b - first), j] + saved[t, b, at(n + j)] * a[at(b - first), at(3 * n + j)]
                )
            for j in range(n):
                candidate = saved[t, b, j]
                states[t + 1, b, j] = candidate + saved[t, b, at(2 * n + j)] * (states[t, b, j] - candidate)


def backward(states, saved, state_weight, direct, adjoints, cotangents, ends, first, last):
    """The cotangents of the preactivations of n, r, z, and of the recurrent part of n."""
    n = states.shape[2]
    one = states.dtype.type(1)
    pulled = room(last - first, state_weight, state_weight, 0)
    for t in range(len(direct) - 1, -1, -1):
        for b in range(first, last):
            for j in range(n):
                candidate, z = saved[t, b, j], saved[t, b, at(2 * n + j)]
                cotangents[t, b, j] = adjoints[t + 1, b, j] * (one - z) * (one - candidate * candidate)
            for j in range(n):
                r = saved[t, b, at(n + j)]
                cotangents[t, b, at(n + j)] = cotangents[t, b, j] * saved[t, b, at(3 * n + j)] * r * (one - r)
            for j in range(n):
                z, apart = saved[t, b, at(2 * n + j)], states[t, b, j] - saved[t, b, j]
                cotangents[t, b, at(2 * n + j)] = adjoints[t + 1, b, j] * apart * z * (one - z)
            for j in range(n):
                cotangents[t, b, at(3 * n + j)] = cotangents[t, b, j] * saved[t, b, at(n + j)]
        pull(cotangents[t, first:last, n:], state_weight, pulled)
        for b in range(first, last):
            for j in range(n):
                local = adjoints[t + 1, b, j] * saved[t, b, at(2 * n + j)]
                adjoints[t, b, j] = pulled[at(b - first), j] + local + direct[t, b, j]
        if range_ends(adjoints, t, ends, first, last):
            return

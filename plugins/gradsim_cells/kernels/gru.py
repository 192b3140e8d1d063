"""Compiled passes of the GRU; saved are n, r, z and the recurrent part U_n h + c_n of n."""

from gradsim_cells.kernels.parts import preactivations, pull, range_ends, room, sigmoid_all, tanh_all


def forward(inputs, input_weight, state_weight, bias, states, saved, first, last):
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


def backward(states, saved, state_weight, direct, adjoints, cotangents, ends, first, last):
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
        if range_ends(adjoints, t, ends, first, last):
            return

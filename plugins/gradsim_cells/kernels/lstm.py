"""Compiled passes of the LSTM; saved are i, f, g, o and tanh(c)."""

from gradsim_cells.kernels.parts import preactivations, pull, range_ends, room, sigmoid_all, tanh_all


def forward(inputs, input_weight, state_weight, bias, states, saved, first, last):
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


def backward(states, saved, state_weight, direct, adjoints, cotangents, ends, first, last):
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
        if range_ends(adjoints, t, ends, first, last):
            return

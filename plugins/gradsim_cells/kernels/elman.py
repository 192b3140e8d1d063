"""Compiled passes of Elman and the linear cell: activation 0 tanh, 1 relu, 2 logistic, 3 none."""

from gradsim_cells.kernels.parts import preactivations, pull, range_ends, room, sigmoid_all, tanh_all


def forward(inputs, input_weight, state_weight, bias, states, saved, first, last, activation):
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


def backward(states, saved, state_weight, direct, adjoints, cotangents, ends, first, last, activation):
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
        if range_ends(adjoints, t, ends, first, last):
            return

"""Compiled passes of Elman and the linear cell: activation 0 tanh, 1 relu, 2 logistic, 3 none."""

from gradsim.contracts.dense.parts import at, preactivations, pull, range_ends, room, sigmoid, tanh


def forward(inputs, input_weight, state_weight, bias, states, saved, first, last, activation):
    """The new state is phi(a)."""
    n = states.shape[2]
    a = room(last - first, input_weight, state_weight, 0)
    for t in range(len(inputs)):
        old = states[t, first:last]
        preactivations(inputs[t, first:last], old, input_weight, state_weight, bias, 0, a)
        for b in range(first, last):
            if activation == 0:
                for j in range(n):
                    states[t + 1, b, j] = tanh(a[at(b - first), j])
            elif activation == 1:
                for j in range(n):
                    states[t + 1, b, j] = (
                        0 if a[at(b - first), j] < 0 else a[at(b - first), j]
                    )  # a NaN stays one
            elif activation == 2:
                for j in range(n):
                    states[t + 1, b, j] = sigmoid(a[at(b - first), j])
            else:
                for j in range(n):
                    states[t + 1, b, j] = a[at(b - first), j]


def backward(states, saved, state_weight, direct, adjoints, cotangents, ends, first, last, activation):
    """The adjoint times phi', which follows from the state."""
    n = states.shape[2]
    one = states.dtype.type(1)
    pulled = room(last - first, state_weight, state_weight, 0)
    for t in range(len(direct) - 1, -1, -1):
        for b in range(first, last):
            for j in range(n):
                h, adjoint = states[t + 1, b, j], adjoints[t + 1, b, j]
                if activation == 0:
                    cotangents[t, b, j] = adjoint * (one - h * h)
                elif activation == 1:
                    cotangents[t, b, j] = adjoint if h > 0 else 0
                elif activation == 2:
                    cotangents[t, b, j] = adjoint * (h * (one - h))
                else:
                    cotangents[t, b, j] = adjoint
        pull(cotangents[t, first:last], state_weight, pulled)
        for b in range(first, last):
            for j in range(n):
                adjoints[t, b, j] = pulled[at(b - first), j] + direct[t, b, j]
        if range_ends(adjoints, t, ends, first, last):
            return

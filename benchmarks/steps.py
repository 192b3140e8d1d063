"""Steps of five cells, s_t of s_{t-1} and x_t, as a user writes them: the same lines in every library.

`xp` is `jax.numpy`, `torch` or the namespace that gradsim gives to a cell.
"""

from __future__ import annotations


def sigmoid(xp, a):
    """The library's own where it has one under this name."""
    own = getattr(xp, "sigmoid", None)
    return own(a) if own else 0.5 * (xp.tanh(0.5 * a) + 1.0)


def elman(xp, p, s, x):
    return xp.tanh(s @ p["U"].T + x @ p["W"].T + p["b"])


def gru(xp, p, s, x):
    n = s.shape[-1]
    a, u = x @ p["W"].T + p["b"], s @ p["U"].T + p["c"]
    gates = sigmoid(xp, a[..., : 2 * n] + u[..., : 2 * n])
    r, z = gates[..., :n], gates[..., n:]
    return z * s + (1 - z) * xp.tanh(a[..., 2 * n :] + r * u[..., 2 * n :])


def lstm(xp, p, s, x):
    n = s.shape[-1] // 2
    h, c = s[..., :n], s[..., n:]
    a = x @ p["W"].T + h @ p["U"].T + p["b"]
    i, f, g, o = (a[..., j * n : (j + 1) * n] for j in range(4))
    c = sigmoid(xp, f) * c + sigmoid(xp, i) * xp.tanh(g)
    return xp.concat((sigmoid(xp, o) * xp.tanh(c), c), axis=-1)


def min_gru(xp, p, s, x):
    a = x @ p["W"].T + p["b"]
    z = sigmoid(xp, a[..., : s.shape[-1]])
    return (1 - z) * s + z * a[..., s.shape[-1] :]


def lru(xp, p, s, x):
    n = s.shape[-1] // 2
    size, phase, gamma = xp.exp(-xp.exp(p["nu"])), xp.exp(p["theta"]), xp.exp(p["log_gamma"])
    a, b, re, im = size * xp.cos(phase), size * xp.sin(phase), s[..., :n], s[..., n:]
    return xp.concat(
        (a * re - b * im + gamma * (x @ p["W_re"].T), a * im + b * re + gamma * (x @ p["W_im"].T)), axis=-1
    )


STEPS = {"elman": elman, "lstm": lstm, "gru": gru, "min_gru": min_gru, "lru": lru}

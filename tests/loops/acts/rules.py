"""What stands in place of the way back."""

from __future__ import annotations

import math

import numpy as np
from loops.acts.act import Act, total
from loops.acts.backward import windows
from loops.reference import norm

from gradsim_mitigations import KFRTRL, RFLO, RTRL, UORO, EProp, Immediate, SnAp, TruncateForward


def rtrl():
    return Act(RTRL(), rule=True)


def snap():
    """With more steps than a run has, nothing is left out."""
    return Act(SnAp(1000), rule=True)


def forward_windows(k1, k2):
    return Act(TruncateForward(k1, k2), rule=True, jacobians=windows(k1, k2))


def immediate():
    return Act(Immediate(), rule=True, jacobians=lambda raw, jacobians, reach: (0 * jacobians, reach))


def rflo(leak):
    def change(raw, jacobians, reach):
        return 0 * jacobians + (1 - leak) * np.eye(jacobians.shape[-1]), reach

    return Act(RFLO(leak), rule=True, jacobians=change)


def e_prop(units):
    """`units`: the unit of each component of the state."""
    same = np.array([[a == b for b in units] for a in units])

    def change(raw, jacobians, reach):
        return jacobians if raw.given.cell.groups > 1 else same * jacobians, reach

    return Act(EProp(), rule=True, jacobians=change)


def uoro():
    made = UORO()

    def gradient(raw, direct):
        signs, names = raw.given.draws[made]["signs"], list(raw.immediate)
        found = {n: np.zeros(raw.immediate[n].shape[3:]) for n in names}
        sizes = {n: g.copy() for n, g in found.items()}
        for i in range(raw.batch):
            a, b = np.zeros(raw.given.cell.size), {n: 0 * g for n, g in found.items()}
            for t in range(raw.steps):
                v = signs[t, i]
                carried, seen = raw.jacobians[t, i] @ a, {n: _times(v, raw.immediate[n][t, i]) for n in names}
                r = _ratio(total(b), norm(carried, None))
                s = _ratio(total(seen), norm(v, None))
                a = r * carried + s * v
                b = {n: _over(b[n], r) + _over(seen[n], s) for n in names}
                for n in names:
                    found[n] += direct[t + 1, i] @ a * b[n]
                    sizes[n] += abs(direct[t + 1, i]) @ abs(a) * abs(b[n])
        return found, sizes

    return Act(made, rule=True, found=gradient)


def kf_rtrl():
    """Of a cell whose parameters W, U and b make sums W x + U h + b of the first block h of its state."""
    made = KFRTRL()

    def gradient(raw, direct):
        signs, params = raw.given.draws[made]["signs"], raw.given.params
        by_sums, n = raw.immediate["b"], params["U"].shape[1]
        found = np.zeros((by_sums.shape[-1], raw.given.inputs.shape[-1] + n + 1))
        sizes = found.copy()
        for i in range(raw.batch):
            a, u = np.zeros(by_sums.shape[2:]), np.zeros(found.shape[1])
            for t in range(raw.steps):
                v, d = signs[t, i], by_sums[t, i]
                z = np.concatenate([raw.given.inputs[t, i], raw.states[t, i, :n], [1]])
                carried = raw.jacobians[t, i] @ a
                r = _ratio(norm(u, None), norm(carried, None))
                s = _ratio(norm(z, None), norm(d, None))
                a = r * carried + v * s * d
                u = _over(u, r) + _over(v * z, s)
                found += np.outer(direct[t + 1, i] @ a, u)
                sizes += np.outer(abs(direct[t + 1, i]) @ abs(a), abs(u))
        ends = [raw.given.inputs.shape[-1], -1]
        return tuple(
            {"W": w, "U": u, "b": b[:, 0]} for w, u, b in (np.split(x, ends, axis=1) for x in (found, sizes))
        )

    return Act(made, rule=True, found=gradient)


def _times(vector, immediate):
    return np.einsum("m,m...->...", vector, immediate)


def _ratio(one, other):
    """The square root; 0 leaves out a product of which one factor is zero."""
    return math.sqrt(one / other) if one > 0 and other > 0 else 0.0


def _over(x, ratio):
    return x / ratio if ratio else 0 * x

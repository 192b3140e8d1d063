"""Recurrent weights that start at the edge between vanishing and exploding gradients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Mitigation, Moment, hookimpl
from gradsim.contracts.plugin import drawn
from gradsim.contracts.start import Start
from gradsim.contracts.trajectory import one_by_one
from gradsim.errors import InputError
from gradsim_mitigations.starting import started

_SEQUENCES = 8
"""Sequences that are looked at: what grows along them all differs little from one to the next."""

_DOUBLINGS = 10
_HALVINGS = 20
"""How far from 1 a scale is looked for, and how closely: to a millionth."""

_ROUNDING = 1e-12
"""A rate that is none, such as that of orthogonal steps."""


@dataclass(frozen=True, eq=False)
class CriticalInit(Mitigation):
    """Scale the recurrent weights by the s at which gradients neither vanish nor explode, on average.

    s solves r(s) = 0, with r(s) = mean over b of log(|v_b P_b(T, 0)| / |v_b|) / T: the rate per step at which
    an adjoint v of random direction grows on its way back through the whole run, over the first eight
    sequences b of the inputs. For long runs r is the leading Lyapunov exponent, and s lies at the edge of
    chaos. Of several such s the nearest to 1 is taken. It acts on all that the cell calls its recurrent
    weights, by one factor, whatever has drawn them: written behind `orthogonal_init`, on these.

    For h = tanh(W x + U h) of n units with U ~ N(0, s^2 / n) and random inputs, chi = s^2 <tanh'(z)^2> is 1
    there: 1.41, 1.55 and 1.86 where the inputs add a variance of 0.1, 0.25 and 1 to z.

    Sompolinsky, Crisanti & Sommers (1988), Chaos in random neural networks; Chen, Pennington & Schoenholz
    (2018), Dynamical isometry and a mean field theory of RNNs, with inputs.
    """

    name = "critical_init"

    @hookimpl(wrapper=True)
    def gradsim_params(self, cell, inputs, rng):
        params = yield
        scale = critical_scale(cell, params, inputs, rng, self)
        return started(self, cell, params, rng, Start(recurrent_scale=scale))


def critical_scale(cell, params, inputs, rng, mitigation):
    """The factor of the recurrent weights, see `CriticalInit`."""
    inputs = np.asarray(inputs[:, :_SEQUENCES], dtype=np.float64)
    data = _step_data(cell, inputs, rng, mitigation)
    direction = rng.standard_normal((inputs.shape[1], cell.state_size))

    def rate(power):
        given = started(mitigation, cell, params, rng, Start(recurrent_scale=2.0**power))
        return growth(cell, given, inputs, data, direction)

    rates = {0: rate(0)}
    if abs(rates[0]) < _ROUNDING:
        return 1.0
    for power in range(1, _DOUBLINGS + 1):
        for near, far in ((power - 1, power), (1 - power, -power)):
            rates[far] = rate(far)
            if (rates[near] < 0) != (rates[far] < 0):
                return 2.0 ** _crossing(rate, near, far, rates[near] < 0)
    least, most = min(rates.values()), max(rates.values())
    raise InputError(
        f"{mitigation.name}: whatever the recurrent weights of {cell.name} are scaled by, from "
        f"2^-{_DOUBLINGS} to 2^{_DOUBLINGS}, gradients {'vanish' if least < 0 else 'explode'}: by "
        f"exp({least:.3g}) to exp({most:.3g}) per step; leave it out"
    )


def _crossing(rate, near, far, vanishing):
    """The power of two between these at which the rate is 0; at `near` its sign is known."""
    for _ in range(_HALVINGS):
        middle = (near + far) / 2
        near, far = (middle, far) if (rate(middle) < 0) == vanishing else (near, middle)
    return (near + far) / 2


def growth(cell, params, inputs, step_data, direction):
    """The rate r of `CriticalInit`, of adjoints (batch, m) that come in at the end."""
    state = np.broadcast_to(cell.initial_state(), direction.shape).astype(np.float64)
    grown, adjoint = np.zeros(len(direction)), direction / _sizes(direction)
    with np.errstate(all="ignore"):
        run = cell.unroll(params, state, inputs, step_data, one_by_one)
        for row in reversed(range(len(inputs))):
            adjoint = run.pull_one(row, adjoint)
            sizes = _sizes(adjoint)
            grown += np.log(sizes[:, 0])
            adjoint = adjoint / np.where(sizes > 0, sizes, 1)
    rate = grown.mean() / len(inputs)
    return np.inf if np.isnan(rate) else rate  # where states or adjoints have overflowed


def _sizes(vectors):
    return np.linalg.norm(vectors, axis=-1, keepdims=True)


def _step_data(cell, inputs, rng, mitigation):
    """What the cell draws itself, and the index of the step."""
    steps, batch = inputs.shape[:2]
    index = np.broadcast_to(np.arange(1, steps + 1)[:, None], (steps, batch))
    known = {"step_index": index, **drawn(cell.draw, rng, inputs, Moment())}
    for name in cell.step_data:
        if name not in known:
            raise InputError(
                f"{mitigation.name}: the steps of {cell.name} depend on {name!r} of the task, which is not "
                "known when parameters are drawn; leave one of the two out"
            )
    return {name: known[name] for name in cell.step_data}

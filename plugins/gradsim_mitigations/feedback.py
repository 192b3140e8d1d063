"""Random feedback: errors reach the state by fixed random weights instead of those of the readout."""

from __future__ import annotations

import numpy as np

from gradsim.errors import InputError
from gradsim.numerics import autodiff

READOUT = "readout_W"


def refuse_no_readout(mitigation, shapes):
    """Raise unless there are weights of a readout to take the place of."""
    if READOUT not in shapes:
        raise InputError(
            f"{mitigation.name}: feedback='random' takes the place of the weights of a readout, and this run "
            "has none; give it a task with a readout, or feedback='readout'"
        )


def draw_feedback(rng, shapes):
    """Draw B, of the shape (output, features) of the readout's weights, with entries N(0, 1 / features)."""
    return {"feedback": rng.standard_normal(shapes[READOUT]) / np.sqrt(shapes[READOUT][1])}


def fed_back(mitigation, trajectory, direct, errors, params, draws, moment):
    """The derivatives q with B in the place of the readout's weights W: q_t + e_t (B - W) do_t/ds_t.

    e_t (output): the errors dL_t/dy_t; o_t (features): what the readout sees of s_t. A training remembers the
    B of its first update.
    """
    weights = moment.memory(mitigation).get("feedback", draws[mitigation]["feedback"])
    moment.remember(mitigation, feedback=weights)
    seen = errors[1:] @ (weights - params[READOUT]).astype(errors.dtype)
    place = trajectory.params, trajectory.after, trajectory.inputs, seen, {}
    moved = autodiff.provider().state_vjp(trajectory.cell.output, *place)
    return direct + np.concatenate((np.zeros_like(moved[:1]), moved))

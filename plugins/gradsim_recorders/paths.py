"""Recorders of the paths through a step: their shares of J_t, and the values of what they go through."""

from __future__ import annotations

import functools

import numpy as np

from gradsim import Recorder, Variable
from gradsim.contracts.moment import Moment
from gradsim.contracts.pieces import Forward
from gradsim.contracts.plugin import drawn
from gradsim.engine.segments import jacobian_steps
from gradsim.errors import InputError
from gradsim.numerics import autodiff
from gradsim.numerics.scaled import Scaled, combine, norm
from gradsim_recorders.ranged import both, sized


class PathJacobianRecorder(Recorder):
    """The share of each path in J_t = ds_t/ds_{t-1}: "direct" first, then the `paths` of the cell.

    Each is what opening the path adds to those before it, so that the shares sum to J_t, whatever lies within
    what; "direct" has all of them closed. Only the diagonal blocks are kept, as of `step_jacobian`.
    """

    name = "path_jacobian"
    stream = Forward
    twin = False

    def dims(self, problem):
        return {"path": ["direct", *_paths(self, problem)]}

    def variables(self, problem):
        dims = ("step", "batch", "path", *problem.matrix_dims)
        return (Variable("path_jacobian", dims, "share of a path in ds_t/ds_{t-1}"),)

    def compute(self, piece):
        shares = piece.trajectory.call(piece.trajectory.cell.path_jacobians)
        stacked = np.stack(list(shares.values()), axis=2)
        return {"path_jacobian": stacked[:, :, :, 0] if stacked.shape[3] == 1 else stacked}


class PathNormRecorder(Recorder):
    """The Frobenius norm of the share of each path in J_t; see `path_jacobian`."""

    name = "path_norm"
    stream = Forward
    twin = False

    def dims(self, problem):
        return {"path": ["direct", *_paths(self, problem)]}

    def variables(self, problem):
        dims = ("step", "batch", "path")
        return (Variable("path_norm", dims, "norm of the share of a path in ds_t/ds_{t-1}"),)

    def start(self, problem):
        return problem

    def compute(self, piece, carry):
        taken, found = piece.trajectory, []
        for steps in jacobian_steps(taken.steps, carry):
            shares = taken[steps].call(taken.cell.path_jacobians)
            stacked = np.stack(list(shares.values()), axis=2)
            exponent = np.zeros((*stacked.shape[:3], 1, 1, 1), dtype=np.int32)
            found.append(norm(Scaled(stacked, exponent), (-3, -2, -1)).value)
        return {"path_norm": np.concatenate(found)}


class PathProductNormRecorder(Recorder):
    """The Frobenius norm of ds_t/ds_0 where one path is open beside the direct one, and its log10.

    All other paths are closed at all steps: it is what would be left if a gradient could take this way only.
    "direct" has all of them closed. These are no shares of the whole product, which also holds what changes
    from one path to another on its way; shares are defined for a single step, in `path_jacobian`.
    """

    name = "path_product_norm"
    stream = Forward
    twin = False

    def dims(self, problem):
        return {"path": ["direct", *_paths(self, problem)]}

    def variables(self, problem):
        long_name = "Frobenius norm of ds_t/ds_0 by one path and the direct one"
        return sized("path_product_norm", ("time", "batch", "path"), long_name)

    def start(self, problem):
        g, k = problem.groups, problem.block
        shape = 1 + len(problem.cell.paths), problem.batch, g
        product = np.broadcast_to(np.eye(k), (*shape, k, k)).copy()
        return problem, Scaled(product, np.zeros((*shape, 1, 1), dtype=np.int32))

    def compute(self, piece, carry):
        (problem, product), taken = carry, piece.trajectory
        cell, found = taken.cell, [_norms(product)] if taken.first == 1 else []
        for steps in jacobian_steps(taken.steps, problem):
            here, alone = taken[steps], []
            for path in ((), *((path,) for path in cell.paths)):
                with autodiff.opened(path):
                    alone.append(here.call(functools.partial(traced_jacobian, cell)))
            for step in np.stack(alone, axis=1):
                np.matmul(step, product.mantissa.copy(), out=product.mantissa)
                product.settle((-2, -1))
                found.append(_norms(product))
        stacked = (np.stack([getattr(n, x) for n in found]) for x in ("mantissa", "exponent"))
        return both("path_product_norm", Scaled(*stacked))

    def flops(self, problem):
        paths = 1 + len(problem.cell.paths)
        return 2.0 * paths * problem.steps * problem.batch * problem.cell.state_size * problem.block**2


class GateRecorder(Recorder):
    """The values of what `gradsim.through` tags in the step, such as gates, for each unit.

    Where a path is tagged several times in a step, as in the layers of a stack, the units lie side by side,
    in the order of the step; where it has fewer units than another one, the rest is NaN, as is all of
    "direct", which goes through nothing.
    """

    name = "gate"
    stream = Forward
    twin = False

    def dims(self, problem):
        paths = _paths(self, problem)
        return {"path": ["direct", *paths], "unit": np.arange(max(_widths(problem.cell).values()))}

    def variables(self, problem):
        return (Variable("gate", ("step", "batch", "path", "unit"), "value of what a path goes through"),)

    def start(self, problem):
        return max(_widths(problem.cell).values())

    def compute(self, piece, carry):
        taken = piece.trajectory
        found = _tagged(taken.cell, taken.params, taken.before, taken.inputs, taken.step_data)
        values = np.full((*taken.before.shape[:2], 1 + len(found), carry), np.nan, dtype=taken.states.dtype)
        for i, value in enumerate(found.values(), 1):
            values[:, :, i, : value.shape[-1]] = value
        return {"gate": values}


def _paths(recorder, problem):
    cell = problem.cell
    if not cell.paths:
        raise InputError(
            f"{cell!r} has no paths for the recorder {recorder.name}: tag what they go through in its step "
            "with gradsim.through and name the tags in `paths`, or leave the recorder out"
        )
    return cell.paths


def traced_jacobian(cell, params, state, inputs, **data):
    """J of the step itself, in which paths may be closed, whatever derivative the cell has."""
    return autodiff.step_jacobian(cell.step, cell.jacobian_groups, params, state, inputs, data)


def _norms(product):
    """Frobenius norms (batch, path) of products (path, batch, g, k, k)."""
    sizes = combine(norm(product, (-2, -1)), axis=-1)
    return Scaled(sizes.mantissa.T, sizes.exponent.T)


@functools.lru_cache(maxsize=16)
def _widths(cell):
    """The number of units of each path, found by taking a step."""
    rng, lead = np.random.default_rng(0), (2, 1)
    inputs = np.zeros((*lead, cell.input_size))
    data = {"step_index": np.ones(lead, dtype=int), **drawn(cell.draw, rng, inputs, Moment())}
    if missing := [n for n in cell.step_data if n not in data]:
        raise InputError(
            f"{cell!r}: the recorder gate cannot tell how many units its paths have, as its step asks for "
            f"{', '.join(missing)} of the task; leave the recorder out"
        )
    state = np.broadcast_to(cell.initial_state(), (*lead, cell.state_size))
    data = {n: data[n] for n in cell.step_data}
    return {n: x.shape[-1] for n, x in _tagged(cell, cell.init_params(rng), state, inputs, data).items()}


def _tagged(cell, params, state, inputs, data):
    """What is tagged in these steps, (steps, batch, unit), by path."""
    lead = state.shape[:-1]
    with np.errstate(all="ignore"), autodiff.tagged() as found:
        cell.step(params, state, inputs, np, **data)

    def by_unit(x):
        x = np.asarray(x)
        whole = x if x.shape[:2] == lead else np.broadcast_to(x, (*lead, *x.shape))
        return whole.reshape(*lead, -1)

    return {path: np.concatenate([by_unit(x) for x in found[path]], axis=-1) for path in cell.paths}

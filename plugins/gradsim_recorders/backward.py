"""Recorders of the backward pass: adjoints, contributions, the gradient."""

from __future__ import annotations

import numpy as np

from gradsim import Recorder, Variable
from gradsim.contracts.pieces import Adjoints, Contributions, FullAdjoints, Gradient, GradientByLag
from gradsim.contracts.problem import axis_dim
from gradsim.numerics.scaled import Scaled, add, norm
from gradsim_recorders.ranged import both, sized


class AdjointRecorder(Recorder):
    """The adjoint dL/ds_t, at every time."""

    name = "adjoint"
    stream = Adjoints

    def variables(self, problem):
        return (Variable("adjoint", ("time", "batch", "component"), "adjoint dL/ds_t"),)

    def compute(self, piece):
        return {"adjoint": piece.adjoint}


class AdjointNormRecorder(Recorder):
    """The norm of the adjoint dL/ds_t, at every time, and its log10."""

    name = "adjoint_norm"
    stream = Adjoints

    def variables(self, problem):
        return sized("adjoint_norm", ("time", "batch"), "norm of the adjoint dL/ds_t")

    def compute(self, piece):
        return both("adjoint_norm", norm(piece.adjoint, (-1,)))


class AdjointFactorRecorder(Recorder):
    """The norm of the adjoint after the mitigations of the adjoint over the norm before."""

    name = "adjoint_factor"
    stream = Adjoints
    raw = False

    def variables(self, problem):
        long_name = "factor that mitigations apply to the adjoint"
        return (Variable("adjoint_factor", ("time", "batch"), long_name, dtype="float64"),)

    def compute(self, piece):
        return {"adjoint_factor": piece.factor}


class InputAdjointRecorder(Recorder):
    """dL/dx_t at every step: what the loss feels of each input, through the state and through the output.

    The effective twin is made of the effective adjoints.
    """

    name = "input_adjoint"
    stream = FullAdjoints

    def dims(self, problem):
        return {"input": np.arange(problem.cell.input_size)}

    def variables(self, problem):
        return (Variable("input_adjoint", ("step", "batch", "input"), "derivative dL/dx_t"),)

    def compute(self, piece):
        after = piece.adjoint[-len(piece.trajectory.steps) :]
        found = Scaled(piece.trajectory.inputs_vjp(after.mantissa), after.exponent)
        if piece.inputs is not None:
            found = add(found, Scaled(piece.inputs, np.zeros_like(found.exponent)))
        return {"input_adjoint": found}


class ContributionRecorder(Recorder):
    """What enters dL/dparams at each step, summed over the batch; the sum over steps is the gradient.

    One variable a parameter: contribution_<param>.
    """

    name = "contribution"
    stream = Contributions

    def variables(self, problem):
        return tuple(
            Variable(f"contribution_{n}", ("step", *_axes(n, shape)), f"contribution of a step to dL/d{n}")
            for n, shape in problem.param_shapes.items()
        )

    def compute(self, piece):
        return {f"contribution_{n}": part for n, part in piece.parts.items()}


class ContributionNormRecorder(Recorder):
    """The norm of what enters the gradient of each parameter at each step, and its log10."""

    name = "contribution_norm"
    stream = Contributions

    def variables(self, problem):
        return sized("contribution_norm", ("step", "param"), "norm of the contribution of a step")

    def compute(self, piece):
        norms = [norm(part, tuple(range(1, part.mantissa.ndim))) for part in piece.parts.values()]
        return both("contribution_norm", _stacked(norms))


class GradientRecorder(Recorder):
    """The gradient dL/dparams; one variable a parameter: gradient_<param>."""

    name = "gradient"
    stream = Gradient

    def variables(self, problem):
        return tuple(
            Variable(f"gradient_{n}", _axes(n, shape), f"gradient dL/d{n}")
            for n, shape in problem.param_shapes.items()
        )

    def compute(self, piece):
        return {f"gradient_{n}": part for n, part in piece.parts.items()}


class GradientNormRecorder(Recorder):
    """The norm of the gradient of each parameter."""

    name = "gradient_norm"
    stream = Gradient

    def variables(self, problem):
        return (Variable("gradient_norm", ("param",), "norm of the gradient", dtype="float64"),)

    def compute(self, piece):
        flat = [Scaled(p.mantissa.ravel(), p.exponent[None]) for p in piece.parts.values()]
        return {"gradient_norm": _stacked([norm(part, (0,)) for part in flat])}


class GradientByLagRecorder(Recorder):
    """The part of dL/dparams at each lag; one variable a parameter: gradient_by_lag_<param>.

    At lag l that is the sum over k of q_{k+l} P(k+l, k) I_k: what the loss at time k + l feels of step k.
    q_t (m): dL_t/ds_t; P(t, k) (m, m): ds_t/ds_k; I_k (m, *param): ds_k/dparams at a fixed state before. Over
    all lags it sums to the gradient; at lag T, from the first state on, there is none.

    The lags are those of the pairs, whose times and sources make no difference. What a loss feels with no
    state in between, as of the readout, is of lag 0, and so is what penalties add at fixed states; what a
    penalty feels of the state at time t counts as a loss at t. All step Jacobians are kept, and a gradient is
    made for each lag: name few (max_lag, lags) where the run is long.
    """

    name = "gradient_by_lag"
    stream = GradientByLag

    def variables(self, problem):
        return tuple(
            Variable(f"gradient_by_lag_{n}", ("lag", *_axes(n, shape)), f"part at lag t - k of dL/d{n}")
            for n, shape in problem.param_shapes.items()
        )

    def compute(self, piece):
        return {f"gradient_by_lag_{n}": part for n, part in piece.parts.items()}


class GradientNormByLagRecorder(Recorder):
    """The norm of the gradient of each parameter at each lag, and its log10; see `gradient_by_lag`."""

    name = "gradient_norm_by_lag"
    stream = GradientByLag

    def variables(self, problem):
        return sized("gradient_norm_by_lag", ("lag", "param"), "norm of the gradient at lag t - k")

    def compute(self, piece):
        norms = [norm(part, tuple(range(1, part.mantissa.ndim))) for part in piece.parts.values()]
        return both("gradient_norm_by_lag", _stacked(norms))


class GradientNormBySequenceRecorder(Recorder):
    """The norm of what each batch element adds to the gradient of each parameter, and its log10.

    These parts sum to the gradient, in which they may cancel. As the loss is a mean over the batch, the
    gradient of one sequence alone is the batch size times as large.
    """

    name = "gradient_norm_by_sequence"
    stream = FullAdjoints
    twin = False

    def variables(self, problem):
        long_name = "norm of the part of a batch element in the gradient"
        return sized("gradient_norm_by_sequence", ("batch", "param"), long_name)

    def start(self, problem):
        def zeros(shape):
            whole = np.zeros((problem.batch, *shape), dtype=problem.dtype)
            return Scaled(whole, np.zeros((problem.batch, *(1,) * len(shape)), dtype=np.int32))

        return {name: zeros(shape) for name, shape in problem.param_shapes.items()}

    def compute(self, piece, carry):
        for name, part in _by_sequence(piece).items():
            carry[name] = add(carry[name], part, tuple(range(1, part.mantissa.ndim)))
        for name, part in piece.params.items():
            none = Scaled(part, np.zeros_like(carry[name].exponent))
            carry[name] = add(carry[name], none, tuple(range(1, part.ndim)))
        return {}

    def finish(self, carry):
        norms = [norm(part, tuple(range(1, part.mantissa.ndim))) for part in carry.values()]
        return both("gradient_norm_by_sequence", _stacked(norms))


class GradientFactorRecorder(Recorder):
    """The norm of the whole gradient after the mitigations of the gradient over the norm before."""

    name = "gradient_factor"
    stream = Gradient
    raw = False

    def variables(self, problem):
        long_name = "factor that mitigations apply to the gradient"
        return (Variable("gradient_factor", (), long_name, dtype="float64"),)

    def compute(self, piece):
        return {"gradient_factor": np.float64(piece.factor)}


def _by_sequence(piece):
    """What some steps add to the gradient of the cell, by batch element: (batch, *param)."""
    taken = piece.trajectory
    # With one exponent for all steps, over which the derivative is summed, and of a size that leaves room.
    after = piece.adjoint[-len(taken.steps) :].common((0, 2)).settled((0, 2), keep=0)

    def turned(x):
        return x.swapaxes(0, 1)

    found = taken.cell.params_vjp(
        taken.params,
        turned(taken.before),
        turned(taken.inputs),
        turned(after.mantissa),
        **{n: turned(x) for n, x in taken.step_data.items()},
    )
    exponent = after.exponent.reshape(-1)
    return {n: Scaled(g, exponent.reshape(-1, *(1,) * (g.ndim - 1))) for n, g in found.items()}


def _stacked(sizes):
    return Scaled(*(np.stack([getattr(s, x) for s in sizes], axis=-1) for x in ("mantissa", "exponent")))


def _axes(param, shape):
    return tuple(axis_dim(param, i) for i in range(len(shape)))

"""Recorders of the backward pass: adjoints, contributions, the gradient."""

from __future__ import annotations

import numpy as np

from gradsim import Recorder, Variable
from gradsim.contracts.problem import axis_dim
from gradsim.contracts.recorder import Adjoints, Contributions, Gradient
from gradsim.numerics.scaled import Scaled, norm
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


def _stacked(sizes):
    return Scaled(*(np.stack([getattr(s, x) for s in sizes], axis=-1) for x in ("mantissa", "exponent")))


def _axes(param, shape):
    return tuple(axis_dim(param, i) for i in range(len(shape)))

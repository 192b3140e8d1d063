"""Derivatives of any `step`, for cells that give no analytic ones: one file a library.

`step` computes with the namespace `xp` that it is given, by the names of the array API standard. autograd
is always there, so `by_autograd` makes the free derivatives.
"""

from gradsim.numerics.autodiff.advice import advice, uses
from gradsim.numerics.autodiff.autograd_namespace import xp
from gradsim.numerics.autodiff.by_autograd import (
    bilinear_vjp,
    gradient,
    inputs_jacobian,
    inputs_vjp,
    named_vjp,
    params_vjp,
    state_vjp,
    step_jacobian,
    step_jacobians,
    value_and_gradient,
)
from gradsim.numerics.autodiff.pieces import jacobian_vjp, path_jacobians
from gradsim.numerics.autodiff.tags import detach, opened, surrogate, through

__all__ = [
    "advice",
    "bilinear_vjp",
    "detach",
    "gradient",
    "inputs_jacobian",
    "inputs_vjp",
    "jacobian_vjp",
    "named_vjp",
    "opened",
    "params_vjp",
    "path_jacobians",
    "state_vjp",
    "step_jacobian",
    "step_jacobians",
    "surrogate",
    "through",
    "uses",
    "value_and_gradient",
    "xp",
]

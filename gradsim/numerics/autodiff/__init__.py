"""Derivatives of any `step`, for cells that give no analytic ones: one file a library.

`step` computes with the namespace `xp` that it is given, by the names of the array API standard. autograd
is always there; `provider` says which library makes the free derivatives of a run. What is named here by
itself, such as `state_vjp`, is autograd's.
"""

from gradsim.numerics.autodiff.advice import advice, uses
from gradsim.numerics.autodiff.autograd_namespace import xp
from gradsim.numerics.autodiff.by_autograd import (
    bends,
    bilinear_vjp,
    gradient,
    named_vjp,
    params_jvp,
    params_vjp,
    slopes,
    state_vjp,
    value_and_gradient,
)
from gradsim.numerics.autodiff.pieces import bilinear_in_pieces, jacobian_vjp, path_jacobians
from gradsim.numerics.autodiff.providers import (
    AUTOGRAD,
    Block,
    Provider,
    deriving,
    jax_refused,
    load_jax,
    load_torch,
    provider,
    step_jacobian,
)
from gradsim.numerics.autodiff.tags import detach, opened, surrogate, tagged, through

__all__ = [
    "AUTOGRAD",
    "Block",
    "Provider",
    "advice",
    "bends",
    "bilinear_in_pieces",
    "bilinear_vjp",
    "deriving",
    "detach",
    "gradient",
    "jacobian_vjp",
    "jax_refused",
    "load_jax",
    "load_torch",
    "named_vjp",
    "opened",
    "params_jvp",
    "params_vjp",
    "path_jacobians",
    "provider",
    "slopes",
    "state_vjp",
    "step_jacobian",
    "surrogate",
    "tagged",
    "through",
    "uses",
    "value_and_gradient",
    "xp",
]

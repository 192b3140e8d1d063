"""What a step makes of its parameters alone, made once for all steps of a loop.

A transposed weight, for example: XLA folds the transposition into the product, and takes the products of a
vector with rows that lie far apart, again at each step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

Function = Callable[..., Any]


def hoisted(step: Function, params: Any, *rest: Any) -> tuple[Function, Function]:
    """``ahead(params)``, and ``then(made, *rest)`` of it, which gives what ``step(params, *rest)`` does."""
    try:
        return _parted(step, params, *rest)
    except (AttributeError, TypeError):
        # The inside of a trace is no public part of JAX: where it has changed, nothing is made ahead.
        return lambda params: params, step


def _parted(step: Function, params: Any, *rest: Any) -> tuple[Function, Function]:
    closed = jax.make_jaxpr(step)(params, *rest)
    whole = closed.jaxpr
    count = len(jax.tree.leaves(params))
    given = [*whole.invars[:count], *whole.constvars]
    known, first, later = set(given), [], []
    for equation in whole.eqns:
        # What grows, such as a bias for each sequence, is left where it is.
        if known.issuperset(read(equation)) and _size(equation.outvars) <= _size(read(equation)):
            first.append(equation)
            known.update(equation.outvars)
        else:
            later.append(equation)
    asked = {v for equation in later for v in read(equation)} | {*_variables(whole.outvars)}
    kept = [v for v in (*given, *(v for equation in first for v in equation.outvars)) if v in asked]

    def function(invars: list[Any], outvars: list[Any], equations: list[Any]) -> Function:
        names = whole.debug_info.with_unknown_names()
        part = whole.replace(constvars=[], invars=invars, outvars=outvars, eqns=equations, debug_info=names)
        found: Function = jaxpr_as_fun(ClosedJaxpr(part, ()))
        return found

    made = function(given, kept, first)
    left = function([*kept, *whole.invars[count:]], whole.outvars, later)

    def ahead(params: Any) -> list[Any]:
        return list(made(*jax.tree.leaves(params), *closed.consts))

    def then(made: list[Any], *rest: Any) -> Any:
        return left(*made, *jax.tree.leaves(rest))[0]

    return ahead, then


def moving(function: Function, fixed: Any, *rest: Any) -> list[bool]:
    """Which of the arrays that ``function(fixed, *rest)`` lists depend on the rest."""
    whole = jax.make_jaxpr(function)(fixed, *rest).jaxpr
    found = {*whole.invars[len(jax.tree.leaves(fixed)) :]}
    for equation in whole.eqns:
        if found.intersection(read(equation)):
            found.update(equation.outvars)
    return [v in found for v in map(_variable, whole.outvars)]


def read(equation: Any) -> list[Any]:
    """The variables that an equation reads."""
    return _variables(equation.invars)


def _variables(atoms: Any) -> list[Any]:
    return [v for v in map(_variable, atoms) if v is not None]


def _variable(atom: Any) -> Any:
    """The atom, unless it is a literal."""
    return None if hasattr(atom, "val") else atom


def _size(variables: Any) -> int:
    return sum(math.prod(v.aval.shape) for v in variables)

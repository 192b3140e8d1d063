"""The pieces of a run by the stage that makes them."""

from __future__ import annotations

from gradsim.contracts.jacobians import Jacobians
from gradsim.contracts.pieces import (
    Adjoints,
    Contributions,
    Exponents,
    Forward,
    FullAdjoints,
    Gradient,
    GradientByLag,
    LossRows,
    LossTerms,
    ProductNorms,
    Products,
)

FORWARD = (Forward, LossTerms)
SINGLE = (Jacobians, Exponents)
PRODUCTS = (ProductNorms, Products)
BACKWARD = (Adjoints, FullAdjoints, Contributions, Gradient)
FROM_JACOBIANS = (*SINGLE, *PRODUCTS, LossRows, GradientByLag)
ALONG_TIME = (*FORWARD, Jacobians, Adjoints, FullAdjoints, Contributions)

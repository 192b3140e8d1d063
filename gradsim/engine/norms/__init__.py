"""Frobenius norms of all Jacobian products without making all products."""

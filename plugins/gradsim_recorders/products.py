"""Recorders of Jacobian products P(t, k) = ds_t/ds_k, and of what is made of them."""

from __future__ import annotations

import numpy as np

from gradsim import Jacobians, Recorder, Variable
from gradsim.contracts.pieces import LossRows, ProductNorms, Products
from gradsim.numerics.bidiagonal import smallest_singular_value
from gradsim.numerics.scaled import Scaled, combine, norm
from gradsim_recorders.ranged import both, sized

_SVD_FLOPS = 8
"""Operations of the singular values of a k x k matrix, in units of k^3; roughly."""

_NORM_FLOPS = 4
"""Those of the largest one alone."""


_DIRECTIONS = 60
"""Passes over all steps until the smallest singular value is known; roughly."""


class JacobianProductRecorder(Recorder):
    """The whole product P(t, k) = J_t ... J_{k+1} of joint Jacobians; P(k, k) = I.

    A block such as dh_t/dh_k is a slice of it, and all of it where the pairs name blocks, as by
    ``blocks_out=("h",), blocks_in=("h",)``. Only the diagonal blocks are kept. Large: for all pairs T^2/2
    matrices a batch element.
    """

    name = "jacobian_product"
    stream = Products

    def variables(self, problem):
        dims = (*problem.pair_dims, "batch", *problem.product_dims)
        return (Variable("jacobian_product", dims, f"Jacobian product {problem.product_label}"),)

    def compute(self, piece):
        one_block = piece.product.mantissa.shape[2] == 1
        return {"jacobian_product": piece.product[:, :, 0] if one_block else piece.product}


class ProductNormRecorder(Recorder):
    """The Frobenius norm of P(t, k), and its log10, which also holds 1e-400 and 1e+400."""

    name = "product_norm"
    stream = ProductNorms

    def variables(self, problem):
        return sized(
            "product_norm", (*problem.pair_dims, "batch"), f"Frobenius norm of {problem.product_label}"
        )

    def compute(self, piece):
        return {"product_norm": piece.norm, "product_norm_log10": piece.log10}


class BlockNormRecorder(Recorder):
    """The Frobenius norm of each part of P(t, k) from one block of the state to another, and its log10.

    So of an LSTM dh_t/dh_k, dh_t/dc_k, dc_t/dh_k and dc_t/dc_k, and of a stack what goes from layer to layer.
    The squares of all pairs of blocks sum to that of `product_norm`. Where the pairs name blocks, of these.
    """

    name = "block_norm"
    stream = Products

    def dims(self, problem):
        out, into = problem.product_blocks
        return {"to_block": list(out), "from_block": list(into)}

    def variables(self, problem):
        dims = (*problem.pair_dims, "batch", "to_block", "from_block")
        return sized("block_norm", dims, "Frobenius norm of ds_t/ds_k from block to block")

    def compute(self, piece):
        problem = piece.problem
        to_blocks, from_blocks = (
            [_lying(problem, rows, name) for name in names]
            for rows, names in zip(problem.product_rows, problem.product_blocks, strict=True)
        )
        norms = [_norm_between(piece.product, out, into) for out in to_blocks for into in from_blocks]
        shape = (*norms[0].mantissa.shape, len(to_blocks), len(from_blocks))
        stacked = (np.stack([getattr(n, x) for n in norms], axis=-1) for x in ("mantissa", "exponent"))
        return both("block_norm", Scaled(*(x.reshape(shape) for x in stacked)))

    def flops(self, problem):
        rows, columns = map(len, problem.product_rows)
        return 2.0 * problem.pair_count * problem.batch * problem.groups * rows * columns


class ProductSpectralNormRecorder(Recorder):
    """The spectral norm of P(t, k), its largest singular value, and its log10.

    It is the root of the largest eigenvalue of P^T P, whose small eigenvalues would have lost half of
    their digits but whose largest one is as accurate as a singular value decomposition.
    """

    name = "product_spectral_norm"
    stream = Products

    def variables(self, problem):
        dims = (*problem.pair_dims, "batch")
        return sized("product_spectral_norm", dims, f"spectral norm of {problem.product_label}")

    def compute(self, piece):
        values = _spectral_norms(piece.product)
        best = values.log10.argmax(axis=-1)[..., None]
        top = Scaled(*(np.take_along_axis(x, best, -1)[..., 0] for x in (values.mantissa, values.exponent)))
        return both("product_spectral_norm", top)

    def flops(self, problem):
        return _flops(problem, _NORM_FLOPS)


class ProductSpectrumRecorder(Recorder):
    """All singular values of P(t, k), decreasing, and their log10.

    A dense product in floating point resolves a value only down to about eps * k times the largest
    one of its diagonal block; what lies below is NaN. For long products use `lyapunov`.
    """

    name = "product_spectrum"
    stream = Products

    def variables(self, problem):
        dims = (*problem.pair_dims, "batch", problem.mode_dim)
        return sized("product_spectrum", dims, f"singular value of {problem.product_label}")

    def compute(self, piece):
        values = _singular_values(piece.product)
        order = np.argsort(-values.log10, axis=-1, kind="stable")
        ordered = (np.take_along_axis(x, order, -1) for x in (values.mantissa, values.exponent))
        return both("product_spectrum", Scaled(*ordered))

    def flops(self, problem):
        return _flops(problem, _SVD_FLOPS)


class ParallelizabilityRecorder(Recorder):
    """1 / ||L||_2 of the matrix L of all products P(t, k), 1 <= k <= t, and its log10.

    L is the inverse of the Jacobian of s_t - step(s_{t-1}, x_t) for all t at once, which has to be inverted
    where a run is computed for all times in parallel by Newton's method: near 1 that takes a few iterations,
    and where it is tiny, as exponentially in T in chaos, up to as many as there are steps. For J_t = c Q with
    Q orthogonal it tends to 1 - c if c < 1, is 2 sin(pi / (4 T + 2)) if c = 1, and shrinks as c^-T if c > 1.
    No product is made, but all step Jacobians are kept.

    Gonzalez, Kozachkov, Zoltowski, Clarkson & Linderman (2025), Predictability enables parallelization of
    nonlinear state space models.
    """

    name = "parallelizability"
    stream = Jacobians
    twin = False

    def variables(self, problem):
        return sized(
            "parallelizability", ("batch",), "1 over the spectral norm of all ds_t/ds_k as one matrix"
        )

    def start(self, problem):
        return []

    def compute(self, piece, carry):
        carry.append(piece.blocks.copy())
        return {}

    def finish(self, carry):
        blocks = np.concatenate(carry)[1:]  # the state before the first step is given
        return both("parallelizability", smallest_singular_value(blocks))

    def carry_bytes(self, problem):
        each = problem.batch * problem.cell.state_size * problem.block * problem.dtype.itemsize
        return 3 * problem.steps * each  # as they come, as one, and what is made of them

    def flops(self, problem):
        return 4.0 * _DIRECTIONS * problem.steps * problem.batch * problem.cell.state_size * problem.block


class LossAdjointNormRecorder(Recorder):
    """The norm of dL_t/ds_k for every pair: how much the loss at time t feels the state at k."""

    name = "loss_adjoint_norm"
    stream = LossRows

    def variables(self, problem):
        return sized("loss_adjoint_norm", (*problem.pair_dims, "batch"), "norm of dL_t/ds_k")

    def compute(self, piece):
        by_group = norm(piece.rows, (-1,))
        return both("loss_adjoint_norm", combine(by_group, axis=-1))


def _lying(problem, rows, name):
    """Which of the recorded rows a block of the state lies in, and where in them, (g, rows).

    Row i of group j is component i g + j.
    """
    block, groups = problem.cell.block(name), problem.groups
    start, stop = np.searchsorted(rows, [block.start // groups, -(-block.stop // groups)])
    component = rows[start:stop] * groups + np.arange(groups)[:, None]
    return slice(start, stop), (block.start <= component) & (component < block.stop)


def _norm_between(product: Scaled, out, into) -> Scaled:
    """The Frobenius norms (source, batch) of what leads from some components to others."""
    (rows, there), (columns, here) = out, into
    inside = there[:, :, None] & here[:, None, :]
    part = product.mantissa[..., rows, columns]
    by_group = norm(Scaled(part if inside.all() else part * inside, product.exponent), (-2, -1))
    return combine(by_group, axis=-1)


def _singular_values(product: Scaled) -> Scaled:
    """Those of all diagonal blocks, (source, batch, g * k), with exponents of the same shape.

    NaN where floating point does not resolve them.
    """
    mantissa = product.mantissa
    shape = (*mantissa.shape[:2], -1)
    values = np.linalg.svd(mantissa, compute_uv=False).astype(np.float64)
    floor = max(mantissa.shape[-2:]) * np.finfo(mantissa.dtype).eps * values[..., :1]
    values[values < floor] = np.nan
    exponent = np.broadcast_to(product.exponent[..., 0], values.shape)
    return Scaled(values.reshape(shape), exponent.reshape(shape))


def _spectral_norms(product: Scaled) -> Scaled:
    """Those of all diagonal blocks, (source, batch, g), with exponents of the same shape."""
    mantissa = product.mantissa.astype(np.float64, copy=False)
    gram = np.matmul(mantissa.swapaxes(-1, -2), mantissa)
    largest = np.linalg.eigvalsh(gram)[..., -1]
    return Scaled(np.sqrt(np.maximum(largest, 0)), product.exponent[..., 0, 0])


def _flops(problem, each: int) -> float:
    """Over all recorded products, `each` k^3 for a diagonal block of size k."""
    rows, columns = map(len, problem.product_rows)
    count = problem.pair_count * problem.batch * problem.groups
    return float(each * count * rows * columns * min(rows, columns))

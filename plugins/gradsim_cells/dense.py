"""Cells with dense weights: whatever is not elementwise, once for all of them."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import numpy as np

from gradsim import Cell
from gradsim.types import Array, Params
from gradsim_cells.dense_steps import DenseSteps
from gradsim_cells.weights import Term, Weights, add_term


class Dense(Cell):
    """A cell whose new state comes elementwise from the old one and preactivations W x + U h + b."""

    kernel: ClassVar[str | None] = None
    """The module with its compiled passes, `forward` and `backward`; None for those in NumPy."""

    @abstractmethod
    def weights(self, params: Params) -> Weights:
        """What makes the preactivations."""

    @abstractmethod
    def terms(self) -> list[Term]:
        """What makes the gradient."""

    @abstractmethod
    def activate(self, a: Array, old: Array, new: Array, saved: Array) -> None:
        """Preactivations a (..., G), which may be changed, to the new state and `saved` (..., saved_size)."""

    @abstractmethod
    def slopes(self, old: Array, new: Array, saved: Array) -> Array:
        """What `deactivate` multiplies adjoints with, for any leading axes."""

    @abstractmethod
    def deactivate(self, adjoint: Array, slopes: Array, d: Array, beside: Array) -> None:
        """The adjoint (..., m) of the new state to d (..., G), that of a, and to what reaches the old state
        beside a.
        """

    @property
    def kernel_options(self) -> tuple[int, ...]:
        """What the compiled passes are told besides arrays."""
        return ()

    def unroll(self, params, state, inputs, step_data, parallel):
        steps, batch = inputs.shape[:2]
        states = np.empty((steps + 1, *state.shape), dtype=state.dtype)
        states[0] = state
        saved = np.empty((steps, batch, self.saved_size), dtype=state.dtype)
        block = DenseSteps(self, params, states, inputs, step_data, saved, parallel)
        block.take()
        return block

    def state_vjp(self, params, state, inputs, cotangent):
        d, beside = self._cotangents(params, state, inputs, cotangent)
        w = self.weights(params)
        beside[..., : w.state.shape[1]] += d[..., w.column :] @ w.state
        return beside

    def params_vjp(self, params, state, inputs, cotangent):
        d, _ = self._cotangents(params, state, inputs, cotangent)
        factors = {"x": inputs, "h": state[..., : self.weights(params).state.shape[1]]}
        found = {n: np.empty(d.shape[:-2] + p.shape, dtype=d.dtype) for n, p in params.items()}
        for term in self.terms():
            add_term(term, d, factors, found)
        return found

    def _cotangents(self, params, state, inputs, cotangent):
        w = self.weights(params)
        a = inputs @ w.input.T + w.bias
        a[..., w.column :] += state[..., : w.state.shape[1]] @ w.state.T
        new, beside = np.empty((2, *state.shape), dtype=state.dtype)
        saved = np.empty((*state.shape[:-1], self.saved_size), dtype=state.dtype)
        d = np.empty_like(a)
        self.activate(a, state, new, saved)
        self.deactivate(cotangent, self.slopes(state, new, saved), d, beside)
        return d, beside

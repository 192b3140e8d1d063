"""The checks of an optimizer: what it adds to the parameters, and what it remembers."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from gradsim.contracts.optimizer import Optimizer, slot_mistakes
from gradsim.testing import common
from gradsim.testing.kit import Bench, Checks, copied, no_global_randomness, same
from gradsim.types import FLOAT_DTYPES, Array

CHECKS = Checks(common.CHECKS)

_SIZE, _UPDATES = 7, 5
_RATE = 1e-3
_CLOSE = 2e-5


class OptimizerBench(Bench):
    """An optimizer with parameters, and gradients for a few updates."""

    family = "optimizers"

    def __init__(self, optimizer: Optimizer) -> None:
        super().__init__(optimizer)
        self.optimizer = optimizer

    def slots(self, size: int = _SIZE, dtype: np.dtype | str = "float64") -> dict[str, Array]:
        """What it remembers before the first update."""
        return {n: np.zeros(size, dtype) for n in self.optimizer.slots}

    def change(
        self, params: Array, gradient: Array, slots: dict[str, Array], update: int, rate: float = _RATE
    ) -> Array:
        """What it adds to the parameters; slots that it puts in the place of these are lost."""
        return self.optimizer.change(params, gradient, dict(slots), rate, update)

    def problem(self, dtype: np.dtype | str = "float64", size: int = _SIZE) -> tuple[Array, Array]:
        """Parameters (size,), and a gradient for each update, (updates, size)."""
        drawn = self.rng("problem").standard_normal((1 + _UPDATES, size)).astype(dtype)
        return drawn[0], drawn[1:]

    def changes(self, dtype: np.dtype | str = "float64", size: int = _SIZE) -> Iterator[Array]:
        """What it adds at one update after the other."""
        params, gradients = self.problem(dtype, size)
        slots = self.slots(size, dtype)
        for i, gradient in enumerate(gradients):
            change = self.change(params, gradient, slots, 1 + i)
            params = params + change
            yield change


@CHECKS()
def slot_names(bench: OptimizerBench) -> None:
    """`slots` is a tuple of different names."""
    bench.refuse(slot_mistakes(bench.optimizer))


@CHECKS("slot_names")
def change_shape_and_dtype(bench: OptimizerBench) -> None:
    """A change has the shape and dtype of the parameters, and is finite; one parameter is enough."""
    for size in (_SIZE, 1):
        for dtype in FLOAT_DTYPES:
            for change in bench.changes(dtype, size):
                bench.expect(
                    isinstance(change, np.ndarray) and change.shape == (size,) and change.dtype == dtype,
                    f"change() gives {_described(change)} for parameters of shape {(size,)}, {dtype}; keep "
                    "shape and dtype, and make no array of float64 on the way",
                )
                bench.expect(np.isfinite(change).all(), "change() is NaN or infinite for ordinary gradients")


def _described(value: object) -> str:
    return f"shape {value.shape}, {value.dtype}" if isinstance(value, np.ndarray) else repr(value)


@CHECKS("change_shape_and_dtype")
def change_is_pure(bench: OptimizerBench) -> None:
    """Only the slots are changed, in place, and what is returned is an array of its own."""
    (params, gradients), slots = bench.problem(), bench.slots()
    given = {"params": params.copy(), "gradient": gradients[0].copy()}
    kept = dict(slots)
    change = bench.optimizer.change(given["params"], given["gradient"], kept, _RATE, 1)
    for name, array in slots.items():
        bench.expect(
            kept[name] is array,
            f"change() puts another array in the place of slots[{name!r}]; change it in place",
        )
    for name, before in (("params", params), ("gradient", gradients[0])):
        bench.expect(
            same(given[name], before), f"change() writes to its argument {name}; compute a new array instead"
        )
    for name, array in {**given, **slots}.items():
        bench.expect(
            not np.shares_memory(change, array),
            f"change() returns the memory of {name}; return an array of its own",
        )


@CHECKS("change_is_pure")
def remembers_only_in_slots(bench: OptimizerBench) -> None:
    """From the same slots an update gives the same bits, also in a copy: a training can be resumed."""
    params, gradients = bench.problem()
    slots = bench.slots()
    with no_global_randomness(bench, "change()"):
        for i, gradient in enumerate(gradients):
            before, fresh = copied(slots), replace(bench.optimizer)
            change = bench.change(params, gradient, slots, 1 + i)
            again = fresh.change(params, gradient, before, _RATE, 1 + i)
            bench.expect(
                same((change, slots), (again, before)),
                f"change() at update {1 + i} gives something else when it is made again from the same slots; "
                "keep all that it remembers in slots",
            )
            params = params + change


@CHECKS("change_shape_and_dtype")
def float32_agrees(bench: OptimizerBench) -> None:
    """Changes in float32 are those in float64, to the accuracy of float32."""
    for i, (low, high) in enumerate(zip(bench.changes("float32"), bench.changes("float64"), strict=True)):
        error, size = np.abs(low - high).max(), np.abs(high).max()
        bench.expect(
            error <= _CLOSE * size,
            f"change() at update {1 + i} in float32 differs from float64 by {error / size:.1e} of its size, "
            "more than float32 explains",
        )


@CHECKS("change_shape_and_dtype")
def rate_of_zero(bench: OptimizerBench) -> None:
    """With a rate of 0 nothing changes."""
    (params, gradients), slots = bench.problem(), bench.slots()
    for i, gradient in enumerate(gradients):
        change = bench.change(params, gradient, slots, 1 + i, rate=0.0)
        bench.expect(
            not change.any(),
            "change() is not zero for rate=0; use the argument rate, which follows the schedule, and not "
            "self.learning_rate",
        )


@CHECKS("change_shape_and_dtype")
def finite_at_extremes(bench: OptimizerBench) -> None:
    """Gradients of 0, 1e-12 and 1e12 give finite changes in float32, without a warning."""
    params, gradients = bench.problem("float32")
    for size in (0.0, 1e-12, 1e12):
        slots = bench.slots(dtype="float32")
        for i, gradient in enumerate(gradients):
            with warnings.catch_warnings(), np.errstate(all="warn", under="ignore"):
                warnings.simplefilter("error")
                try:
                    change = bench.change(params, gradient * np.float32(size), slots, 1 + i)
                except Warning as warning:
                    bench.fail(
                        f"for gradients of size {size:g}: {warning}; add a small number where it divides"
                    )
            bench.expect(
                np.isfinite(change).all(), f"change() is NaN or infinite for gradients of size {size:g}"
            )


@CHECKS("change_shape_and_dtype")
def descends(bench: OptimizerBench) -> None:
    """From x = +-1 the loss |x|^2 / 2, whose gradient is x, falls within a hundred updates."""
    params, slots = np.sign(bench.problem()[0]), bench.slots()
    start = params @ params
    for i in range(100):
        params = params + bench.change(params, params, slots, 1 + i)
    bench.expect(
        params @ params < start,
        f"after 100 updates on the loss |x|^2 / 2 at rate {_RATE:g} it is {params @ params / start:.4g} of "
        "what it was; a change should go against the gradient",
    )

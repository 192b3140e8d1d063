"""Where NaN and infinity came from."""

from __future__ import annotations

import numpy as np

from gradsim.contracts import registry
from gradsim.errors import OutOfRangeWarning
from gradsim.machine.quiet import without_warnings
from gradsim.plan.plan import Plan
from gradsim.run.run import recorded
from gradsim.run.setup import Setup
from gradsim.training.flat import Flat
from gradsim.training.gradients import Backpropagation
from gradsim.types import Array


def overflow(setup: Setup, backpropagation: Backpropagation, norms: Array) -> str:
    """The first parameter whose gradient is not finite, by its norms, and the step at which that began."""
    index = int(np.flatnonzero(~np.isfinite(norms))[0])
    problem = backpropagation.plan.problem
    recorder = registry.recorder("effective_contribution_norm")
    plan = Plan(problem, [recorder], setup.hooks, True, snapshots=backpropagation.plan.snapshots)
    with without_warnings(category=OutOfRangeWarning):  # that is why we are here
        sink = recorded(setup, plan, backpropagation.threads, backpropagation.memory)
    sizes = sink.read("effective_contribution_norm_log10")[:, index]
    beyond = np.flatnonzero(~(sizes < np.log10(np.finfo(problem.dtype).max)))
    step = 1 + int(beyond[-1] if len(beyond) else np.nanargmax(sizes))
    return (
        f"the gradient of {list(problem.param_shapes)[index]} leaves the range of {problem.dtype}, from step "
        f"{step} back; clip the adjoint, truncate, or use smaller weights or dtype='float64'"
    )


def grown(flat: Flat, first: Array, now: Array) -> str:
    """The parameter that has grown most, from the first vector of all parameters to that of now."""
    before, after = flat.norms(first), flat.norms(now)
    ratio = np.divide(after, before, out=np.ones_like(after), where=before > 0)
    i = int(ratio.argmax())
    return f"the norm of {list(flat.shapes)[i]} is {after[i]:.3g}, {ratio[i]:.3g} times that at the start"

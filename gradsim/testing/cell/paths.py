"""The checks of what a cell says about its insides: paths through the step, gates in the parameters."""

from __future__ import annotations

import numpy as np

from gradsim.contracts.promises import gates_mistakes
from gradsim.numerics import autodiff
from gradsim.testing.cell.bench import CellBench
from gradsim.testing.kit import Checks

CHECKS = Checks()


@CHECKS("step_is_pure")
def paths_are_tags(bench: CellBench) -> None:
    """`paths` names the tags of `through` in the step, all of them and no others."""
    paths = bench.cell.paths
    with autodiff.opened(()) as met:
        bench.step(bench.run)
    bench.expect(
        isinstance(paths, tuple) and len(set(paths)) == len(paths) and set(paths) == set(met),
        f"paths is {paths!r}; it should be a tuple of the tags in step(), each once: {tuple(met)!r}",
    )
    bench.expect("direct" not in paths, "paths names 'direct', which is the share of what has no tag")


@CHECKS("paths_are_tags", "jacobian", "jacobian_structure", "free_derivatives")
def path_shares(bench: CellBench) -> None:
    """The shares of the paths sum to the step Jacobian."""
    cell, place = bench.cell, bench.points
    shares = place.copy().call(cell.path_jacobians)
    bench.expect(
        tuple(shares) == ("direct", *cell.paths),
        f"path_jacobians() gives {tuple(shares)} for the paths {cell.paths}; it should begin with 'direct'",
    )
    whole = place.copy().call(cell.step_jacobian)
    error = np.abs(sum(shares.values()) - whole).max(initial=0.0)
    bench.expect(
        error <= 1e-9 * np.abs(whole).max(initial=1e-3),
        f"the sum of path_jacobians() differs from step_jacobian() by {error:.1e}",
    )


@CHECKS("params_from_rng")
def gates_fit_parameters(bench: CellBench) -> None:
    """Gates are named for parameters that there are, and divide their rows."""
    params = bench.cell.init_params(bench.rng("params"))
    for mistake in gates_mistakes(bench.cell, params):
        bench.fail(mistake)

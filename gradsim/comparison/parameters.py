"""What `compare` takes; see `gradsim.run.parameters`."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge

from gradsim.run.parameters import (
    Count,
    LaunchParameters,
    SimulationParameters,
    as_in,
    parameter,
    parameters,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike

    from gradsim.contracts.cell import Cell
    from gradsim.contracts.problem import Pairs
    from gradsim.contracts.recorder import Recorder
    from gradsim.contracts.task import Task

Seeds = Count | Sequence[Annotated[int, Ge(0)]]


@parameters
class ComparisonParameters:
    """What decides the numbers of a comparison."""

    cells: "Mapping[str, Cell] | Sequence[Cell]" = parameter(
        kw_only=False,
        of="gradsim.contracts.cell:Cell",
        doc="""By label, or in a list: then they are labelled by their names. Everything else is the same for
            all of them.""",
    )
    mitigations: "Mapping[str, Any] | Sequence[Any] | None" = parameter(
        default=None,
        of="gradsim.contracts.mitigation:Mitigation",
        doc="""Run each cell with each of these mitigations, by label, or in a list: then they are labelled by
            their names. Several in a list of their own act together, in this order. The first one is always
            "none".""",
    )
    replicates: Count = parameter(
        default=1,
        doc="""How often to make the gradient with other draws of the mitigations, and nothing else; from 2 on
            the variance of the gradient, and the bias of its mean, are recorded.""",
    )
    seeds: Seeds = parameter(
        default=3,
        written=Seeds,
        doc="""How many, 0, 1, ...; or a list of seeds. Each cell is run with each of them, as `simulate` runs
            it with this `rng`.""",
    )
    match: Literal["params", "state"] | None = parameter(
        default=None,
        doc="""Size all cells to one budget. It is one of parameters or of components of the state; see
            `matched`.""",
    )
    budget: Count | None = parameter(
        default=None, doc="The budget; what the first cell has of it, as it is given, when left out."
    )
    inputs: "ArrayLike | None" = as_in(SimulationParameters, "inputs")
    task: "Task | None" = as_in(SimulationParameters, "task")
    batch: Count | None = as_in(SimulationParameters, "batch")
    record: "Sequence[str | Recorder] | None" = as_in(
        SimulationParameters,
        "record",
        default=None,
        doc="""Names of recorders (``gradsim list recorders``), or recorder objects. Left out: `product_norm`,
            `adjoint_norm`, `gradient_norm` and `leading_lyapunov`; with mitigations also what they make of
            these, their factors, `gradient_bias`, `gradient_cosine` and `adjoint_energy_removed`. What does
            not exist with some of them, such as the effective products of a rule, is NaN there.""",
    )
    pairs: "Pairs | None" = as_in(SimulationParameters, "pairs")
    dtype: "DTypeLike" = as_in(SimulationParameters, "dtype")
    derivatives: Literal["auto", "autograd", "jax"] = as_in(SimulationParameters, "derivatives")
    snapshots: "Annotated[int, Ge(0)] | Literal['sqrt'] | None" = as_in(SimulationParameters, "snapshots")


@parameters
class CompareParameters(LaunchParameters, ComparisonParameters):
    """What `compare` takes."""

"""What plugins are examined with: small cells, a task that plays what it is given, generic numbers."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gradsim.contracts.cell import Cell
from gradsim.contracts.dense import Dense, Term
from gradsim.contracts.hooks import hookimpl
from gradsim.contracts.mitigation import Mitigation
from gradsim.contracts.moment import Moment
from gradsim.contracts.pieces import Forward
from gradsim.contracts.plugin import drawn
from gradsim.contracts.problem import Problem
from gradsim.contracts.recorder import Recorder, Variable
from gradsim.contracts.task import Episode, Task, squared_error
from gradsim.contracts.wrapper import Wrapper
from gradsim.errors import InputError
from gradsim.numerics.autodiff import through
from gradsim.testing.kit import copied
from gradsim.types import Array, Params, PositiveInt, StepData

STEPS, BATCH = 6, 3

_ANY = Moment()


def generic(params: Mapping[str, Any], rng: np.random.Generator) -> Params:
    """Parameters near the given ones, none of them exactly zero: zeros would hide mistakes."""
    found = {}
    for name, value in params.items():
        p = np.asarray(value, dtype=np.float64)
        found[name] = p + 0.1 * rng.standard_normal(p.shape) * np.where(p == 0, 1.0, np.abs(p))
    return found


def step_data(
    cell: Cell, rng: np.random.Generator, steps: int, batch: int, task: Task | None, moment: Moment = _ANY
) -> dict[str, Array]:
    """What a run would hand to `step`, leading axes (steps, batch), in float64."""
    index = np.broadcast_to(np.arange(1, steps + 1)[:, None], (steps, batch))
    inputs = np.random.default_rng(0).standard_normal((steps, batch, cell.input_size))
    known: dict[str, Any] = {"step_index": index, **drawn(cell.draw, rng, inputs, moment)}
    if task is not None:
        episode = task.sample(rng, batch)
        known = {n: np.resize(x, (steps, *np.shape(x)[1:])) for n, x in episode.offered.items()} | known
    missing = [n for n in cell.step_data if n not in known]
    if missing:
        known |= _made_up(cell, rng, known, missing, (steps, batch))
    found = {n: np.array(known[n]) for n in cell.step_data}
    return {n: x.astype(np.float64) if x.dtype.kind == "f" else x for n, x in found.items()}


def _made_up(
    cell: Cell, rng: np.random.Generator, known: StepData, missing: list[str], lead: tuple[int, int]
) -> dict[str, Array]:
    """Stand-ins for data that a task would draw, of the first size that `step` takes."""
    if isinstance(cell, Wrapper) and (inside := [n for n in missing if n in cell.cell.step_data]):
        # The cell inside knows best: what is around it may hide a state that is too long.
        made = _made_up(cell.cell, rng, known, inside, lead)
        rest = [n for n in missing if n not in made]
        return made | (_made_up(cell, rng, {**known, **made}, rest, lead) if rest else {})
    params = cell.init_params(rng)
    state, inputs = np.zeros((*lead, cell.state_size)), np.zeros((*lead, cell.input_size))
    present = {n: np.asarray(known[n]) for n in cell.step_data if n in known}
    for tail in _tails(cell):
        data = {n: rng.standard_normal((*lead, *tail)) for n in missing}
        try:
            new = cell.step(params, state, inputs, np, **present, **data)
        except Exception:  # not of this size
            continue
        if np.shape(new) == state.shape:
            return data
    raise InputError(
        f"{cell.name} asks for the step data {missing}, which a task should draw; give the kit one: "
        "check_cell(cell, task=MyTask()) or conformance(cell, task=MyTask())"
    )


def _tails(cell: Cell) -> list[tuple[int, ...]]:
    sizes = [cell.state_size, *cell.blocks.values(), cell.input_size, 1]
    return [(n,) for n in dict.fromkeys(sizes)] + [()]


@dataclass(frozen=True, eq=False)
class Stage(Task):
    """A task that plays the inputs, targets and step data that it is given."""

    name = "stage"

    inputs: Any
    targets: Any
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def input_size(self) -> int:
        """The number of input features."""
        return int(self.inputs.shape[-1])

    @property
    def output_size(self) -> int:
        """The number of readout units."""
        return int(self.targets.shape[-1])

    @property
    def parameters(self) -> dict[str, Any]:
        """None that a dataset could hold."""
        return {}

    def sample(self, rng: np.random.Generator, batch: int) -> Episode:
        """The same episode every time."""
        return Episode(self.inputs, self.targets, np.ones(self.inputs.shape[:2]), self.data)

    def loss(self, outputs: Any, targets: Array, xp: Any) -> Any:
        """Squared error."""
        return squared_error(outputs, targets, xp)


def stage(inputs: Array, data: Mapping[str, Array], rng: np.random.Generator) -> Stage:
    """A task with two random targets at every step."""
    return Stage(inputs, rng.standard_normal((*inputs.shape[:2], 2)), dict(data))


@dataclass(frozen=True, eq=False)
class Witness(Recorder):
    """Keeps the pieces of one stream as they are, and writes nothing."""

    @functools.cached_property
    def kept(self) -> list[Any]:
        """The pieces so far."""
        return []

    def variables(self, problem: Problem) -> tuple[Variable, ...]:
        """None."""
        return ()

    def compute(self, piece: Any) -> dict[str, Array]:
        """Keep the piece; most are buffers that the engine fills again, but states are kept as they are."""
        self.kept.append(piece if isinstance(piece, Forward) else copied(piece))
        return {}


def witness(stream: type, effective: bool = False, both: bool = False) -> Witness:
    """A recorder that keeps every piece of this stream, in `kept`."""
    members = {"name": f"witness_{stream.__name__.lower()}", "stream": stream, "both": both}
    cls: Any = type("Witness", (Witness,), members)
    return dataclass(frozen=True, eq=False)(cls)(effective=effective)  # type: ignore[no-any-return]


@dataclass(frozen=True, eq=False)
class Plain(Dense):
    """h_t = tanh(U h_{t-1} + W x_t + b): what mitigations are tried on."""

    name = "plain"
    sums = 2
    paths = ("recurrent",)
    """What comes through U, which is all."""
    keeps = ("recurrent",)
    """As if it were a gate, so that what starts gates has something to start."""

    input_size: PositiveInt = 2
    hidden_size: PositiveInt = 4

    @property
    def gates(self) -> Mapping[str, tuple[str, ...]]:
        """The only one."""
        return {"b": self.keeps}

    @property
    def terms(self) -> tuple[Term, ...]:
        """W x + b, and beside it U h."""
        return Term("W", "x"), Term("b", "1"), Term("U", "h", column=self.hidden_size)

    def init_params(self, rng: np.random.Generator) -> Params:
        """Gain 1."""
        n = self.hidden_size
        return {
            "U": rng.standard_normal((n, n)) / np.sqrt(n),
            "W": rng.standard_normal((n, self.input_size)) / np.sqrt(self.input_size),
            "b": np.zeros(n),
        }

    def unit(self, sums: tuple[Any, ...], old: tuple[Any, ...], xp: Any) -> Any:
        """The new h."""
        return xp.tanh(through(sums[1], "recurrent") + sums[0])


@dataclass(frozen=True, eq=False)
class Elementwise(Cell):
    """h_t = tanh(w * h_{t-1} + W x_t): diagonal Jacobians, and two blocks."""

    name = "elementwise"

    input_size: PositiveInt = 2

    @property
    def blocks(self) -> Mapping[str, int]:
        """Two blocks of different sizes."""
        return {"fast": 1, "slow": 3}

    @property
    def jacobian_groups(self) -> int:
        """One for each unit."""
        return 4

    @property
    def paths(self) -> tuple[str, ...]:
        """What decays."""
        return ("decay",)

    def init_params(self, rng: np.random.Generator) -> Params:
        """Decay between 0 and 1."""
        return {"w": rng.uniform(0.2, 0.9, 4), "W": rng.standard_normal((4, self.input_size))}

    def step(self, params: Params, state: Any, inputs: Any, xp: Any) -> Any:
        """One step."""
        return xp.tanh(through(params["w"] * state, "decay") + inputs @ params["W"].T)


@dataclass(frozen=True, eq=False)
class Clocked(Cell):
    """A cell whose step needs the step index and a random mask: units are kept where it is 1."""

    name = "clocked"

    input_size: PositiveInt = 2

    @property
    def blocks(self) -> Mapping[str, int]:
        """One block, h."""
        return {"h": 4}

    def init_params(self, rng: np.random.Generator) -> Params:
        """Gain 1."""
        return {"U": rng.standard_normal((4, 4)) / 2, "W": rng.standard_normal((4, self.input_size))}

    def draw(  # type: ignore[override]
        self, rng: np.random.Generator, steps: int, batch: int, moment: Moment
    ) -> dict[str, Array]:
        """The mask; its mean in a validation."""
        keep = np.full((steps, batch, 4), 0.5)
        return {"keep": keep if moment.validating else rng.integers(0, 2, keep.shape).astype(np.float64)}

    def step(  # type: ignore[override]
        self, params: Params, state: Any, inputs: Any, xp: Any, *, step_index: Any, keep: Any
    ) -> Any:
        """One step."""
        new = xp.tanh(state @ params["U"].T + inputs @ params["W"].T)
        late = xp.where((step_index > 2)[..., None], 0.5 * keep, 0.0)
        return late * state + (1 - late) * new


@dataclass(frozen=True, eq=False)
class Renamed(Cell):
    """Another cell whose parameters, and the step data that it draws, bear other names."""

    name = "renamed"

    cell: Cell
    names: dict[str, str]

    @property
    def input_size(self) -> int:  # type: ignore[override]
        """That of the cell inside."""
        return self.cell.input_size

    @property
    def blocks(self) -> Mapping[str, int]:
        """Those of the cell inside."""
        return self.cell.blocks

    @property
    def jacobian_groups(self) -> int:
        """Those of the cell inside."""
        return self.cell.jacobian_groups

    @property
    def recurrent_weights(self) -> tuple[str, ...]:
        """Those of the cell inside."""
        return tuple(self.names.get(n, n) for n in self.cell.recurrent_weights)

    @property
    def step_data(self) -> tuple[str, ...]:
        """What the cell inside asks for."""
        return tuple(self.names.get(n, n) for n in self.cell.step_data)

    def _out(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {self.names.get(n, n): x for n, x in values.items()}

    def init_params(self, rng: np.random.Generator) -> Params:
        """Those of the cell inside."""
        return self._out(self.cell.init_params(rng))

    def draw(  # type: ignore[override]
        self, rng: np.random.Generator, inputs: Array, moment: Moment
    ) -> dict[str, Array]:
        """What the cell inside draws."""
        return self._out(drawn(self.cell.draw, rng, inputs, moment))

    def step(self, params: Params, state: Any, inputs: Any, xp: Any, **data: Any) -> Any:
        """One step."""
        mine = {own: params[self.names.get(own, own)] for own in self._own_params}
        named = {n: data[self.names.get(n, n)] for n in self.cell.step_data}
        return self.cell.step(mine, state, inputs, xp, **named)

    @functools.cached_property
    def _own_params(self) -> tuple[str, ...]:
        return tuple(self.cell.init_params(np.random.default_rng(0)))


@dataclass(frozen=True, eq=False)
class Fade(Mitigation):
    """Halve every step Jacobian on the way back."""

    name = "fade"

    @hookimpl(wrapper=True)
    def gradsim_jacobians(self):  # type: ignore[no-untyped-def]
        """Half of them."""
        jacobians = yield
        return jacobians.changed(lambda blocks: blocks / 2)

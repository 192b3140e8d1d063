"""The contract of a cell whose step is a module of PyTorch."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from gradsim.contracts.cell import Cell
from gradsim.contracts.compiled import CompiledSteps
from gradsim.contracts.trajectory import Parallel, Trajectory
from gradsim.errors import InputError, unknown
from gradsim.numerics import autodiff
from gradsim.types import Array, Params, PositiveInt, StepData

if TYPE_CHECKING:
    import torch


class TorchCell(Cell):
    """A cell whose step is a module of PyTorch: ``module(x, h)`` gives the new h.

    A concrete one is a frozen dataclass that gives `name`, `input_size`, `blocks` and `module`. Of several
    blocks the state is a tuple, as with `nn.LSTMCell`: ``module(x, (h, c))`` gives the new ``(h, c)``. x is
    (batch, input_size), each block (batch, size), and batch elements do not see each other.

    The module's parameters are those of the cell; dots in their names become ``_``. One with
    ``requires_grad=False`` is `fixed`, and buffers are constants. Steps and derivatives are PyTorch's, on the
    CPU and on one thread, so that the numbers are the same whatever the number of threads.
    """

    @abstractmethod
    def module(self) -> torch.nn.Module:
        """The module, with fresh parameters; what it draws at random is drawn anew for each run."""

    @cached_property
    def _own(self) -> Any:
        """The module that is called: its parameters tell their names and shapes."""
        return self._drawn(0)

    def _drawn(self, seed: int) -> Any:
        autodiff.load_torch()
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return self.module().cpu()

    @cached_property
    def _names(self) -> dict[str, str]:
        """Of the parameters: here -> in the module."""
        names = [name for name, _ in self._own.named_parameters()]
        count = Counter(map(_legal, names))
        if twice := [n for n in names if count[_legal(n)] > 1]:
            raise InputError(f"{self!r}: the parameters {', '.join(twice)} would have one name; rename one")
        return {_legal(n): n for n in names}

    @cached_property
    def _step(self) -> Any:
        by_torch = autodiff.load_torch()
        return by_torch.TorchStep(
            repr(self), self._own, self._names, tuple(self.blocks.values()), self.jacobian_groups
        )

    def init_params(self, rng: np.random.Generator) -> Params:
        """Those of a fresh module."""
        return self._arrays(self._drawn(int(rng.integers(2**63))))

    def _arrays(self, module: Any) -> Params:
        named = dict(module.named_parameters())
        for name, p in named.items():
            if not p.is_floating_point():
                raise InputError(
                    f"{self!r}: the parameter {name} is of {p.dtype}; it should hold real numbers"
                )
        return {n: named[there].detach().double().numpy().copy() for n, there in self._names.items()}

    @cached_property
    def fixed(self) -> tuple[str, ...]:
        """The parameters that require no gradient."""
        named = dict(self._own.named_parameters())
        return tuple(n for n, there in self._names.items() if not named[there].requires_grad)

    @cached_property
    def saved_size(self) -> int:
        """What the graph of PyTorch keeps of a step."""
        return self.try_out()

    def try_out(self) -> int:
        """Take a step, and see that it is one; gives the floats that its graph keeps of a batch element.

        Raises
        ------
        PluginError
            The module is no step of these sizes, changes what it is given or itself, or draws random numbers.
        """
        kept: int = self._step.tried(self._arrays(self._own), self.input_size)
        return kept

    def state_dict(self, params: Mapping[str, Array]) -> dict[str, torch.Tensor]:
        """Parameters, such as those of `trained_params`, for ``module.load_state_dict``."""
        import torch

        here = {id(p): _legal(n) for n, p in self._own.named_parameters()}
        found = {}
        for name, x in self._own.state_dict(keep_vars=True).items():
            if id(x) not in here:
                found[name] = x.detach().clone()
                continue
            if here[id(x)] not in params:
                raise unknown("parameter", here[id(x)], params)
            found[name] = torch.tensor(params[here[id(x)]]).to(x.dtype)
        return found

    def written(self, method: str) -> str:
        """All derivatives follow from the module."""
        return "module"

    # By PyTorch.

    def step(self, params: Params, state: Any, inputs: Any, xp: Any) -> Any:
        """That of the module."""
        return self._step.step(params, state, inputs, xp)

    def unroll(
        self, params: Params, state: Array, inputs: Array, step_data: StepData, parallel: Parallel
    ) -> Trajectory:
        """See `Cell.unroll`; the way back through many steps is one call of PyTorch."""
        block = autodiff.load_torch().Block(self._step, params, state, inputs)
        return CompiledSteps(self, params, block.states, inputs, step_data, block)

    def step_jacobian(self, params: Params, state: Array, inputs: Array, **data: Array) -> Array:
        """See `Cell.step_jacobian`."""
        found: Array = self._step.step_jacobian(params, state, inputs)
        return found

    def state_vjp(
        self, params: Params, state: Array, inputs: Array, cotangent: Array, **data: Array
    ) -> Array:
        """See `Cell.state_vjp`."""
        found: Array = self._step.state_vjp(params, state, inputs, cotangent)
        return found

    def params_vjp(
        self, params: Params, state: Array, inputs: Array, cotangent: Array, **data: Array
    ) -> Params:
        """See `Cell.params_vjp`."""
        found: Params = self._step.params_vjp(params, state, inputs, cotangent)
        return found

    def bilinear_vjp(
        self, params: Params, state: Array, inputs: Array, left: Array, right: Array, **data: Array
    ) -> tuple[Params, Array]:
        """See `Cell.bilinear_vjp`."""
        found: tuple[Params, Array] = self._step.bilinear_vjp(params, state, inputs, left, right)
        return found


@dataclass(frozen=True, eq=False)
class TorchModule(TorchCell):
    """A module that was given; `from_torch` makes it.

    It starts from the parameters that the module has, whatever the seed.
    """

    name = "torch_module"

    given: Any
    input_size: PositiveInt
    sizes: dict[str, PositiveInt]
    exact: bool = True  # type: ignore[misc]

    def __repr__(self) -> str:
        more = "" if self.exact else ", exact=False"
        said = f"{self._title}, input_size={self.input_size}, blocks={self.sizes}{more}"
        return f"TorchModule({said}, sha256 {self._digest})"

    @property
    def parameters(self) -> dict[str, Any]:
        """What tells it from others: a module cannot be written down."""
        return {
            "module": self._title,
            "sha256": self._digest,
            "input_size": self.input_size,
            "blocks": self.sizes,
            "exact": self.exact,
        }

    @cached_property
    def _title(self) -> str:
        return getattr(self.given, "title", type(self.given).__name__)

    @cached_property
    def _digest(self) -> str:
        """Of what makes its numbers besides parameters: see `torch_digest`."""
        autodiff.load_torch()
        from gradsim.numerics.autodiff.torch_digest import digest

        return digest(self.given)

    @property
    def blocks(self) -> Mapping[str, int]:
        """Those that were given."""
        return self.sizes

    def module(self) -> torch.nn.Module:
        """A copy of the one that was given."""
        copied: torch.nn.Module = copy.deepcopy(self.given)
        return copied


def _legal(name: str) -> str:
    return name.replace(".", "_")

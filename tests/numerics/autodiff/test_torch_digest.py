"""What tells one step of PyTorch's from another."""

from __future__ import annotations

import dataclasses
import functools
import pickle
import subprocess
import sys

import numpy as np
import pytest

import gradsim
from gradsim.errors import ChangedRunError
from gradsim_optimizers import SGD
from gradsim_tasks import Adding

torch = pytest.importorskip("torch")
by_torch = pytest.importorskip("gradsim.numerics.autodiff.by_torch")
torch_digest = pytest.importorskip("gradsim.numerics.autodiff.torch_digest")


@dataclasses.dataclass
class Options:
    scale: float = 0.5


class Scaled(torch.nn.Module):
    """tanh(U h + x) times something, by whatever way that is told."""

    def __init__(self, scale=0.5, frozen=False, **buffers):
        super().__init__()
        self.sums, self._scale = torch.nn.Linear(4, 4), scale
        self.sums.weight.requires_grad_(not frozen)
        for name, value in buffers.items():
            self.register_buffer(name, value)

    def forward(self, x, h):
        scale = self._scale
        scale = scale["scale"] if isinstance(scale, dict) else getattr(scale, "scale", scale)
        return torch.tanh(self.sums(h) + x[:, :1]) * (scale() if callable(scale) else scale)


def of_function(factor):
    def step(params, x, h):
        return torch.tanh(h @ params["u"] + x[:, :1]) * factor

    return by_torch.Function(step, {"u": np.ones((4, 4))})


def other_function():
    def step(params, x, h):
        return torch.sin(h @ params["u"] + x[:, :1])

    return by_torch.Function(step, {"u": np.ones((4, 4))})


def half():
    return 0.5


OTHERS = {
    "a number": lambda: Scaled(0.9),
    "a tensor": lambda: Scaled(torch.full((4,), 0.5)),
    "another tensor": lambda: Scaled(torch.full((4,), 0.9)),
    "half a tensor": lambda: Scaled(torch.full((4,), 0.5, dtype=torch.bfloat16)),
    "an array": lambda: Scaled(np.full(4, 0.5)),
    "a dict": lambda: Scaled({"scale": 0.5}),
    "another dict": lambda: Scaled({"scale": 0.9}),
    "a dataclass": lambda: Scaled(Options()),
    "another dataclass": lambda: Scaled(Options(0.9)),
    "a number in another dtype": lambda: Scaled(np.float32(0.5)),
    "another number in another dtype": lambda: Scaled(np.float32(0.9)),
    "a function of PyTorch": lambda: Scaled(torch.tanh),
    "another function of PyTorch": lambda: Scaled(torch.sin),
    "a function": lambda: Scaled(half),
    "a part of a function": lambda: Scaled(functools.partial(float, "0.5")),
    "another part of a function": lambda: Scaled(functools.partial(float, "0.9")),
    "a buffer": lambda: Scaled(more=torch.zeros(2, dtype=torch.bfloat16)),
    "another buffer": lambda: Scaled(more=torch.ones(2, dtype=torch.bfloat16)),
    "a weight that is not trained": lambda: Scaled(frozen=True),
    "a closure": lambda: of_function(0.5),
    "another closure": lambda: of_function(0.9),
    "another step": other_function,
}


def test_all_that_makes_its_numbers_tells_it_from_others():
    digests = {name: torch_digest.digest(make()) for name, make in OTHERS.items()}
    digests["itself"] = torch_digest.digest(Scaled())
    assert len(set(digests.values())) == len(digests), digests


@pytest.mark.parametrize("name", OTHERS)
def test_made_again_it_is_the_same(name):
    assert torch_digest.digest(OTHERS[name]()) == torch_digest.digest(OTHERS[name]())


def test_in_another_process_it_is_the_same():
    module = torch.nn.GRUCell(2, 4)
    code = (
        "import pickle, sys; from gradsim.numerics.autodiff.torch_digest import digest; "
        "print(digest(pickle.load(sys.stdin.buffer)))"
    )
    found = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(module), stdout=-1, check=True)
    assert found.stdout.decode().strip() == torch_digest.digest(module)


def test_what_holds_itself_comes_to_an_end():
    scale = {"scale": 0.5}
    scale["itself"] = scale
    assert torch_digest.digest(Scaled(scale)) != torch_digest.digest(Scaled({"scale": 0.5}))


def test_a_training_does_not_go_on_with_another_attribute(tmp_path):
    def stop(event):
        if event["event"] == "update" and event["update"] == 2:
            raise KeyboardInterrupt

    def train(scale, **how):
        torch.manual_seed(0)
        cell, params = gradsim.from_torch(Scaled(scale), input_size=2, blocks={"h": 4})
        setting = {"optimizer": SGD(0.1), "updates": 4, "batch": 2, "rng": 0, "params": params}
        return gradsim.train(
            cell, Adding(length=20), **setting, store=tmp_path / "run", checkpoint_seconds=0, **how
        )

    with pytest.raises(KeyboardInterrupt):
        train(0.5, report=stop)
    with pytest.raises(ChangedRunError, match=r"cell\.sha256"):
        train(0.9, resume=True)
    assert train(0.5, resume=True).attrs

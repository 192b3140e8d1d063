"""Reference values of three cells, computed by PyTorch in float64.

    python tests/reference/from_torch.py          # write the .npz files beside this script
    python tests/reference/from_torch.py --check  # compare them with this PyTorch, write nothing

Needs the extra `bench`. The loss is L = (1/batch) sum over t, b of <q_tb, h_tb> with fixed random q.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

STEPS, BATCH, INPUT, HIDDEN = 9, 3, 2, 4
HERE = Path(__file__).parent


def reference(kind: str) -> dict[str, np.ndarray]:
    """Inputs, parameters, states, adjoints and gradients of one PyTorch cell."""
    torch.manual_seed(1997)
    cell = {"elman": torch.nn.RNNCell, "gru": torch.nn.GRUCell, "lstm": torch.nn.LSTMCell}[kind](
        INPUT, HIDDEN
    )
    cell = cell.double()
    blocks = 2 if kind == "lstm" else 1
    x, q = (torch.randn(STEPS, BATCH, n, dtype=torch.float64) for n in (INPUT, HIDDEN))
    first = torch.randn(blocks, BATCH, HIDDEN, dtype=torch.float64, requires_grad=True)
    states = unroll(cell, x, first)
    for state in states:
        state.retain_grad()
    loss = sum((q[t] * states[t + 1][0]).sum() for t in range(STEPS)) / BATCH
    loss.backward()
    joint = torch.autograd.functional.jacobian(lambda s: unroll(cell, x, s)[-1][:, 0], first)[:, :, :, 0]
    return {
        "inputs": x.numpy(),
        "targets": q.numpy(),
        "states": np.stack([flat(s.detach()) for s in states]),
        "adjoints": np.stack([flat(s.grad) for s in states]),
        "product": joint.reshape(blocks * HIDDEN, -1).numpy(),
        **{n: p.detach().numpy() for n, p in cell.named_parameters()},
        **{f"grad_{n}": p.grad.numpy() for n, p in cell.named_parameters()},
    }


def unroll(cell, x: torch.Tensor, first: torch.Tensor) -> list[torch.Tensor]:
    """States (blocks, batch, hidden) at times 0..T."""
    states = [first]
    for step in x:
        now = states[-1]
        new = cell(step, (now[0], now[1])) if len(now) == 2 else (cell(step, now[0]),)
        states.append(torch.stack(list(new)))
    return states


def flat(state: torch.Tensor) -> np.ndarray:
    """(blocks, batch, hidden) as (batch, blocks * hidden)."""
    return state.permute(1, 0, 2).reshape(BATCH, -1).numpy()


if __name__ == "__main__":
    for kind in ("elman", "gru", "lstm"):
        fresh, file = reference(kind), HERE / f"{kind}.npz"
        if "--check" in sys.argv:
            with np.load(file) as kept:
                for name, value in fresh.items():
                    np.testing.assert_allclose(kept[name], value, rtol=1e-12, atol=1e-14, err_msg=name)
        else:
            np.savez_compressed(file, **fresh)
        print(kind, "agrees with" if "--check" in sys.argv else "written by", "PyTorch", torch.__version__)

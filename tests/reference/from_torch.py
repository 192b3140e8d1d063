"""Reference values of cells, a stack, optimizers and schedules, computed by PyTorch in float64.

    python tests/reference/from_torch.py          # write the .npz files beside this script
    python tests/reference/from_torch.py --check  # compare them with this PyTorch, write nothing

Needs the extra `bench`. The loss of a cell is L = (1/batch) sum over t, b of <q_tb, h_tb> with
fixed random q.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch

STEPS, BATCH, INPUT, HIDDEN = 9, 3, 2, 4
UPDATES, PARAMETERS, RATE = 12, 6, 0.05
HERE = Path(__file__).parent


CELLS = {
    "elman": (torch.nn.RNNCell, 1, 0),
    "gru": (torch.nn.GRUCell, 1, 0),
    "lstm": (torch.nn.LSTMCell, 2, 0),
    "stack": (partial(torch.nn.LSTM, num_layers=2), 4, 2),
}
"""kind -> (cell, blocks of its state, the one that is its output); of a stack h and c of each layer."""


def reference(kind: str) -> dict[str, np.ndarray]:
    """Inputs, parameters, states, adjoints and gradients of one PyTorch cell."""
    torch.manual_seed(1997)
    make, blocks, output = CELLS[kind]
    cell = make(INPUT, HIDDEN).double()
    x, q = (torch.randn(STEPS, BATCH, n, dtype=torch.float64) for n in (INPUT, HIDDEN))
    first = torch.randn(blocks, BATCH, HIDDEN, dtype=torch.float64, requires_grad=True)
    states = unroll(cell, x, first)
    for state in states:
        state.retain_grad()
    loss = sum((q[t] * states[t + 1][output]).sum() for t in range(STEPS)) / BATCH
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
        if len(now) == 4:
            _, new = cell(step[None], (now[::2], now[1::2]))
            states.append(torch.stack(new, dim=1).flatten(0, 1))
        else:
            new = cell(step, (now[0], now[1])) if len(now) == 2 else (cell(step, now[0]),)
            states.append(torch.stack(list(new)))
    return states


def flat(state: torch.Tensor) -> np.ndarray:
    """(blocks, batch, hidden) as (batch, blocks * hidden)."""
    return state.permute(1, 0, 2).reshape(BATCH, -1).numpy()


OPTIMIZERS = {
    "sgd": (torch.optim.SGD, {}),
    "sgd_momentum": (torch.optim.SGD, {"momentum": 0.9}),
    "sgd_nesterov": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    "rmsprop": (torch.optim.RMSprop, {}),
    "rmsprop_momentum": (torch.optim.RMSprop, {"alpha": 0.9, "momentum": 0.5, "eps": 1e-3}),
    "rmsprop_centred": (torch.optim.RMSprop, {"alpha": 0.9, "centered": True}),
    "adam": (torch.optim.Adam, {}),
    "adam_other": (torch.optim.Adam, {"betas": (0.5, 0.9), "eps": 1e-2}),
    "adamw": (torch.optim.AdamW, {"weight_decay": 0.1}),
}


def optimizers() -> dict[str, np.ndarray]:
    """Parameters after each update of every optimizer, from the same start with the same gradients."""
    torch.manual_seed(1997)
    start = torch.randn(PARAMETERS, dtype=torch.float64)
    sizes = 10.0 ** torch.arange(-3, PARAMETERS - 3, dtype=torch.float64)
    gradients = sizes * torch.randn(UPDATES, PARAMETERS, dtype=torch.float64)
    found = {name: trained(start, gradients, *chosen) for name, chosen in OPTIMIZERS.items()}
    return {"start": start.numpy(), "gradients": gradients.numpy(), **found}


def trained(start: torch.Tensor, gradients: torch.Tensor, kind: type, options: dict) -> np.ndarray:
    """(update, parameter)."""
    theta = torch.nn.Parameter(start.clone())
    optimizer, path = kind([theta], lr=RATE, **options), []
    for gradient in gradients:
        theta.grad = gradient
        optimizer.step()
        path.append(theta.detach().clone().numpy())
    return np.stack(path)


SCHEDULES = {
    "step_decay": (torch.optim.lr_scheduler.StepLR, {"step_size": 5, "gamma": 0.3}),
    "exponential": (torch.optim.lr_scheduler.ExponentialLR, {"gamma": 0.9}),
    "cosine": (torch.optim.lr_scheduler.CosineAnnealingLR, {"T_max": UPDATES, "eta_min": 0.1}),
    "warmup": (torch.optim.lr_scheduler.LinearLR, {"start_factor": 0.2, "total_iters": 4}),
}


def schedules() -> dict[str, np.ndarray]:
    """The learning rate at each update, from 1."""
    return {name: np.array(rates(*chosen)) for name, chosen in SCHEDULES.items()}


def rates(kind: type, options: dict) -> list[float]:
    """One for each update."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule, found = kind(optimizer, **options), []
    for _ in range(UPDATES):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


FILES = {
    **{kind: partial(reference, kind) for kind in CELLS},
    "optimizers": optimizers,
    "schedules": schedules,
}

if __name__ == "__main__":
    for kind, made in FILES.items():
        fresh, file = made(), HERE / f"{kind}.npz"
        if "--check" in sys.argv:
            with np.load(file) as kept:
                for name, value in fresh.items():
                    np.testing.assert_allclose(kept[name], value, rtol=1e-12, atol=1e-14, err_msg=name)
        else:
            np.savez_compressed(file, **fresh)
        print(kind, "agrees with" if "--check" in sys.argv else "written by", "PyTorch", torch.__version__)

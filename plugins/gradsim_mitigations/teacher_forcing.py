"""Units that are set to their targets, or moved towards them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import hookimpl
from gradsim.errors import InputError
from gradsim.types import PositiveInt, Probability
from gradsim_mitigations.parts import parts
from gradsim_mitigations.seeing import Forcing


@dataclass(frozen=True, eq=False)
class TeacherForcing(Forcing):
    """Let each step see s~ = (1 - alpha) s_{t-1} + alpha y*_{t-1} in place of s_{t-1}: J_t = (1 - alpha) J_f.

    s: the first k units of `block`, y*: the k targets; where the loss has no weight nothing is forced. J_f is
    taken at s~, and the loss still sees s. alpha = 1 cuts the gradient of a forced unit. A state that is all
    forced has P~(t, k) = (1 - alpha)^(t - k) times the product of J_f. In a validation nothing is forced.

    `every` forces s_{t-1} only where it divides t - 1: sparse teacher forcing, for which Mikhaeil et al. take
    the predictability time ln 2 / lambda_max, of the largest Lyapunov exponent of the data.

    `measured` takes alpha = max(0, 1 - 1 / sigma) from the update before, with sigma the largest ||J_f||_2 of
    its steps, and `alpha` at the first update and in a simulation: then no product grows, as far as sigma
    still holds and all units are forced.

    Williams & Zipser (1989), A learning algorithm for continually running fully recurrent neural networks,
    section 3 (alpha = 1); Mikhaeil, Monfared & Durstewitz (2022), On the difficulty of learning chaotic
    dynamics with RNNs; Doya (1992), Bifurcations in the learning of recurrent neural networks, and Hess,
    Monfared, Brenner & Durstewitz (2023), Generalized teacher forcing for learning chaotic dynamics, who
    invert their observation model where k units are forced here.
    """

    name = "teacher_forcing"
    idle = {"alpha": 0.0, "measured": False}

    alpha: Probability = 1.0
    every: PositiveInt = 1
    measured: bool = False

    @property
    def phases(self):
        return ("cell", "step_data", "gradient") if self.measured else ("cell", "step_data")

    @property
    def idles(self):
        return not (self.alpha or self.measured)

    def share(self, steps, draws, moment):
        alpha = moment.memory(self).get("alpha", self.alpha)
        return np.where((steps - 1) % self.every == 0, alpha, 0.0)

    def refuse(self, cell, task):
        super().refuse(task)
        if self.measured and self.around(cell).state_size != cell.state_size:
            raise InputError(
                f"teacher_forcing: with measured the norms are those of the whole state, and {cell.name} "
                "adds to it; put it in front of teacher_forcing, or give alpha"
            )

    @hookimpl(wrapper=True)
    def gradsim_gradient(self, trajectory, moment):
        gradient = yield
        if self.measured and moment.learning:
            size = max(self._largest(part) for part in parts(trajectory, trajectory.cell.state_size))
            moment.remember(self, alpha=max(0.0, 1 - 1 / size) if size else 0.0)
        return gradient

    def _largest(self, part):
        """The largest ||J_f||_2 of some steps: of the whole cell, which sees the same and is not forced."""
        seeing, data = self.around(part.cell), part.step_data
        keep, add = seeing.mix_data.values()
        seen, _ = seeing.seen(part.before, data)
        unforced = {**data, keep: np.ones_like(seen), add: seen - part.before}
        blocks = part.cell.step_jacobian(part.params, part.before, part.inputs, **unforced)
        return float(np.linalg.norm(blocks, 2, axis=(-2, -1)).max())

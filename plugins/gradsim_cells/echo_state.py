"""The echo state network, a reservoir that is not trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Interval

from gradsim import Dense
from gradsim.types import NonNegativeFloat
from gradsim_cells.algebra import normal

Share = Annotated[float, Interval(gt=0, le=1)]


@dataclass(frozen=True, eq=False)
class EchoState(Dense):
    """h_t = (1 - a) h_{t-1} + a tanh(W x_t + U h_{t-1} + b), where only the readout is trained; a = `leak`.

    h: state (hidden_size = n). x: input. W (n, input_size) ~ N(0, 1 / input_size). U (n, n): a share
    `density` of its entries, independent Gaussian, the others 0, all of it scaled to the eigenvalue of the
    size `spectral_radius`. b (n) = 0. All three stay as they are. A `recurrent_init` takes the place of this
    U, as a whole.

    A spectral radius below 1 is neither needed nor enough for the echo state property, the fading of the
    first state: with a = 1 a largest *singular value* below 1 is enough, as J_t = diag(1 - h^2) U.

    Jaeger (2001), The "echo state" approach to analysing and training recurrent neural networks; with the
    leak as Lukosevicius (2012), A practical guide to applying echo state networks, eq. 2 and 3.
    """

    name = "echo_state"

    spectral_radius: NonNegativeFloat = 0.9
    density: Share = 0.2
    leak: Share = 1.0

    @property
    def fixed(self):
        return ("W", "U", "b")

    def init_params(self, rng):
        n = self.hidden_size
        w, u = normal(rng, n, self.input_size), normal(rng, n, n) * (rng.random((n, n)) < self.density)
        radius = np.abs(np.linalg.eigvals(u)).max()
        # Few units may have no cycle at all, and no eigenvalue but 0.
        return {"W": w, "U": u * (self.spectral_radius / radius if radius > 0 else 1.0), "b": np.zeros(n)}

    def unit(self, sums, old, xp):
        return (1 - self.leak) * old[0] + self.leak * xp.tanh(sums[0])

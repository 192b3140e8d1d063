"""All shipped cells in small sizes, with the options that change their steps."""

from __future__ import annotations

import gradsim_cells
from gradsim_cells import (
    GRU,
    LIF,
    LRU,
    LSTM,
    MLSTM,
    MUT,
    NARX,
    NRU,
    NTM,
    QRNN,
    RAN,
    RHN,
    S4D,
    SLSTM,
    SRU,
    URNN,
    AntisymmetricRNN,
    ClockworkRNN,
    CoRNN,
    DeltaNet,
    EchoState,
    Elman,
    FastWeights,
    IndRNN,
    Jordan,
    LayerNorm,
    LeakyRNN,
    LSTMProjected,
    Residual,
    SelectiveSSM,
    ShallowPLRNN,
    Stack,
    Zoneout,
)

OTHER_SIZES = (
    ClockworkRNN(2, 7, (1, 2, 3)),
    EchoState(2, 5, leak=0.4),
    LSTMProjected(2, 3, projection_size=2),
    LayerNorm(LSTM(2, 3)),
    NRU(2, 3, memory_size=8, heads=2),
    NTM(2, 2, slots=3, width=2),
    Residual(Elman(2, 3)),
    Stack((LSTM(2, 2), LRU(2, 3))),
    Zoneout(GRU(2, 3)),
    *(cell(2, 3, 2) for cell in (DeltaNet, MLSTM, S4D, SelectiveSSM)),
)
"""Of those that would be large, or take other fields."""

OTHER_OPTIONS = (
    *(Elman(2, 3, activation=phi) for phi in ("relu", "logistic")),
    *(LeakyRNN(2, 3, 0.3, activation=phi) for phi in ("relu", "logistic")),
    *(Jordan(2, 3, 4, reading) for reading in ("identity", "logistic")),
    GRU(2, 3, reset_after=False),
    *(MUT(2, 3, form=form) for form in (2, 3)),
    RAN(2, 3, activation="identity"),
    RHN(2, 3, depth=2, coupled=False),
    CoRNN(2, 3, implicit=True),
    AntisymmetricRNN(2, 3, gated=True),
    ClockworkRNN(2, 4, (4, 1)),
    NARX(2, 3, (3, 1), 2),
    URNN(2, 5),
    IndRNN(2, 3, activation="tanh"),
    *(QRNN(2, 3, window=window, pooling=pooling) for window, pooling in ((1, "f"), (1, "ifo"), (3, "fo"))),
    SRU(3, 3),
    SRU(2, 3, reset_sees_state=True),
    SLSTM(2, 4, heads=2),
    SLSTM(2, 3, forget="exp"),
    DeltaNet(2, 3, key_size=2, gated=True, negative_eigenvalues=True),
    FastWeights(2, 3, normalised=False, activation="tanh", inner_steps=2),
    NTM(2, 2, slots=3, width=2, addressing="content"),
    ShallowPLRNN(2, 3, pieces=5, clipped=True),
    *(LIF(2, 3, reset=reset, detach_reset=d) for reset, d in (("zero", True), ("subtract", False))),
)

_named = {cell.name for cell in OTHER_SIZES}
USUAL = tuple(cls(2, 3) for cls in gradsim_cells.gradsim_register_cells() if cls.name not in _named)

CELLS = (*USUAL, *OTHER_SIZES, *OTHER_OPTIONS)

"""The cells that ship with gradsim: one file, one idea and its reference."""

from gradsim import hookimpl
from gradsim_cells.atr import ATR
from gradsim_cells.brc import BRC
from gradsim_cells.cfn import CFN
from gradsim_cells.delta_net import DeltaNet
from gradsim_cells.elman import Elman
from gradsim_cells.gru import GRU
from gradsim_cells.ind_rnn import IndRNN
from gradsim_cells.janet import JANET
from gradsim_cells.layer_norm import LayerNorm
from gradsim_cells.lif import LIF
from gradsim_cells.ligru import LiGRU
from gradsim_cells.linear import Linear
from gradsim_cells.lrc_ssm import LrcSSM
from gradsim_cells.lru import LRU
from gradsim_cells.lstm import LSTM
from gradsim_cells.min_gru import MinGRU
from gradsim_cells.min_lstm import MinLSTM
from gradsim_cells.mlstm import MLSTM
from gradsim_cells.modern_hopfield import ModernHopfield
from gradsim_cells.nbrc import NBRC
from gradsim_cells.ntm import NTM
from gradsim_cells.original_lstm import OriginalLSTM
from gradsim_cells.para_gru import ParaGRU
from gradsim_cells.para_lstm import ParaLSTM
from gradsim_cells.peephole_lstm import PeepholeLSTM
from gradsim_cells.qrnn import QRNN
from gradsim_cells.residual import Residual
from gradsim_cells.s4d import S4D
from gradsim_cells.selective_ssm import SelectiveSSM
from gradsim_cells.shallow_plrnn import ShallowPLRNN
from gradsim_cells.slstm import SLSTM
from gradsim_cells.sru import SRU
from gradsim_cells.stack import Stack
from gradsim_cells.star import STAR
from gradsim_cells.ugrnn import UGRNN
from gradsim_cells.unicornn import UnICORNN
from gradsim_cells.zoneout import Zoneout

__all__ = [
    "ATR",
    "BRC",
    "CFN",
    "GRU",
    "JANET",
    "LIF",
    "LRU",
    "LSTM",
    "MLSTM",
    "NBRC",
    "NTM",
    "QRNN",
    "S4D",
    "SLSTM",
    "SRU",
    "STAR",
    "UGRNN",
    "DeltaNet",
    "Elman",
    "IndRNN",
    "LayerNorm",
    "LiGRU",
    "Linear",
    "LrcSSM",
    "MinGRU",
    "MinLSTM",
    "ModernHopfield",
    "OriginalLSTM",
    "ParaGRU",
    "ParaLSTM",
    "PeepholeLSTM",
    "Residual",
    "SelectiveSSM",
    "ShallowPLRNN",
    "Stack",
    "UnICORNN",
    "Zoneout",
]


@hookimpl
def gradsim_register_cells():
    """Our cells."""
    return [
        Linear,
        Elman,
        GRU,
        LSTM,
        MinGRU,
        LRU,
        ATR,
        BRC,
        CFN,
        JANET,
        LiGRU,
        NBRC,
        OriginalLSTM,
        PeepholeLSTM,
        STAR,
        UGRNN,
        Residual,
        Zoneout,
        LayerNorm,
        IndRNN,
        LrcSSM,
        MinLSTM,
        ParaGRU,
        ParaLSTM,
        QRNN,
        SRU,
        UnICORNN,
        S4D,
        SelectiveSSM,
        SLSTM,
        MLSTM,
        DeltaNet,
        LIF,
        ModernHopfield,
        NTM,
        ShallowPLRNN,
        Stack,
    ]

"""The cells that ship with gradsim: one file, one idea and its reference."""

from gradsim import hookimpl
from gradsim_cells.antisymmetric_rnn import AntisymmetricRNN
from gradsim_cells.atr import ATR
from gradsim_cells.brc import BRC
from gradsim_cells.cfn import CFN
from gradsim_cells.clockwork_rnn import ClockworkRNN
from gradsim_cells.cornn import CoRNN
from gradsim_cells.delta_net import DeltaNet
from gradsim_cells.echo_state import EchoState
from gradsim_cells.elman import Elman
from gradsim_cells.exp_rnn import ExpRNN
from gradsim_cells.fast_grnn import FastGRNN
from gradsim_cells.fast_rnn import FastRNN
from gradsim_cells.fast_weights import FastWeights
from gradsim_cells.gru import GRU
from gradsim_cells.ind_rnn import IndRNN
from gradsim_cells.intersection_rnn import IntersectionRNN
from gradsim_cells.irnn import IRNN
from gradsim_cells.janet import JANET
from gradsim_cells.jordan import Jordan
from gradsim_cells.layer_norm import LayerNorm
from gradsim_cells.leaky_rnn import LeakyRNN
from gradsim_cells.lem import LEM
from gradsim_cells.lif import LIF
from gradsim_cells.ligru import LiGRU
from gradsim_cells.linear import Linear
from gradsim_cells.lipschitz_rnn import LipschitzRNN
from gradsim_cells.lrc_ssm import LrcSSM
from gradsim_cells.lru import LRU
from gradsim_cells.lstm import LSTM
from gradsim_cells.lstm_projected import LSTMProjected
from gradsim_cells.mgu import MGU
from gradsim_cells.min_gru import MinGRU
from gradsim_cells.min_lstm import MinLSTM
from gradsim_cells.minimal_rnn import MinimalRNN
from gradsim_cells.mlstm import MLSTM
from gradsim_cells.modern_hopfield import ModernHopfield
from gradsim_cells.multiplicative_lstm import MultiplicativeLSTM
from gradsim_cells.mut import MUT
from gradsim_cells.narx import NARX
from gradsim_cells.nbrc import NBRC
from gradsim_cells.nru import NRU
from gradsim_cells.ntm import NTM
from gradsim_cells.original_lstm import OriginalLSTM
from gradsim_cells.para_gru import ParaGRU
from gradsim_cells.para_lstm import ParaLSTM
from gradsim_cells.peephole_lstm import PeepholeLSTM
from gradsim_cells.qrnn import QRNN
from gradsim_cells.ran import RAN
from gradsim_cells.rate_network import RateNetwork
from gradsim_cells.residual import Residual
from gradsim_cells.rhn import RHN
from gradsim_cells.s4d import S4D
from gradsim_cells.scrn import SCRN
from gradsim_cells.selective_ssm import SelectiveSSM
from gradsim_cells.shallow_plrnn import ShallowPLRNN
from gradsim_cells.slstm import SLSTM
from gradsim_cells.sru import SRU
from gradsim_cells.stack import Stack
from gradsim_cells.star import STAR
from gradsim_cells.ugrnn import UGRNN
from gradsim_cells.unicornn import UnICORNN
from gradsim_cells.urnn import URNN
from gradsim_cells.zoneout import Zoneout

__all__ = [
    "ATR",
    "BRC",
    "CFN",
    "GRU",
    "IRNN",
    "JANET",
    "LEM",
    "LIF",
    "LRU",
    "LSTM",
    "MGU",
    "MLSTM",
    "MUT",
    "NARX",
    "NBRC",
    "NRU",
    "NTM",
    "QRNN",
    "RAN",
    "RHN",
    "S4D",
    "SCRN",
    "SLSTM",
    "SRU",
    "STAR",
    "UGRNN",
    "URNN",
    "AntisymmetricRNN",
    "ClockworkRNN",
    "CoRNN",
    "DeltaNet",
    "EchoState",
    "Elman",
    "ExpRNN",
    "FastGRNN",
    "FastRNN",
    "FastWeights",
    "IndRNN",
    "IntersectionRNN",
    "Jordan",
    "LSTMProjected",
    "LayerNorm",
    "LeakyRNN",
    "LiGRU",
    "Linear",
    "LipschitzRNN",
    "LrcSSM",
    "MinGRU",
    "MinLSTM",
    "MinimalRNN",
    "ModernHopfield",
    "MultiplicativeLSTM",
    "OriginalLSTM",
    "ParaGRU",
    "ParaLSTM",
    "PeepholeLSTM",
    "RateNetwork",
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
    return [globals()[name] for name in __all__]

"""The tasks that ship with gradsim: one file, one task and its reference."""

from gradsim import hookimpl
from gradsim_tasks.adding import Adding
from gradsim_tasks.copy_memory import CopyMemory
from gradsim_tasks.csv_file import Csv
from gradsim_tasks.delayed_xor import DelayedXor
from gradsim_tasks.digits import Digits
from gradsim_tasks.el_nino import ElNino
from gradsim_tasks.flip_flop import FlipFlop
from gradsim_tasks.japanese_vowels import JapaneseVowels
from gradsim_tasks.lorenz import Lorenz
from gradsim_tasks.mackey_glass import MackeyGlass
from gradsim_tasks.noiseless_memorisation import NoiselessMemorisation
from gradsim_tasks.npz_file import Npz
from gradsim_tasks.parity import Parity
from gradsim_tasks.random_permutation import RandomPermutation
from gradsim_tasks.sunspots import Sunspots
from gradsim_tasks.temporal_order import TemporalOrder
from gradsim_tasks.text import Text

__all__ = [
    "Adding",
    "CopyMemory",
    "Csv",
    "DelayedXor",
    "Digits",
    "ElNino",
    "FlipFlop",
    "JapaneseVowels",
    "Lorenz",
    "MackeyGlass",
    "NoiselessMemorisation",
    "Npz",
    "Parity",
    "RandomPermutation",
    "Sunspots",
    "TemporalOrder",
    "Text",
]


@hookimpl
def gradsim_register_tasks():
    """Our tasks."""
    return [
        Adding,
        TemporalOrder,
        CopyMemory,
        NoiselessMemorisation,
        RandomPermutation,
        DelayedXor,
        Parity,
        FlipFlop,
        MackeyGlass,
        Lorenz,
        Sunspots,
        ElNino,
        Digits,
        JapaneseVowels,
        Text,
        Csv,
        Npz,
    ]

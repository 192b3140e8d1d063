"""The initializers that ship with gradsim: one file, one idea and its reference."""

from gradsim import hookimpl
from gradsim_initializers.chrono import Chrono
from gradsim_initializers.forget import Forget
from gradsim_initializers.gaussian import Gaussian
from gradsim_initializers.hippo import HiPPO
from gradsim_initializers.identity import Identity
from gradsim_initializers.orthogonal import Orthogonal
from gradsim_initializers.ring import Ring
from gradsim_initializers.uniform import Uniform
from gradsim_initializers.zeros import Zeros

__all__ = ["Chrono", "Forget", "Gaussian", "HiPPO", "Identity", "Orthogonal", "Ring", "Uniform", "Zeros"]


@hookimpl
def gradsim_register_initializers():
    """Our initializers."""
    return [Gaussian, Orthogonal, Identity, Uniform, Zeros, Forget, Chrono, Ring, HiPPO]

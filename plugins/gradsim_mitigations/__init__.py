"""The mitigations that ship with gradsim: one file, one idea and its reference."""

from gradsim import hookimpl
from gradsim_mitigations.activity import Activity
from gradsim_mitigations.artbp import ARTBP
from gradsim_mitigations.auto_clip import AutoClip
from gradsim_mitigations.auxiliary_loss import AuxiliaryLoss
from gradsim_mitigations.chrono_init import ChronoInit
from gradsim_mitigations.clip_adaptive import ClipAdaptive
from gradsim_mitigations.clip_chunk_edges import ClipChunkEdges
from gradsim_mitigations.clip_norm import ClipNorm
from gradsim_mitigations.clip_value import ClipValue
from gradsim_mitigations.critical_init import CriticalInit
from gradsim_mitigations.dilate import Dilate
from gradsim_mitigations.dni import DNI
from gradsim_mitigations.dropout import Dropout
from gradsim_mitigations.e_prop import EProp
from gradsim_mitigations.flossing import Flossing
from gradsim_mitigations.forget_bias_init import ForgetBiasInit
from gradsim_mitigations.forward_errors import ForwardErrors
from gradsim_mitigations.gate import Gate
from gradsim_mitigations.gradient_centralisation import GradientCentralisation
from gradsim_mitigations.gradient_noise import GradientNoise
from gradsim_mitigations.h_detach import HDetach
from gradsim_mitigations.identity_init import IdentityInit
from gradsim_mitigations.immediate import Immediate
from gradsim_mitigations.jacobian_penalty import JacobianPenalty
from gradsim_mitigations.jacobian_regulariser import JacobianRegulariser
from gradsim_mitigations.kf_rtrl import KFRTRL
from gradsim_mitigations.layer_norm import LayerNorm
from gradsim_mitigations.leak import Leak
from gradsim_mitigations.norm_stabiliser import NormStabiliser
from gradsim_mitigations.orthogonal_init import OrthogonalInit
from gradsim_mitigations.orthogonal_weights import OrthogonalWeights
from gradsim_mitigations.residual import Residual
from gradsim_mitigations.rflo import RFLO
from gradsim_mitigations.rtrl import RTRL
from gradsim_mitigations.scale_paths import ScalePaths
from gradsim_mitigations.scheduled_sampling import ScheduledSampling
from gradsim_mitigations.skip import Skip
from gradsim_mitigations.snap import SnAp
from gradsim_mitigations.soft_cap import SoftCap
from gradsim_mitigations.soft_orthogonality import SoftOrthogonality
from gradsim_mitigations.sparse_rtrl import SparseRTRL
from gradsim_mitigations.spectral_norm import SpectralNorm
from gradsim_mitigations.spectral_projection import SpectralProjection
from gradsim_mitigations.stiefel import Stiefel
from gradsim_mitigations.target_propagation import TargetPropagation
from gradsim_mitigations.teacher_forcing import TeacherForcing
from gradsim_mitigations.truncate import Truncate
from gradsim_mitigations.truncate_adaptive import TruncateAdaptive
from gradsim_mitigations.truncate_annealed import TruncateAnnealed
from gradsim_mitigations.truncate_forward import TruncateForward
from gradsim_mitigations.uoro import UORO
from gradsim_mitigations.weight_decay import WeightDecay
from gradsim_mitigations.weight_noise import WeightNoise
from gradsim_mitigations.zoneout import Zoneout

__all__ = [
    "ARTBP",
    "DNI",
    "KFRTRL",
    "RFLO",
    "RTRL",
    "UORO",
    "Activity",
    "AutoClip",
    "AuxiliaryLoss",
    "ChronoInit",
    "ClipAdaptive",
    "ClipChunkEdges",
    "ClipNorm",
    "ClipValue",
    "CriticalInit",
    "Dilate",
    "Dropout",
    "EProp",
    "Flossing",
    "ForgetBiasInit",
    "ForwardErrors",
    "Gate",
    "GradientCentralisation",
    "GradientNoise",
    "HDetach",
    "IdentityInit",
    "Immediate",
    "JacobianPenalty",
    "JacobianRegulariser",
    "LayerNorm",
    "Leak",
    "NormStabiliser",
    "OrthogonalInit",
    "OrthogonalWeights",
    "Residual",
    "ScalePaths",
    "ScheduledSampling",
    "Skip",
    "SnAp",
    "SoftCap",
    "SoftOrthogonality",
    "SparseRTRL",
    "SpectralNorm",
    "SpectralProjection",
    "Stiefel",
    "TargetPropagation",
    "TeacherForcing",
    "Truncate",
    "TruncateAdaptive",
    "TruncateAnnealed",
    "TruncateForward",
    "WeightDecay",
    "WeightNoise",
    "Zoneout",
]


@hookimpl
def gradsim_register_mitigations():
    """Our mitigations."""
    return [
        Gate,
        Leak,
        Residual,
        Skip,
        Dilate,
        LayerNorm,
        Zoneout,
        Dropout,
        WeightNoise,
        TeacherForcing,
        ScheduledSampling,
        OrthogonalInit,
        IdentityInit,
        ForgetBiasInit,
        ChronoInit,
        CriticalInit,
        Truncate,
        TruncateAnnealed,
        TruncateAdaptive,
        ARTBP,
        HDetach,
        ClipNorm,
        ClipValue,
        ClipAdaptive,
        AutoClip,
        AuxiliaryLoss,
        ClipChunkEdges,
        WeightDecay,
        JacobianPenalty,
        Activity,
        Flossing,
        GradientCentralisation,
        GradientNoise,
        JacobianRegulariser,
        NormStabiliser,
        OrthogonalWeights,
        SoftOrthogonality,
        SpectralNorm,
        SpectralProjection,
        Stiefel,
        SoftCap,
        RTRL,
        SnAp,
        SparseRTRL,
        TruncateForward,
        RFLO,
        EProp,
        Immediate,
        ScalePaths,
        UORO,
        KFRTRL,
        ForwardErrors,
        DNI,
        TargetPropagation,
    ]

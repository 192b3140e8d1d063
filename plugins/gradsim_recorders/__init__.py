"""The recorders that ship with gradsim, by the stream that they read."""

from gradsim import hookimpl
from gradsim_recorders.backward import (
    AdjointFactorRecorder,
    AdjointNormRecorder,
    AdjointRecorder,
    ContributionNormRecorder,
    ContributionRecorder,
    GradientByLagRecorder,
    GradientFactorRecorder,
    GradientNormByLagRecorder,
    GradientNormBySequenceRecorder,
    GradientNormRecorder,
    GradientRecorder,
    InputAdjointRecorder,
)
from gradsim_recorders.effect import (
    AdjointEnergyRemovedRecorder,
    ContributionBiasRecorder,
    ContributionCosineRecorder,
    GradientBiasByLagRecorder,
    GradientBiasRecorder,
    GradientCosineByLagRecorder,
    GradientCosineRecorder,
)
from gradsim_recorders.exponents import LeadingLyapunovRecorder, LyapunovRecorder
from gradsim_recorders.forward import LossRecorder, StateRecorder, StepJacobianRecorder
from gradsim_recorders.influence import InfluenceNormRecorder, InfluenceRecorder
from gradsim_recorders.learnability import LearnabilityEnvelopeDiagonalRecorder, LearnabilityEnvelopeRecorder
from gradsim_recorders.paths import (
    GateRecorder,
    PathJacobianRecorder,
    PathNormRecorder,
    PathProductNormRecorder,
)
from gradsim_recorders.products import (
    BlockNormRecorder,
    JacobianProductRecorder,
    LossAdjointNormRecorder,
    ParallelizabilityRecorder,
    ProductNormRecorder,
    ProductSpectralNormRecorder,
    ProductSpectrumRecorder,
)


@hookimpl
def gradsim_register_recorders():
    """Our recorders."""
    return [
        StateRecorder,
        InfluenceRecorder,
        InfluenceNormRecorder,
        LossRecorder,
        StepJacobianRecorder,
        PathJacobianRecorder,
        PathNormRecorder,
        PathProductNormRecorder,
        GateRecorder,
        JacobianProductRecorder,
        ProductNormRecorder,
        BlockNormRecorder,
        ProductSpectralNormRecorder,
        ProductSpectrumRecorder,
        LyapunovRecorder,
        LeadingLyapunovRecorder,
        ParallelizabilityRecorder,
        LearnabilityEnvelopeRecorder,
        LearnabilityEnvelopeDiagonalRecorder,
        LossAdjointNormRecorder,
        AdjointRecorder,
        AdjointNormRecorder,
        AdjointFactorRecorder,
        AdjointEnergyRemovedRecorder,
        InputAdjointRecorder,
        ContributionRecorder,
        ContributionNormRecorder,
        ContributionBiasRecorder,
        ContributionCosineRecorder,
        GradientRecorder,
        GradientNormRecorder,
        GradientNormBySequenceRecorder,
        GradientByLagRecorder,
        GradientNormByLagRecorder,
        GradientFactorRecorder,
        GradientBiasRecorder,
        GradientCosineRecorder,
        GradientBiasByLagRecorder,
        GradientCosineByLagRecorder,
    ]

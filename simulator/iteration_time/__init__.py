"""Iteration time models: affine, roofline, and profiles fitted to measured kernels."""

from simulator.iteration_time.affine import Affine
from simulator.iteration_time.attention_inputs import DESIGNS, NUM_TERMS, AttentionCases
from simulator.iteration_time.base import IterationTime, StageTimes
from simulator.iteration_time.breakdown import extent_of_batch, time_breakdown
from simulator.iteration_time.collectives import Collectives
from simulator.iteration_time.composed import ComposedTimes
from simulator.iteration_time.device_profile import DeviceProfile, InEngine, load_profile
from simulator.iteration_time.experts import ExpertCases, experts_inputs
from simulator.iteration_time.kernel_fits import (
    AttentionFit,
    AttentionFits,
    ElementwiseFit,
    ExpertsFit,
    MatMulFit,
    attention_key,
    elementwise_key,
    matmul_key,
)
from simulator.iteration_time.link_curves import LinkCurve, MeasuredLinks, load_links
from simulator.iteration_time.operators import (
    Attention,
    Elementwise,
    Experts,
    MatMul,
    attention_of,
    embedding,
    head_operators,
    layer_operators,
)
from simulator.iteration_time.physics import (
    Gpu,
    elementwise_features,
    elementwise_terms,
    matmul_features,
    matmul_terms,
)
from simulator.iteration_time.profile import Profile, ProfileKernels
from simulator.iteration_time.provenance import Extent, HostPart, Provenance, describe_provenance, extent_of
from simulator.iteration_time.published import LINEAR_OPERATORS, PUBLISHED_LINEAR_MS
from simulator.iteration_time.regression import CorrectedPhysics, Floats, TiledLines, Trees
from simulator.iteration_time.roofline import Roofline

__all__ = [
    "DESIGNS",
    "LINEAR_OPERATORS",
    "NUM_TERMS",
    "PUBLISHED_LINEAR_MS",
    "Affine",
    "Attention",
    "AttentionCases",
    "AttentionFit",
    "AttentionFits",
    "Collectives",
    "ComposedTimes",
    "CorrectedPhysics",
    "DeviceProfile",
    "Elementwise",
    "ElementwiseFit",
    "ExpertCases",
    "Experts",
    "ExpertsFit",
    "Extent",
    "Floats",
    "Gpu",
    "HostPart",
    "InEngine",
    "IterationTime",
    "LinkCurve",
    "MatMul",
    "MatMulFit",
    "MeasuredLinks",
    "Profile",
    "ProfileKernels",
    "Provenance",
    "Roofline",
    "StageTimes",
    "TiledLines",
    "Trees",
    "attention_key",
    "attention_of",
    "describe_provenance",
    "elementwise_features",
    "elementwise_key",
    "elementwise_terms",
    "embedding",
    "experts_inputs",
    "extent_of",
    "extent_of_batch",
    "head_operators",
    "layer_operators",
    "load_links",
    "load_profile",
    "matmul_features",
    "matmul_key",
    "matmul_terms",
    "time_breakdown",
]

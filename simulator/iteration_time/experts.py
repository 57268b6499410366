"""Inputs of the regressions of routed experts."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from simulator.iteration_time.kernels import Floats
from simulator.iteration_time.operators import Experts
from simulator.iteration_time.physics import Gpu

__all__ = ["ROUTING", "ExpertCases", "experts_inputs"]

# Exponent of the power law of tokens per expert: 0 is balanced, 1.01 and 1.2 were measured. No published measurement
# says which a served model has; 1.01 is the milder of the two.
ROUTING = 1.01
TILE = 64  # tokens per expert and tile


@dataclass(frozen=True)
class ExpertCases:
    """Cases of one shape of experts.

    Attributes:
        experts: The experts on one GPU.
        tokens: Tokens of each case, float64[n].
        routing: Exponent of the power law of tokens per expert, float64[n]; 0: balanced.
    """

    experts: Experts
    tokens: Floats
    routing: Floats


def experts_inputs(gpu: Gpu, cases: ExpertCases) -> tuple[Floats, Floats]:
    """Return terms and features of experts: float64[n, 4], float64[n, 11].

    Terms: launch, FLOPs, weights of the experts that tokens reach, inputs and outputs. Features: tokens, shape, tokens
    per expert, ratio of compute to memory, fill of tiles, routing.
    """
    experts, tokens = cases.experts, cases.tokens
    ones = np.ones(len(tokens))
    compute_s = gpu.compute_s(experts.flops(tokens), experts.compute_dtype)
    weights_s = gpu.memory_s(experts.weight_bytes(tokens))
    routed_s = gpu.memory_s(experts.activation_bytes(tokens))
    per_expert = tokens * experts.experts_per_token / experts.num_experts
    sizes: tuple[Any, ...] = (experts.hidden_size, experts.ffn_size, experts.num_local, experts.experts_per_token)
    features = [np.log2(tokens), *(ones * np.log2(size) for size in (*sizes, experts.num_experts))]
    features += [np.log2(per_expert), np.log2(compute_s / weights_s), np.log2(weights_s)]
    features += [np.ceil(per_expert / TILE) * TILE / per_expert, cases.routing]
    return np.column_stack([ones, compute_s, weights_s, routed_s]), np.column_stack(features)

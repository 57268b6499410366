"""Iteration time from first principles: each operator is bound by compute or by memory."""

from dataclasses import dataclass

import numpy as np

from simulator.iteration_time.base import StageTimes
from simulator.iteration_time.composed import ComposedTimes
from simulator.iteration_time.kernels import AttentionTimes, Floats
from simulator.iteration_time.operators import Attention, Elementwise, MatMul
from simulator.iteration_time.provenance import Provenance
from simulator.model import Device, IterationOverhead, Layout


@dataclass(frozen=True)
class Roofline:
    """Each operator takes the shortest kernel plus max(FLOPs / rate, bytes / bandwidth).

    Rates are peaks times the share that kernels attain (`Device.attained`), so this is a roofline
    through measured points and not a fit; it knows no tile or wave quantisation.

    Source: Williams et al., CACM 2009; T = max(T_math, T_mem) as in arXiv:2403.02310, section 3.1.
    """

    def for_layout(self, layout: Layout, engine: IterationOverhead) -> StageTimes:
        """Prepare the prediction for one model on one layout."""
        return ComposedTimes(RooflineKernels(layout.device), layout, engine)


class RooflineKernels:
    """Kernel times of a device by its attained rates.

    Attributes:
        provenance: Where the times come from.
    """

    def __init__(self, device: Device) -> None:
        attained = device.attained
        self.provenance = Provenance(f"roofline of {device.name}")
        self._kernel_s = attained.kernel_us * 1e-6
        self._device = device
        self._byte_per_s = device.bandwidth_gb_per_s * 1e9 * attained.bandwidth
        self._attention_flop_per_s = device.peak_tflops * 1e12 * attained.prefill_attention
        self._attention_byte_per_s = device.bandwidth_gb_per_s * 1e9 * attained.decode_attention

    def matmul_time(self, operator: MatMul, tokens: Floats) -> Floats:
        """Seconds for each number of tokens: float64[n] -> float64[n]."""
        device = self._device
        compute_s = operator.flops(tokens) / (device.tflops(operator.compute_dtype) * 1e12 * device.attained.compute)
        return self._kernel_s + np.maximum(compute_s, operator.bytes_moved(tokens) / self._byte_per_s)

    def elementwise_time(self, operator: Elementwise, tokens: Floats) -> Floats:
        """Seconds for each number of tokens: float64[n] -> float64[n]."""
        return self._kernel_s + operator.bytes_moved(tokens) / self._byte_per_s

    def attention_times(self, attention: Attention) -> AttentionTimes:
        """Prepare attention of one shape."""
        return RooflineAttention(
            self._kernel_s,
            product_s=4.0 * attention.q_heads * attention.head_dim / self._attention_flop_per_s,
            cached_token_s=attention.kv_bytes_per_token / self._attention_byte_per_s,
        )


@dataclass(frozen=True)
class RooflineAttention:
    """Attention of one layer on a roofline.

    Attributes:
        kernel_s: Seconds of the shortest kernels.
        product_s: Seconds per pair of a query and a key, all heads together.
        cached_token_s: Seconds to read the keys and values of one token.
    """

    kernel_s: float
    product_s: float
    cached_token_s: float

    def prefill_time(self, chunk: int, context: int) -> float:
        """Seconds of a chunk: causal within the chunk, full over its context."""
        compute_s = self.product_s * chunk * (context + (chunk + 1) / 2)
        memory_s = self.cached_token_s * (context + chunk)
        return self.kernel_s + (compute_s if compute_s > memory_s else memory_s)

    def decode_time(self, num_decodes: int, context_tokens: int) -> float:
        """Seconds of decodes: memory-bound, every cached key and value is read once."""
        return self.kernel_s + self.cached_token_s * context_tokens

"""Roofline iteration time: each operator is bound by compute or by memory."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simulator.iteration_time.attention import AttentionTimes, RooflineAttention
from simulator.iteration_time.base import StageTimes
from simulator.iteration_time.composed import ComposedTimes
from simulator.iteration_time.kernels import Floats
from simulator.iteration_time.operators import Attention, Elementwise, Experts, MatMul, Operator
from simulator.iteration_time.provenance import Provenance
from simulator.model import Device, EngineOverhead, Layout
from traces.shared.warnings import Warning


@dataclass(frozen=True)
class Roofline:
    """Iteration time on a roofline, operator by operator.

    An operator takes the kernel overhead plus max(FLOPs / rate, bytes / bandwidth).

    Rates are the peaks times the share that kernels attain (`Device.attained`): a roofline through measured points,
    not a fit. It ignores tile and wave quantization.

    Source: Williams et al., CACM 2009; T = max(T_math, T_mem) as in arXiv:2403.02310, section 3.1.
    """

    def for_layout(self, layout: Layout, engine: EngineOverhead) -> StageTimes:
        """Return the stage times of one model on one layout."""
        return ComposedTimes(RooflineKernels(layout.device), layout, engine)


class RooflineKernels:
    """Kernel times of a device at its attained rates.

    Attributes:
        provenance: Source of the times.
        warnings: What was not measured.
    """

    def __init__(self, device: Device) -> None:
        attained = device.attained
        self.provenance = Provenance(f"roofline of {device.name}")
        self.warnings: list[Warning] = []
        self._kernel_s = attained.kernel_us * 1e-6
        self._device = device
        self._byte_per_s = device.bandwidth_gb_per_s * 1e9 * attained.bandwidth
        self._attention_flop_per_s = device.peak_tflops * 1e12 * attained.prefill_attention
        self._attention_byte_per_s = device.bandwidth_gb_per_s * 1e9 * attained.decode_attention

    def matmul_time(self, operator: MatMul | Experts, tokens: Floats) -> Floats:
        """Return the seconds for each number of tokens: float64[n] -> float64[n]."""
        device = self._device
        compute_s = operator.flops(tokens) / (device.tflops(operator.compute_dtype) * 1e12 * device.attained.compute)
        return self._kernel_s + np.maximum(compute_s, operator.bytes_moved(tokens) / self._byte_per_s)

    experts_time = matmul_time

    def elementwise_time(self, operator: Elementwise, tokens: Floats) -> Floats:
        """Return the seconds for each number of tokens: float64[n] -> float64[n]."""
        return self._kernel_s + operator.bytes_moved(tokens) / self._byte_per_s

    def warnings_for(self, layout: Layout, operators: Sequence[Operator]) -> Sequence[Warning]:
        """Return what was not measured of the device."""
        return self.warnings

    def attention_times(self, attention: Attention) -> AttentionTimes:
        """Return the attention times of one shape."""
        return RooflineAttention(
            self._kernel_s,
            product_s=4.0 * attention.q_heads * attention.head_dim / self._attention_flop_per_s,
            cached_token_s=attention.kv_bytes_per_token / self._attention_byte_per_s,
        )

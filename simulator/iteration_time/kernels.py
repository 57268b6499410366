"""What times the kernels of one GPU."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from simulator.iteration_time.operators import Attention, Elementwise, MatMul
from simulator.iteration_time.provenance import Provenance
from simulator.model import Device

Floats = NDArray[np.float64]


class AttentionTimes(Protocol):
    """Attention of one layer; looked up in every iteration."""

    def prefill_time(self, chunk: int, context: int) -> float:
        """Seconds of a prefill chunk with so many tokens before it in the KV cache."""
        ...

    def decode_time(self, num_decodes: int, context_tokens: int) -> float:
        """Seconds of at least one decode; `context_tokens` in the KV cache, summed over them."""
        ...


class UngroupedDecode:
    """Attention whose decodes read keys and values anew for each query head, mostly from the L2 cache.

    So do kernels that give each query head a block of its own, such as the PagedAttention of 2023. The first
    read is the one of grouped kernels, from HBM; that of all query heads goes through the L2 cache.
    """

    def __init__(self, grouped: AttentionTimes, attention: Attention, device: Device) -> None:
        group = attention.q_heads / attention.kv_heads
        self._reread_s = group * attention.kv_bytes_per_token / (device.attained.l2_gb_per_s * 1e9)
        self._grouped_decode_time = grouped.decode_time
        self.prefill_time = grouped.prefill_time

    def decode_time(self, num_decodes: int, context_tokens: int) -> float:
        """Seconds of at least one decode; `context_tokens` in the KV cache, summed over them."""
        grouped_s = self._grouped_decode_time(num_decodes, context_tokens)
        reread_s = self._reread_s * context_tokens
        return grouped_s if grouped_s > reread_s else reread_s


class Kernels(Protocol):
    """Kernel times of one GPU."""

    provenance: Provenance

    def matmul_time(self, operator: MatMul, tokens: Floats) -> Floats:
        """Seconds for each number of tokens: float64[n] -> float64[n]."""
        ...

    def elementwise_time(self, operator: Elementwise, tokens: Floats) -> Floats:
        """Seconds for each number of tokens: float64[n] -> float64[n]."""
        ...

    def attention_times(self, attention: Attention) -> AttentionTimes:
        """Prepare attention of one shape."""
        ...

"""Protocols of kernel times on one GPU."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from simulator.iteration_time.operators import Attention, Elementwise, Experts, MatMul, Operator
from simulator.iteration_time.provenance import Provenance
from simulator.model import Device, Layout
from simulator.replica import PrefillChunk
from traces.shared.warnings import Warning

Floats = NDArray[np.float64]


class AttentionTimes(Protocol):
    """Attention times of one layer, looked up in every iteration."""

    @property
    def compute_dtype(self) -> str:
        """Number format of the multiplications, if the device supports it."""
        ...

    def prefill_times(self, chunks: Sequence[PrefillChunk], *, beside_decodes: bool) -> Sequence[float]:
        """Return the seconds of each kernel for prefill chunks over contexts.

        `beside_decodes`: the batch has decodes too, with which one kernel may share its launch.
        """
        ...

    def decode_time(self, num_decodes: int, context_tokens: int) -> float:
        """Return the time of decodes in seconds.

        `num_decodes` is at least 1; `context_tokens` is summed over the decodes.
        """
        ...


class UngroupedDecode:
    """Attention whose decodes read keys and values once per query head.

    The reads are mostly from the L2 cache. Kernels with one thread block per query head do so, such as the
    PagedAttention kernel of 2023. Decodes take the longer of the HBM reads of a grouped kernel and the L2 reads of all
    query heads.
    """

    def __init__(self, grouped: AttentionTimes, attention: Attention, device: Device) -> None:
        group = attention.q_heads / attention.kv_heads
        self._reread_s = group * attention.kv_bytes_per_token / (device.attained.l2_gb_per_s * 1e9)
        self._grouped_decode_time = grouped.decode_time
        self.prefill_times = grouped.prefill_times
        self.compute_dtype = grouped.compute_dtype

    def decode_time(self, num_decodes: int, context_tokens: int) -> float:
        """Return the time of decodes in seconds, see `AttentionTimes`."""
        grouped_s = self._grouped_decode_time(num_decodes, context_tokens)
        reread_s = self._reread_s * context_tokens
        return grouped_s if grouped_s > reread_s else reread_s


class Kernels(Protocol):
    """Kernel times of one GPU.

    Attributes:
        provenance: Source and extent of the times.
    """

    provenance: Provenance

    def matmul_time(self, operator: MatMul, tokens: Floats) -> Floats:
        """Return the seconds for each number of tokens: float64[n] -> float64[n]."""
        ...

    def elementwise_time(self, operator: Elementwise, tokens: Floats) -> Floats:
        """Return the seconds for each number of tokens: float64[n] -> float64[n]."""
        ...

    def experts_time(self, operator: Experts, tokens: Floats) -> Floats:
        """Return the seconds for each number of tokens: float64[n] -> float64[n]."""
        ...

    def attention_times(self, attention: Attention) -> AttentionTimes:
        """Return the attention times of one shape."""
        ...

    def warnings_for(self, layout: Layout, operators: Sequence[Operator]) -> Sequence[Warning]:
        """Return a warning for each unmeasured part of a layout.

        `operators` are those besides attention.
        """
        ...

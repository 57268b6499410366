"""What times the kernels of one GPU."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from simulator.iteration_time.base import Provenance
from simulator.iteration_time.operators import Attention, Elementwise, MatMul

Floats = NDArray[np.float64]


class AttentionTimes(Protocol):
    """Attention of one layer; looked up in every iteration."""

    def prefill_time(self, chunk: int, context: int) -> float:
        """Seconds of a prefill chunk with so many tokens before it in the KV cache."""
        ...

    def decode_time(self, num_decodes: int, context_tokens: int) -> float:
        """Seconds of at least one decode; `context_tokens` in the KV cache, summed over them."""
        ...


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

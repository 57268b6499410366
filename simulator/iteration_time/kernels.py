"""Protocols of kernel times on one GPU."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from simulator.iteration_time.attention import AttentionTimes
from simulator.iteration_time.operators import Attention, Elementwise, Experts, MatMul, Operator
from simulator.iteration_time.provenance import Provenance
from simulator.model import Layout
from traces.shared.warnings import Warning

Floats = NDArray[np.float64]


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

"""Physics-based inputs of the GEMM and elementwise regressions: terms and features.

Terms are seconds at the peaks, which a regression weights. Features describe how well a launch fills the GPU:
tiles, waves over the SMs, arithmetic intensity. All are arrays over n cases.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from simulator.iteration_time.kernels import Floats
from simulator.iteration_time.operators import Elementwise, MatMul

# Output tiles of the cuBLAS and CUTLASS kernels of these generations: rows (tokens), columns.
TILES = (
    (256, 128),
    (128, 256),
    (128, 128),
    (64, 256),
    (256, 64),
    (64, 128),
    (128, 64),
    (64, 64),
    (32, 128),
    (16, 128),
)
# Matrix instructions take at least 8 tokens; fewer are padded, so times change every 8 tokens.
TOKEN_GRAIN = 8
# Share of the HBM bandwidth in elementwise operators that exceed the L2 cache: the mean of activation (0.58) and
# residual add (0.96) on H100 in the tables published with Vidur.
ELEMENTWISE_BANDWIDTH = 0.77
# More waves than these no longer change how well the GPU is filled.
MOST_WAVES = 50.0


@dataclass(frozen=True)
class Gpu:
    """Peaks of a GPU, from its datasheet.

    Attributes:
        num_sms: Streaming multiprocessors.
        peak_tflops: Dense half-precision matrix rate, 10^12 FLOP/s.
        bandwidth_gb_per_s: HBM bandwidth, 10^9 byte/s.
        format_tflops: Matrix rate of the formats that are multiplied faster than half precision.
        l2_mb: L2 cache, 10^6 byte; None: unknown.
    """

    num_sms: int
    peak_tflops: float
    bandwidth_gb_per_s: float
    format_tflops: Mapping[str, float] = field(default_factory=dict)
    l2_mb: float | None = None

    def compute_s(self, flops: Floats, dtype: str = "bf16") -> Floats:
        """Return the seconds at the peak FLOP rate of a format."""
        return flops / (self.format_tflops.get(dtype, self.peak_tflops) * 1e12)

    def memory_s(self, num_bytes: Floats) -> Floats:
        """Return the seconds at the peak memory bandwidth."""
        return num_bytes / (self.bandwidth_gb_per_s * 1e9)


def padded(tokens: Floats) -> Floats:
    """Return the tokens rounded up to what kernels compute.

    That is 1, 2, 4 or a multiple of 8.
    """
    small = 2.0 ** np.ceil(np.log2(np.maximum(tokens, 1.0)))
    return np.where(tokens <= TOKEN_GRAIN, small, np.ceil(tokens / TOKEN_GRAIN) * TOKEN_GRAIN)


def matmul_terms(gpu: Gpu, operator: MatMul, tokens: Floats) -> Floats:
    """Return the launch and roofline terms: float64[n, 2]."""
    tokens = padded(tokens)
    compute_s = gpu.compute_s(operator.flops(tokens), operator.compute_dtype)
    memory_s = gpu.memory_s(operator.bytes_moved(tokens))
    return np.column_stack([np.ones(len(tokens)), np.maximum(compute_s, memory_s)])


def matmul_features(gpu: Gpu, operator: MatMul, tokens: Floats) -> Floats:
    """Return the features of matmuls: float64[n, num_features].

    Shape, arithmetic intensity, fill and number of waves for each tile, numbers of row tiles, remainder of n over 128.
    """
    m, k, n = padded(tokens), float(operator.k), float(operator.n)
    columns = [
        np.log2(m),
        np.full(len(m), np.log2(k)),
        np.full(len(m), np.log2(n)),
        np.log2(gpu.compute_s(operator.flops(m), operator.compute_dtype) / gpu.memory_s(operator.bytes_moved(m))),
    ]
    for rows, width in TILES:
        tiles = np.ceil(m / rows) * np.ceil(n / width)
        waves = tiles / gpu.num_sms
        filled = (m / rows) * (n / width) / tiles
        columns += [filled * waves / np.ceil(waves), np.minimum(waves, MOST_WAVES)]
    columns += [np.ceil(m / rows) for rows in (64, 128, 256)]
    columns += [np.full(len(m), n / 128 % 1)]
    return np.column_stack(columns)


def elementwise_terms(gpu: Gpu, operator: Elementwise, tokens: Floats) -> Floats:
    """Return the launch and memory terms: float64[n, 2]."""
    return np.column_stack([np.ones(len(tokens)), gpu.memory_s(operator.bytes_moved(tokens))])


def least_elementwise_time(gpu: Gpu, operator: Elementwise, tokens: Floats) -> Floats:
    """Return the seconds to move what the L2 cache cannot hold.

    float64[n]; 0 if the size of the cache is unknown.
    """
    if gpu.l2_mb is None:
        return np.zeros(len(tokens))
    beyond = np.maximum(operator.bytes_moved(tokens) - gpu.l2_mb * 1e6, 0.0)
    return gpu.memory_s(beyond) / ELEMENTWISE_BANDWIDTH


def elementwise_features(operator: Elementwise, tokens: Floats) -> Floats:
    """Return the features that decide what stays in the caches.

    float64[n, 4]: log2 of tokens, width and bytes moved, then the tensor-parallel degree.
    """
    num_bytes, ones = operator.bytes_moved(tokens), np.ones(len(tokens))
    return np.column_stack([np.log2(tokens), np.log2(operator.width) * ones, np.log2(num_bytes), operator.tp * ones])

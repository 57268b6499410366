"""Physics-based inputs of the kernel regressions: terms and features.

Terms are seconds at the peaks, which a regression weights. Features describe how well a launch fills the GPU:
tiles, waves over the SMs, arithmetic intensity. All are arrays over n cases.
"""

from dataclasses import dataclass

import numpy as np

from simulator.iteration_time.kernels import Floats
from simulator.iteration_time.operators import Attention, Elementwise, MatMul

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
QUERY_TILES = (64, 128)
# More waves than these no longer change how well the GPU is filled.
MOST_WAVES = 50.0
MOST_ATTENTION_WAVES = 20.0


@dataclass(frozen=True)
class Gpu:
    """Peaks of a GPU, from its datasheet.

    Attributes:
        num_sms: Streaming multiprocessors.
        peak_tflops: Dense half-precision matrix rate, 10^12 FLOP/s.
        bandwidth_gb_per_s: HBM bandwidth, 10^9 byte/s.
    """

    num_sms: int
    peak_tflops: float
    bandwidth_gb_per_s: float

    def compute_s(self, flops: Floats) -> Floats:
        """Return the seconds at the peak FLOP rate."""
        return flops / (self.peak_tflops * 1e12)

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
    compute_s, memory_s = gpu.compute_s(operator.flops(tokens)), gpu.memory_s(operator.bytes_moved(tokens))
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
        np.log2(gpu.compute_s(operator.flops(m)) / gpu.memory_s(operator.bytes_moved(m))),
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


def elementwise_features(operator: Elementwise, tokens: Floats) -> Floats:
    """Return the features that decide what stays in the caches.

    float64[n, 4]: log2 of tokens, width and bytes moved, then the tensor-parallel degree.
    """
    num_bytes, ones = operator.bytes_moved(tokens), np.ones(len(tokens))
    return np.column_stack([np.log2(tokens), np.log2(operator.width) * ones, np.log2(num_bytes), operator.tp * ones])


def prefill_terms(gpu: Gpu, attention: Attention, chunk: Floats, context: Floats) -> Floats:
    """Return the terms of prefill attention: float64[n, 6].

    Launch, queries and output, FLOPs within the chunk, FLOPs over the context, keys and values, and one query tile
    against all keys on one SM, a lower bound for kernels that do not split over keys.
    """
    heads = attention.q_heads * attention.head_dim
    total = context + chunk
    return np.column_stack(
        [
            np.ones(len(chunk)),
            gpu.memory_s(8.0 * heads * chunk),
            gpu.compute_s(2.0 * heads * chunk * chunk),
            gpu.compute_s(4.0 * heads * chunk * context),
            gpu.memory_s(attention.kv_bytes_per_token * total),
            gpu.compute_s(4.0 * attention.head_dim * QUERY_TILES[1] * gpu.num_sms * total),
        ]
    )


def prefill_features(gpu: Gpu, attention: Attention, chunk: Floats, context: Floats) -> Floats:
    """Return the features of prefill attention: float64[n, 9].

    Chunk and total length, share of the context, context, GQA group size, waves and their fill for each query tile.
    """
    total = context + chunk
    group = attention.q_heads / attention.kv_heads
    columns = [np.log2(chunk), np.log2(total), context / total, context, np.full(len(chunk), np.log2(group))]
    for rows in QUERY_TILES:
        waves = np.ceil(chunk / rows) * attention.q_heads / gpu.num_sms
        columns += [np.minimum(waves, MOST_ATTENTION_WAVES), waves / np.ceil(waves)]
    return np.column_stack(columns)


def decode_terms(gpu: Gpu, attention: Attention, num_decodes: Floats, context: Floats) -> Floats:
    """Return the terms of decode attention: float64[n, 4].

    Launch, KV bytes, KV bytes rounded up to full waves, queries and output. A thread block handles one KV head of one
    sequence and an SM runs two blocks at a time, so time follows num_decodes x kv_heads rounded up to waves. `context`
    is the mean per decode.
    """
    per_head = attention.kv_bytes_per_token / attention.kv_heads * context
    blocks = num_decodes * attention.kv_heads
    wave = 2 * gpu.num_sms
    return np.column_stack(
        [
            np.ones(len(context)),
            gpu.memory_s(per_head * blocks),
            gpu.memory_s(per_head * np.ceil(blocks / wave) * wave),
            gpu.memory_s(8.0 * attention.q_heads * attention.head_dim * num_decodes),
        ]
    )


def decode_features(gpu: Gpu, attention: Attention, num_decodes: Floats, context: Floats) -> Floats:
    """Return the features of decode attention: float64[n, 4].

    Context, thread blocks per SM, and the fill of waves of one and of two blocks per SM.
    """
    per_sm = num_decodes * attention.kv_heads / gpu.num_sms
    columns = [np.log2(context), np.log2(per_sm)]
    for per_wave in (1, 2):
        waves = per_sm / per_wave
        columns.append(waves / np.ceil(waves))
    return np.column_stack(columns)

"""Inputs of the attention regressions: terms and features.

Terms and features are those of `physics`. All are arrays over n cases: of a prefill chunk or prompts, `tokens` of each
sequence and its `context` before them; of decodes, their number and the mean `context` of each.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from simulator.iteration_time.kernels import Floats
from simulator.iteration_time.operators import Attention
from simulator.iteration_time.physics import Gpu

QUERY_TILES = (64, 128)
# More waves than these no longer change how well the GPU is filled.
MOST_WAVES = 20.0


@dataclass(frozen=True)
class AttentionCases:
    """Cases of one attention shape.

    Attributes:
        attention: Shape of the attention.
        num_seqs: Sequences that are computed together, float64[n].
        tokens: New tokens of each sequence, float64[n]; 1 for decodes.
        context: Cached tokens of each sequence before them, float64[n].
    """

    attention: Attention
    num_seqs: Floats
    tokens: Floats
    context: Floats


Design = Callable[[Gpu, AttentionCases], tuple[Floats, Floats]]


def chunk_inputs(gpu: Gpu, cases: AttentionCases) -> tuple[Floats, Floats]:
    """Return the inputs of prefill chunks: float64[n, 6], float64[n, 9].

    Terms: launch, queries and output, FLOPs within the chunk, FLOPs over the context, keys and values, and one query
    tile against all keys on one SM, a lower bound for kernels that do not split over keys. Features: chunk and total
    length, share of the context, context, group size, waves and their fill for each query tile.
    """
    attention, chunk, context = cases.attention, cases.tokens, cases.context
    heads, total, ones = attention.q_heads * attention.head_dim, context + chunk, np.ones(len(chunk))
    terms = [
        ones,
        gpu.memory_s(8.0 * heads * chunk),
        gpu.compute_s(2.0 * heads * chunk * chunk),
        gpu.compute_s(4.0 * heads * chunk * context),
        gpu.memory_s(attention.kv_bytes_per_token * total),
        gpu.compute_s(4.0 * attention.head_dim * QUERY_TILES[1] * gpu.num_sms * total),
    ]
    group = attention.q_heads / attention.kv_heads
    features = [np.log2(chunk), np.log2(total), context / total, context, ones * np.log2(group)]
    for rows in QUERY_TILES:
        waves = np.ceil(chunk / rows) * attention.q_heads / gpu.num_sms
        features += [np.minimum(waves, MOST_WAVES), waves / np.ceil(waves)]
    return np.column_stack(terms), np.column_stack(features)


def block_inputs(gpu: Gpu, cases: AttentionCases) -> tuple[Floats, Floats]:
    """Return the inputs of decodes: float64[n, 4], float64[n, 4].

    A thread block handles one KV head of one sequence and an SM runs two blocks at a time. Terms: launch, KV bytes, KV
    bytes rounded up to full waves, queries and output. Features: context, thread blocks per SM, and the fill of waves
    of one and of two blocks per SM.
    """
    attention, num_decodes, context = cases.attention, cases.num_seqs, cases.context
    per_head = attention.kv_bytes_per_token / attention.kv_heads * context
    blocks = num_decodes * attention.kv_heads
    wave = 2 * gpu.num_sms
    terms = [
        np.ones(len(context)),
        gpu.memory_s(per_head * blocks),
        gpu.memory_s(per_head * np.ceil(blocks / wave) * wave),
        gpu.memory_s(8.0 * attention.q_heads * attention.head_dim * num_decodes),
    ]
    per_sm = blocks / gpu.num_sms
    features = [np.log2(context), np.log2(per_sm)]
    for per_wave in (1, 2):
        waves = per_sm / per_wave
        features.append(waves / np.ceil(waves))
    return np.column_stack(terms), np.column_stack(features)


def pooled_inputs(gpu: Gpu, cases: AttentionCases) -> tuple[Floats, Floats]:
    """Return the inputs of any sequences: float64[n, 6], float64[n, 13].

    A query meets `context + tokens / 2` keys on average, so a chunk on a long context is like prompts of twice that
    length. Terms: launch, queries and output, FLOPs, FLOPs rounded up to whole waves of query tiles, keys and values,
    keys and values rounded up to whole waves of thread blocks. Features: keys per query, tokens, sequences, the shape,
    FLOPs, KV bytes, waves and their fill.
    """
    attention, seqs, tokens, context = cases.attention, cases.num_seqs, cases.tokens, cases.context
    keys = context + (tokens + 1) / 2
    width, ones = attention.q_heads * attention.head_dim, np.ones(len(tokens))
    tiles = {rows: np.ceil(tokens / rows) * seqs * attention.q_heads / gpu.num_sms for rows in QUERY_TILES}
    blocks = seqs * attention.kv_heads / gpu.num_sms
    kv_bytes = attention.kv_bytes_per_token * seqs * (context + tokens)
    rows = QUERY_TILES[1]
    compute_s = gpu.compute_s(4.0 * width * seqs * tokens * keys)
    terms = [
        ones,
        gpu.memory_s(8.0 * width * seqs * tokens),
        compute_s,
        gpu.compute_s(4.0 * attention.head_dim * rows * keys * np.ceil(tiles[rows]) * gpu.num_sms),
        gpu.memory_s(kv_bytes),
        gpu.memory_s(kv_bytes / blocks * np.ceil(blocks / 2) * 2),
    ]
    shape = (attention.q_heads, attention.kv_heads, attention.head_dim, attention.q_heads / attention.kv_heads)
    features = [np.log2(keys), np.log2(seqs * tokens), np.log2(seqs), *(ones * np.log2(size) for size in shape)]
    features += [np.log2(compute_s), np.log2(kv_bytes)]
    for waves in (tiles[rows], blocks):
        features += [np.log2(waves), waves / np.ceil(waves)]
    return np.column_stack(terms), np.column_stack(features)


# By the name that a profile states.
DESIGNS: dict[str, Design] = {"chunk": chunk_inputs, "blocks": block_inputs, "pooled": pooled_inputs}
NUM_TERMS = {"chunk": 6, "blocks": 4, "pooled": 6}

"""Operators of a model as kernels to time.

They are the serving engine's functions on random tensors.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np

from profiling.measure.cases import BF16, FP8, Case
from profiling.measure.timing import Build, Kernel
from profiling.serving.attention import AttentionShape, PagedAttention, Span
from profiling.serving.operators import Operators
from simulator.iteration_time import attention_of
from simulator.model import Model

BYTES_PER_VALUE = 2
BYTES_PER_WEIGHT = {BF16: 2, FP8: 1}
# What requests ask the sampler for.
TOP_K, TOP_P = 50, 0.9
# Tokens per KV block; blocks are scattered over the cache.
BLOCK_SIZE = 16
# Distinct random values; larger tensors repeat them.
NUM_DRAWN = 1 << 20


@dataclass(frozen=True)
class Prepared:
    """An operator that is ready to be timed.

    Attributes:
        build: Makes the kernel on a further copy of its cold buffers: weights, keys and values. Kernels share their
            activations, which an engine has just written and finds warm.
        cold_bytes: Bytes of one copy.
        num_bytes: Bytes of one copy and of the activations.
        kernel_library: Name and version of the library that computes it.
    """

    build: Build
    cold_bytes: int
    num_bytes: int
    kernel_library: str


class TorchKernels:
    """Kernels of the operators of a model.

    All inputs are random: zeros would switch fewer transistors and run at higher clocks.
    """

    def __init__(
        self,
        model: Model,
        operators: Operators,
        device: str,
        new_attention: Callable[[AttentionShape], PagedAttention],
    ) -> None:
        """Draw the random values.

        Args:
            model: The model.
            operators: Operators of a layer.
            device: "cuda" or "cpu".
            new_attention: Makes the attention of a shape.
        """
        self._model = model
        self._operators = operators
        self._torch = operators.torch
        self._device = device
        self._new_attention = new_attention
        self._attentions: dict[AttentionShape, PagedAttention] = {}
        self._weights: list[tuple[Any, ...]] = []
        self._weight_key: tuple[Any, ...] = ()
        self._generator = self._torch.Generator(device=device).manual_seed(0)
        self._drawn = self._torch.randn(NUM_DRAWN, device=device, dtype=self._torch.bfloat16, generator=self._generator)

    def prepare(self, case: Case) -> Prepared:
        """Prepare the operator of a case."""
        if case.family in ("attention", "mixed_attention"):
            return self._attention(case)
        if case.family == "matmul":
            return self._matmul(case)
        make: Callable[[Case], Kernel] = getattr(self, f"_{case.operator}")
        kernel = make(case)
        num_bytes = case["width"] * case["num_tokens"] * BYTES_PER_VALUE
        return Prepared(lambda: kernel, 0, num_bytes, self._operators.kernel_library)

    def _random(self, *shape: int) -> Any:
        """Return a new tensor of repeated random values.

        Drawing them all takes a CPU longer than computing with them.
        """
        count = math.prod(shape)
        return self._drawn.repeat(-(-count // NUM_DRAWN))[:count].reshape(shape).clone()

    def _full(self, count: int, value: float, dtype: Any) -> Any:
        return self._torch.full((count,), value, dtype=dtype, device=self._device)

    def _indices(self, below: int, count: int) -> Any:
        return self._torch.randint(0, below, (count,), device=self._device, generator=self._generator)

    # --- layers ------------------------------------------------------------------------------------------

    def _matmul(self, case: Case) -> Prepared:
        """Prepare a product; in fp8, the activations are quantized in each run."""
        tokens, k, n, dtype = (case[name] for name in ("num_tokens", "k", "n", "dtype"))
        x, copies, library = self._random(tokens, k), count(), self._operators.kernel_library
        linear: Callable[..., object] = self._operators.linear
        if dtype == FP8:
            linear, library = self._operators.linear_fp8, f"{library}, scaled_mm with quantization"

        def build() -> Kernel:
            weight = self._weight(n, k, dtype, next(copies))
            return lambda: linear(x, *weight)

        cold_bytes = k * n * BYTES_PER_WEIGHT[dtype]
        return Prepared(build, cold_bytes, cold_bytes + tokens * (k + n) * BYTES_PER_VALUE, library)

    def _weight(self, n: int, k: int, dtype: str, copy: int) -> tuple[Any, ...]:
        """Return a weight, in fp8 with its scale.

        Copies of the last shape are kept: the next case often needs them.
        """
        if self._weight_key != (n, k, dtype):
            self._weights, self._weight_key = [], (n, k, dtype)
        while len(self._weights) <= copy:
            weight = self._random(n, k)
            self._weights.append(self._operators.quantize(weight) if dtype == FP8 else (weight,))
        return self._weights[copy]

    def _input_norm(self, case: Case) -> Kernel:
        hidden = self._model.hidden_size
        x, weight = self._random(case["num_tokens"], hidden), self._random(hidden)
        return lambda: self._operators.rms_norm(x, weight)

    _post_attention_norm = _input_norm

    def _add_norm(self, case: Case) -> Kernel:
        tokens, hidden = case["num_tokens"], self._model.hidden_size
        x, residual, weight = self._random(tokens, hidden), self._random(tokens, hidden), self._random(hidden)
        return lambda: self._operators.add_rms_norm(x, residual, weight)

    def _final_norm(self, case: Case) -> Kernel:
        """Make the norm of the last token of each sequence."""
        hidden, count = self._model.hidden_size, case["num_tokens"]
        x, weight, last = self._random(count, hidden), self._random(hidden), self._torch.arange(count)
        last = last.to(self._device)
        return lambda: self._operators.rms_norm(x[last], weight)

    def _heads(self, case: Case) -> tuple[Any, AttentionShape]:
        """Return new queries, keys and values in the QKV projection's layout.

        Returns:
            (tokens, heads, head_dim), and the shape of the attention.
        """
        shape = self._shape(case["tp"])
        heads = shape.q_heads + 2 * shape.kv_heads
        return self._random(case["num_tokens"], heads * shape.head_dim).unflatten(1, (heads, shape.head_dim)), shape

    def _rope(self, case: Case) -> Kernel:
        qkv, shape = self._heads(case)
        longest = self._model.max_model_len
        table = self._operators.rotation_table(longest, shape.head_dim, self._device)
        positions = self._indices(longest, case["num_tokens"])
        return lambda: self._operators.rotate(qkv[:, : -shape.kv_heads], shape.q_heads, positions, table)

    def _kv_write(self, case: Case) -> Kernel:
        qkv, shape = self._heads(case)
        tokens, heads = case["num_tokens"], shape.kv_heads
        num_blocks = -(-4 * tokens // BLOCK_SIZE)
        cache = self._cache(num_blocks, shape)
        slots = self._torch.randperm(num_blocks * BLOCK_SIZE, device=self._device)[:tokens]
        keys, values = qkv[:, -2 * heads : -heads], qkv[:, -heads:]
        return lambda: self._operators.write_cache(cache, keys, values, slots)

    def _activation(self, case: Case) -> Kernel:
        gated = self._model.gated_mlp
        ffn = case["width"] // (3 if gated else 2)
        x = self._random(case["num_tokens"], 2 * ffn if gated else ffn)
        return lambda: self._operators.activate(x, gated)

    def _residual_add(self, case: Case) -> Kernel:
        hidden = self._model.hidden_size
        x, residual = self._random(case["num_tokens"], hidden), self._random(case["num_tokens"], hidden)
        return lambda: self._operators.add(x, residual)

    def _embedding(self, case: Case) -> Kernel:
        rows = self._model.vocab_size
        table, tokens = self._random(rows, self._model.hidden_size), self._indices(rows, case["num_tokens"])
        return lambda: self._operators.embed(tokens, table)

    def _sampling(self, case: Case) -> Kernel:
        logits = self._random(case["num_tokens"], self._model.vocab_size)
        return lambda: self._operators.sample(logits)

    def _top_k_top_p(self, case: Case) -> Kernel:
        sequences, vocabulary = case["num_tokens"], self._model.vocab_size
        logits = self._random(sequences, vocabulary)
        top_k = self._full(sequences, min(TOP_K, vocabulary), self._torch.int32)
        top_p = self._full(sequences, TOP_P, self._torch.float32)
        return lambda: self._operators.sample_top_k_top_p(logits, top_k, top_p)

    # --- attention ---------------------------------------------------------------------------------------

    def _shape(self, tp: int) -> AttentionShape:
        attention = attention_of(self._model, tp)
        return AttentionShape(attention.q_heads, attention.kv_heads, attention.head_dim, BLOCK_SIZE)

    def _cache(self, num_blocks: int, shape: AttentionShape) -> tuple[Any, Any]:
        sizes = num_blocks, BLOCK_SIZE, shape.kv_heads, shape.head_dim
        return self._random(*sizes), self._random(*sizes)

    def _attention(self, case: Case) -> Prepared:
        """Prepare a prefill chunk, decodes or both over scattered KV blocks."""
        shape = AttentionShape(case["q_heads"], case["kv_heads"], case["head_dim"], BLOCK_SIZE)
        chunks, decodes = _spans(case)
        if shape not in self._attentions:
            self._attentions[shape] = self._new_attention(shape)
        attention = self._attentions[shape]
        attention.plan(chunks, decodes)
        tokens = sum(span.num_tokens for span in (*chunks, *decodes))
        num_blocks = sum(len(span.blocks) for span in (*chunks, *decodes))
        q = self._random(tokens, shape.q_heads, shape.head_dim)

        def build() -> Kernel:
            cache = self._cache(num_blocks, shape)
            return lambda: attention.run(q, cache)

        cold_bytes = num_blocks * BLOCK_SIZE * 2 * shape.kv_heads * shape.head_dim * BYTES_PER_VALUE
        num_bytes = cold_bytes + 2 * tokens * shape.q_heads * shape.head_dim * BYTES_PER_VALUE
        return Prepared(build, cold_bytes, num_bytes, attention.kernel_library)


def _spans(case: Case) -> tuple[list[Span], list[Span]]:
    """Return prefill chunks and decodes of a case.

    Their blocks are scattered over the cache, which has no others.
    """
    chunks, decodes = _sizes(case)
    counts = [-(-(new + context) // BLOCK_SIZE) for new, context in (*chunks, *decodes)]
    scattered = np.random.default_rng(0).permutation(sum(counts)).astype(np.int32)
    blocks = np.split(scattered, np.cumsum(counts)[:-1])
    spans = [Span(part, new, context) for part, (new, context) in zip(blocks, (*chunks, *decodes), strict=True)]
    return spans[: len(chunks)], spans[len(chunks) :]


def _sizes(case: Case) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Return (new tokens, context) of each prefill chunk, and of each decode."""
    chunk = case["num_tokens"], case["context"]
    if case.family == "mixed_attention":
        return [chunk], [(1, case["decode_context"])] * case["num_decodes"]
    if case.operator == "decode_attention":
        return [], [(1, case["context"])] * case["batch"]
    return [chunk] * case["batch"], []

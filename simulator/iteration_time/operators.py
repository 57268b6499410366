"""Operators of a transformer on one GPU: shapes, FLOPs and bytes moved."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from simulator.model import HALF_BYTES, Model, bytes_per_value

Amount = TypeVar("Amount", float, NDArray[np.float64])


@dataclass(frozen=True)
class MatMul:
    """Projection (tokens, k) x (k, n), or one such projection per expert.

    Attributes:
        name: Name of the operator.
        k: Input width on one GPU.
        n: Output width on one GPU.
        dtype: Number format of the weights. Input and output have half precision.
        weight_only: Whether the weights are dequantized and multiplied in half precision.
        num_experts: Experts among which tokens are routed.
        experts_per_token: Experts that each token is routed to.
    """

    name: str
    k: int
    n: int
    dtype: str = field(default="bf16", kw_only=True)
    weight_only: bool = field(default=False, kw_only=True)
    num_experts: int = field(default=1, kw_only=True)
    experts_per_token: int = field(default=1, kw_only=True)

    @property
    def compute_dtype(self) -> str:
        """Number format of the multiplications, if the device supports it."""
        return "bf16" if self.weight_only else self.dtype

    def flops(self, tokens: Amount) -> Amount:
        """Return the FLOPs for a number of tokens."""
        return 2 * self.k * self.n * self.experts_per_token * tokens

    def bytes_moved(self, tokens: Amount) -> Amount:
        """Return the bytes of weights, input and output, each moved once.

        Of the experts, the expected number that random routing selects counts.
        """
        weights: Any = self.k * self.n * bytes_per_value(self.dtype)
        if self.num_experts > 1:
            missed = (1 - self.experts_per_token / self.num_experts) ** tokens
            weights = weights * self.num_experts * (1 - missed)
        total: Amount = weights + HALF_BYTES * (self.k + self.n) * self.experts_per_token * tokens
        return total


@dataclass(frozen=True)
class Elementwise:
    """A memory-bound operator that reads and writes values and hardly computes.

    Attributes:
        name: Name of the operator.
        width: Values read and written per token on one GPU.
        tp: Tensor-parallel degree: the smaller a GPU's shard of the weights, the more of the values stay in its
            caches.
    """

    name: str
    width: int
    tp: int

    def flops(self, tokens: Amount) -> Amount:
        """Return one FLOP per value, for the roofline of a batch."""
        return self.width * tokens

    def bytes_moved(self, tokens: Amount) -> Amount:
        """Return the bytes read and written."""
        return HALF_BYTES * self.width * tokens


Operator = MatMul | Elementwise


@dataclass(frozen=True)
class Attention:
    """Attention over a paged KV cache in one layer.

    Attributes:
        q_heads: Query heads on one GPU.
        kv_heads: KV heads on one GPU.
        head_dim: Width of a head.
        kv_dtype: Number format of the KV cache.
    """

    q_heads: int
    kv_heads: int
    head_dim: int
    kv_dtype: str = field(default="fp16", kw_only=True)

    @property
    def kv_bytes_per_token(self) -> float:
        """KV-cache bytes of one token."""
        return 2 * self.kv_heads * self.head_dim * bytes_per_value(self.kv_dtype)

    def prefill_flops(self, chunk: int, context: int) -> int:
        """Return the FLOPs of a prefill chunk.

        Attention is full over its context and causal within the chunk.
        """
        return 2 * self.q_heads * self.head_dim * chunk * (2 * context + chunk + 1)

    def prefill_bytes(self, chunk: int, context: int) -> float:
        """Return the bytes of keys, values, queries and output, each moved once."""
        query_bytes = 2 * self.q_heads * self.head_dim * HALF_BYTES
        return self.kv_bytes_per_token * (context + chunk) + query_bytes * chunk

    def decode_flops(self, context_tokens: int) -> int:
        """Return the FLOPs of decodes; `context_tokens` is summed over them."""
        return 4 * self.q_heads * self.head_dim * context_tokens

    def decode_bytes(self, context_tokens: int) -> float:
        """Return the bytes of the cached keys and values."""
        return self.kv_bytes_per_token * context_tokens


def attention_of(model: Model, tp: int, kv_dtype: str = "fp16") -> Attention:
    """Return the attention shape of a model on one GPU."""
    return Attention(model.num_q_heads // tp, model.kv_heads_per_gpu(tp), model.head_dim, kv_dtype=kv_dtype)


def layer_operators(model: Model, tp: int) -> tuple[Sequence[Operator], Sequence[Operator]]:
    """Return the operators of one layer before and after attention.

    In order, without collectives.
    """
    attention = attention_of(model, tp)
    q_width = attention.q_heads * attention.head_dim
    kv_width = 2 * attention.kv_heads * attention.head_dim
    ffn = -(-model.ffn_size // tp)
    gates = 2 if model.gated_mlp else 1
    hidden = model.hidden_size
    matmul = partial(MatMul, dtype=model.dtype, weight_only=model.weight_only)
    mlp = partial(matmul, num_experts=model.num_experts, experts_per_token=model.experts_per_token)
    before = (
        Elementwise("input_norm", 2 * hidden, tp),
        matmul("qkv_proj", hidden, q_width + kv_width),
        Elementwise("rope", 2 * q_width + kv_width, tp),
        Elementwise("kv_write", 2 * kv_width, tp),
    )
    after: tuple[Operator, ...] = (
        matmul("o_proj", q_width, hidden),
        Elementwise("residual_add", 3 * hidden, tp),
        Elementwise("post_attention_norm", 2 * hidden, tp),
        *([MatMul("router", hidden, model.num_experts)] if model.num_experts > 1 else []),
        mlp("gate_up_proj" if model.gated_mlp else "up_proj", hidden, gates * ffn),
        Elementwise("activation", (gates + 1) * ffn * model.experts_per_token, tp),
        mlp("down_proj", ffn, hidden),
        Elementwise("residual_add", 3 * hidden, tp),
    )
    return before, after


def embedding(model: Model, tp: int) -> Elementwise:
    """Return the input embedding, which copies one table row per token."""
    return Elementwise("embedding", 2 * model.hidden_size, tp)


def head_operators(model: Model, tp: int) -> Sequence[Operator]:
    """Return the operators after the last layer.

    They run on one row per sequence.
    """
    vocab = -(-model.vocab_size // tp)
    return (
        Elementwise("final_norm", 2 * model.hidden_size, tp),
        MatMul("lm_head", model.hidden_size, vocab),
        Elementwise("sampling", model.vocab_size, tp),
    )


def num_all_reduces(model: Model) -> int:
    """Return the number of all-reduces in one layer.

    One after attention and one after the MLP; one in total if both run in parallel.
    """
    return 1 if model.parallel_attention else 2

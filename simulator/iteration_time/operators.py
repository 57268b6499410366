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
    """A projection: (tokens, k) x (k, n), or one of several such that each token is routed to.

    Attributes:
        name: Name of the operator.
        k: Input width on one GPU.
        n: Output width on one GPU.
        dtype: Format of the weights. Input and output have half precision.
        weight_only: Whether the weights are widened and multiplied in half precision.
        num_experts: Matrices among which tokens are routed.
        experts_per_token: Matrices that each token is multiplied with.
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
        """Format that is multiplied in, if the device has units for it."""
        return "bf16" if self.weight_only else self.dtype

    def flops(self, tokens: Amount) -> Amount:
        """FLOPs for so many tokens."""
        return 2 * self.k * self.n * self.experts_per_token * tokens

    def bytes_moved(self, tokens: Amount) -> Amount:
        """Bytes of the weights, the input and the output, each moved once.

        Of experts, those that routing at random reaches: a token passes by all but experts_per_token of them.
        """
        weights: Any = self.k * self.n * bytes_per_value(self.dtype)
        if self.num_experts > 1:
            missed = (1 - self.experts_per_token / self.num_experts) ** tokens
            weights = weights * self.num_experts * (1 - missed)
        total: Amount = weights + HALF_BYTES * (self.k + self.n) * self.experts_per_token * tokens
        return total


@dataclass(frozen=True)
class Elementwise:
    """An operator that reads and writes values and hardly computes.

    Attributes:
        name: Name of the operator.
        width: Values read and written per token on one GPU.
        tp: Tensor-parallel degree: the smaller a GPU's share of the weights, the more of the values is still
            in its caches.
    """

    name: str
    width: int
    tp: int

    def flops(self, tokens: Amount) -> Amount:
        """One FLOP per value, for the roofline of a batch."""
        return self.width * tokens

    def bytes_moved(self, tokens: Amount) -> Amount:
        """Bytes read and written."""
        return HALF_BYTES * self.width * tokens


Operator = MatMul | Elementwise


@dataclass(frozen=True)
class Attention:
    """Attention over a paged KV cache in one layer.

    Attributes:
        q_heads: Query heads on one GPU.
        kv_heads: Key and value heads on one GPU.
        head_dim: Width of a head.
        kv_dtype: Format of the cached keys and values.
    """

    q_heads: int
    kv_heads: int
    head_dim: int
    kv_dtype: str = field(default="fp16", kw_only=True)

    @property
    def kv_bytes_per_token(self) -> float:
        """Bytes of one token's keys and values."""
        return 2 * self.kv_heads * self.head_dim * bytes_per_value(self.kv_dtype)

    def prefill_flops(self, chunk: int, context: int) -> int:
        """FLOPs of a chunk over its context and, causally, over itself."""
        return 2 * self.q_heads * self.head_dim * chunk * (2 * context + chunk + 1)

    def prefill_bytes(self, chunk: int, context: int) -> float:
        """Bytes of the keys and values, the queries and the output, each moved once."""
        query_bytes = 2 * self.q_heads * self.head_dim * HALF_BYTES
        return self.kv_bytes_per_token * (context + chunk) + query_bytes * chunk

    def decode_flops(self, context_tokens: int) -> int:
        """FLOPs of decodes with so many tokens in the KV cache together."""
        return 4 * self.q_heads * self.head_dim * context_tokens

    def decode_bytes(self, context_tokens: int) -> float:
        """Bytes of the cached keys and values."""
        return self.kv_bytes_per_token * context_tokens


def attention_of(model: Model, tp: int, kv_dtype: str = "fp16") -> Attention:
    """Return the attention of one GPU."""
    return Attention(model.num_q_heads // tp, model.kv_heads_per_gpu(tp), model.head_dim, kv_dtype=kv_dtype)


def layer_operators(model: Model, tp: int) -> tuple[Sequence[Operator], Sequence[Operator]]:
    """Operators of one layer on one GPU before and after attention, in the order they run; no collectives."""
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
    """Input embedding, for each token: a row of the table is read and written."""
    return Elementwise("embedding", 2 * model.hidden_size, tp)


def head_operators(model: Model, tp: int) -> Sequence[Operator]:
    """Operators after the last layer, for the last token of each sequence."""
    vocab = -(-model.vocab_size // tp)
    return (
        Elementwise("final_norm", 2 * model.hidden_size, tp),
        MatMul("lm_head", model.hidden_size, vocab),
        Elementwise("sampling", model.vocab_size, tp),
    )


def num_all_reduces(model: Model) -> int:
    """All-reduces of one layer: after attention and after the MLP, or one for both if they run side by side."""
    return 1 if model.parallel_attention else 2

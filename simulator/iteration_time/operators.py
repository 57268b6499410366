"""Operators of a transformer on one GPU: shapes, FLOPs and bytes moved."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from simulator.model import BYTES_PER_VALUE, Model

Amount = TypeVar("Amount", int, float, NDArray[np.float64])


@dataclass(frozen=True)
class MatMul:
    """A projection: (tokens, k) x (k, n).

    Attributes:
        name: Name of the operator.
        k: Input width on one GPU.
        n: Output width on one GPU.
    """

    name: str
    k: int
    n: int

    def flops(self, tokens: Amount) -> Amount:
        """FLOPs for so many tokens."""
        return 2 * self.k * self.n * tokens

    def bytes_moved(self, tokens: Amount) -> Amount:
        """Bytes of the weights, the input and the output, each moved once."""
        return BYTES_PER_VALUE * (self.k * self.n + (self.k + self.n) * tokens)


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
        return BYTES_PER_VALUE * self.width * tokens


Operator = MatMul | Elementwise


@dataclass(frozen=True)
class Attention:
    """Attention over a paged KV cache in one layer.

    Attributes:
        q_heads: Query heads on one GPU.
        kv_heads: Key and value heads on one GPU.
        head_dim: Width of a head.
    """

    q_heads: int
    kv_heads: int
    head_dim: int

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of one token's keys and values."""
        return 2 * self.kv_heads * self.head_dim * BYTES_PER_VALUE

    def prefill_flops(self, chunk: int, context: int) -> int:
        """FLOPs of a chunk over its context and, causally, over itself."""
        return 2 * self.q_heads * self.head_dim * chunk * (2 * context + chunk + 1)

    def prefill_bytes(self, chunk: int, context: int) -> int:
        """Bytes of the keys and values, the queries and the output, each moved once."""
        query_bytes = 2 * self.q_heads * self.head_dim * BYTES_PER_VALUE
        return self.kv_bytes_per_token * (context + chunk) + query_bytes * chunk

    def decode_flops(self, context_tokens: int) -> int:
        """FLOPs of decodes with so many tokens in the KV cache together."""
        return 4 * self.q_heads * self.head_dim * context_tokens

    def decode_bytes(self, context_tokens: int) -> int:
        """Bytes of the cached keys and values."""
        return self.kv_bytes_per_token * context_tokens


def attention_of(model: Model, tp: int) -> Attention:
    """Return the attention of one GPU."""
    return Attention(model.num_q_heads // tp, model.kv_heads_per_gpu(tp), model.head_dim)


def layer_operators(model: Model, tp: int) -> tuple[Sequence[Operator], Sequence[Operator]]:
    """Operators of one layer on one GPU before and after attention, in the order they run; no collectives."""
    attention = attention_of(model, tp)
    q_width = attention.q_heads * attention.head_dim
    kv_width = 2 * attention.kv_heads * attention.head_dim
    ffn = -(-model.ffn_size // tp)
    gates = 2 if model.gated_mlp else 1
    hidden = model.hidden_size
    before = (
        Elementwise("input_norm", 2 * hidden, tp),
        MatMul("qkv_proj", hidden, q_width + kv_width),
        Elementwise("rope", 2 * q_width + kv_width, tp),
        Elementwise("kv_write", 2 * kv_width, tp),
    )
    after = (
        MatMul("o_proj", q_width, hidden),
        Elementwise("residual_add", 3 * hidden, tp),
        Elementwise("post_attention_norm", 2 * hidden, tp),
        MatMul("gate_up_proj" if model.gated_mlp else "up_proj", hidden, gates * ffn),
        Elementwise("activation", (gates + 1) * ffn, tp),
        MatMul("down_proj", ffn, hidden),
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

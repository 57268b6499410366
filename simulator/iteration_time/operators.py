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
    """Projection (tokens, k) x (k, n).

    Attributes:
        name: Name of the operator.
        k: Input width on one GPU.
        n: Output width on one GPU.
        dtype: Number format of the weights. Input and output have half precision.
        weight_only: Whether the weights are dequantized and multiplied in half precision.
    """

    name: str
    k: int
    n: int
    dtype: str = field(default="bf16", kw_only=True)
    weight_only: bool = field(default=False, kw_only=True)

    @property
    def compute_dtype(self) -> str:
        """Number format of the multiplications, if the device supports it."""
        return "bf16" if self.weight_only else self.dtype

    def flops(self, tokens: Amount) -> Amount:
        """Return the FLOPs for a number of tokens."""
        return 2 * self.k * self.n * tokens

    def bytes_moved(self, tokens: Amount) -> Amount:
        """Return the bytes of weights, input and output, each moved once."""
        total: Amount = self.k * self.n * bytes_per_value(self.dtype) + HALF_BYTES * (self.k + self.n) * tokens
        return total


@dataclass(frozen=True)
class Experts:
    """Routed experts of one layer: both matrix products, activation and weighted sum.

    Attributes:
        name: Name of the operator.
        hidden_size: Width of the residual stream.
        ffn_size: Intermediate size of an expert on one GPU.
        num_experts: Experts among which tokens are routed.
        experts_per_token: Experts that each token is routed to.
        num_local: Experts on one GPU.
        gated: Whether an expert has a gate projection.
        dtype: Number format of the weights. Input and output have half precision.
        weight_only: Whether the weights are dequantized and multiplied in half precision.
    """

    name: str
    hidden_size: int
    ffn_size: int
    num_experts: int
    experts_per_token: int
    num_local: int
    gated: bool = field(default=True, kw_only=True)
    dtype: str = field(default="bf16", kw_only=True)
    weight_only: bool = field(default=False, kw_only=True)

    @property
    def compute_dtype(self) -> str:
        """Number format of the multiplications, if the device supports it."""
        return "bf16" if self.weight_only else self.dtype

    @property
    def _num_matrices(self) -> int:
        return 3 if self.gated else 2

    @property
    def _local_share(self) -> float:
        return self.num_local / self.num_experts

    def flops(self, tokens: Amount) -> Amount:
        """Return the FLOPs for a number of tokens."""
        weights = self._num_matrices * self.hidden_size * self.ffn_size
        total: Amount = 2 * weights * self.experts_per_token * self._local_share * tokens
        return total

    def weight_bytes(self, tokens: Amount) -> Amount:
        """Return the bytes of the weights that random routing selects."""
        selected: Any = self.num_local * (1 - (1 - self.experts_per_token / self.num_experts) ** tokens)
        weights = self._num_matrices * self.hidden_size * self.ffn_size * bytes_per_value(self.dtype)
        total: Amount = weights * selected
        return total

    def activation_bytes(self, tokens: Amount) -> Amount:
        """Return the bytes of the inputs, hidden values and outputs."""
        values = 2 * self.hidden_size + (self._num_matrices + 1) * self.ffn_size
        total: Amount = HALF_BYTES * values * self.experts_per_token * self._local_share * tokens
        return total

    def bytes_moved(self, tokens: Amount) -> Amount:
        """Return the bytes of weights and activations, each moved once."""
        return self.weight_bytes(tokens) + self.activation_bytes(tokens)


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

    @property
    def compute_dtype(self) -> str:
        """Number format of the computation."""
        return "bf16"

    def flops(self, tokens: Amount) -> Amount:
        """Return 0: it multiplies no matrices."""
        return 0 * tokens

    def bytes_moved(self, tokens: Amount) -> Amount:
        """Return the bytes read and written."""
        return HALF_BYTES * self.width * tokens


Operator = MatMul | Elementwise | Experts


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

    def prefill_flops(self, chunk: float, context: Amount) -> Amount:
        """Return the FLOPs of a prefill chunk.

        Attention is full over its context and causal within the chunk.
        """
        flops: Amount = 2 * self.q_heads * self.head_dim * chunk * (2 * context + chunk + 1)
        return flops

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


def layer_operators(model: Model, tp: int, *, fused: bool = False) -> tuple[Sequence[Operator], Sequence[Operator]]:
    """Return the operators of one layer before and after attention.

    In order, without collectives.

    Args:
        model: The model.
        tp: Tensor-parallel degree.
        fused: Whether the engine adds the residual within the norms, and writes the KV cache within attention.
    """
    attention = attention_of(model, tp)
    q_width = attention.q_heads * attention.head_dim
    kv_width = 2 * attention.kv_heads * attention.head_dim
    hidden = model.hidden_size
    matmul = partial(MatMul, dtype=model.dtype, weight_only=model.weight_only)
    before: tuple[Operator, ...] = (
        _norm("add_norm" if fused else "input_norm", hidden, tp, fused),
        matmul("qkv_proj", hidden, q_width + kv_width),
        *([Elementwise("qk_norm", 2 * q_width + kv_width, tp)] if model.qk_norm else []),
        Elementwise("rope", 2 * q_width + kv_width, tp),
        *([] if fused else [Elementwise("kv_write", 2 * kv_width, tp)]),
    )
    residual_add: list[Operator] = [] if fused else [Elementwise("residual_add", 3 * hidden, tp)]
    after: tuple[Operator, ...] = (
        matmul("o_proj", q_width, hidden),
        *residual_add,
        _norm("add_norm" if fused else "post_attention_norm", hidden, tp, fused),
        *_mlp(model, tp),
        *residual_add,
    )
    return before, after


def _norm(name: str, hidden: int, tp: int, fused: bool) -> Elementwise:
    """Return a norm, which also adds the residual if fused."""
    return Elementwise(name, (4 if fused else 2) * hidden, tp)


def _mlp(model: Model, tp: int) -> Sequence[Operator]:
    """Return the operators of a dense MLP, or router and experts."""
    hidden, ffn = model.hidden_size, -(-model.ffn_size // tp)
    options: dict[str, Any] = {"dtype": model.dtype, "weight_only": model.weight_only}
    if model.num_experts > 1:
        sizes = (hidden, ffn, model.num_experts, model.experts_per_token, model.num_experts)
        return (
            MatMul("router", hidden, model.num_experts),
            Experts("experts", *sizes, gated=model.gated_mlp, **options),
        )
    gates = 2 if model.gated_mlp else 1
    return (
        MatMul("gate_up_proj" if model.gated_mlp else "up_proj", hidden, gates * ffn, **options),
        Elementwise("activation", (gates + 1) * ffn, tp),
        MatMul("down_proj", ffn, hidden, **options),
    )


def embedding(model: Model, tp: int) -> Elementwise:
    """Return the input embedding, which copies one table row per token."""
    return Elementwise("embedding", 2 * model.hidden_size, tp)


def head_operators(model: Model, tp: int, *, fused: bool = False) -> Sequence[Operator]:
    """Return the operators after the last layer; `fused` as in `layer_operators`.

    They run on one row per sequence.
    """
    vocab = -(-model.vocab_size // tp)
    return (
        _norm("final_norm", model.hidden_size, tp, fused),
        MatMul("lm_head", model.hidden_size, vocab),
        Elementwise("sampling", model.vocab_size, tp),
    )


def num_all_reduces(model: Model) -> int:
    """Return the number of all-reduces in one layer.

    One after attention and one after the MLP; one in total if both run in parallel.
    """
    return 1 if model.parallel_attention else 2

"""Attention over a paged KV cache.

It is planned once per iteration and run once per layer.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import accumulate
from typing import Any, Protocol

import numpy as np

from profiling.serving.block_tables import Blocks

WORKSPACE_BYTES = 256 << 20


@dataclass(frozen=True)
class AttentionShape:
    """Heads on one GPU, and tokens per KV block."""

    q_heads: int
    kv_heads: int
    head_dim: int
    block_size: int


@dataclass(frozen=True)
class Span:
    """New tokens of one sequence in an iteration.

    Attributes:
        blocks: KV blocks of the sequence up to its last new token, int32[num_blocks].
        num_tokens: New tokens; their keys and values are already in the cache.
        context: Tokens before the new ones.
    """

    blocks: Blocks
    num_tokens: int
    context: int

    @property
    def total(self) -> int:
        """Tokens that the last new token attends to."""
        return self.context + self.num_tokens


class PagedAttention(Protocol):
    """Attention of one iteration.

    The tokens of prefill chunks come first, then one token per decode.

    Attributes:
        kernel_library: Name and version of the library that computes it.
    """

    kernel_library: str

    def plan(self, chunks: Sequence[Span], decodes: Sequence[Span]) -> None:
        """Prepare an iteration on the host, once for all layers."""
        ...

    def run(self, q: Any, cache: tuple[Any, Any]) -> Any:
        """Compute one layer.

        Args:
            q: (tokens, q_heads, head_dim).
            cache: Keys and values of the layer, (blocks, block_size, kv_heads, head_dim) each.

        Returns:
            (tokens, q_heads, head_dim).
        """
        ...


class TorchAttention:
    """Attention by torch, sequence by sequence on gathered blocks.

    It runs on CPUs too.
    """

    def __init__(self, torch: Any, shape: AttentionShape, device: str) -> None:
        self._torch = torch
        self._shape = shape
        self._device = device
        self._planned: list[tuple[Any, Span, Any]] = []
        self.kernel_library = f"torch {torch.__version__} SDPA, gathered blocks"

    def plan(self, chunks: Sequence[Span], decodes: Sequence[Span]) -> None:
        """See `PagedAttention`."""
        torch = self._torch
        self._planned = []
        for span in (*chunks, *decodes):
            blocks = torch.from_numpy(span.blocks).to(self._device, torch.int64)
            self._planned.append((blocks, span, self._mask(span)))

    def _mask(self, span: Span) -> Any:
        """Return the attention mask, bool[num_tokens, total].

        None if full or causal attention needs no mask.
        """
        if span.num_tokens == 1 or not span.context:
            return None
        torch = self._torch
        return torch.ones(span.num_tokens, span.total, dtype=torch.bool, device=self._device).tril(span.context)

    def run(self, q: Any, cache: tuple[Any, Any]) -> Any:
        """See `PagedAttention`."""
        attention, grouped = self._torch.nn.functional.scaled_dot_product_attention, self._is_grouped
        out = self._torch.empty(q.shape, dtype=q.dtype, device=q.device)
        start = 0
        for blocks, span, mask in self._planned:
            end = start + span.num_tokens
            keys, values = (part[blocks].flatten(0, 1)[: span.total].transpose(0, 1)[None] for part in cache)
            causal = mask is None and span.num_tokens > 1
            queries = q[start:end].transpose(0, 1)[None]
            attended = attention(queries, keys, values, attn_mask=mask, is_causal=causal, enable_gqa=grouped)
            out[start:end] = attended[0].transpose(0, 1)
            start = end
        return out

    @property
    def _is_grouped(self) -> bool:
        return self._shape.q_heads != self._shape.kv_heads


class FlashInferAttention:
    """Attention by FlashInfer.

    One launch computes all prefill chunks, one all decodes.
    """

    def __init__(
        self, torch: Any, flashinfer: Any, shape: AttentionShape, workspace: Any, graph: "GraphBuffers | None" = None
    ) -> None:
        """Prepare both phases.

        Args:
            torch: The module.
            flashinfer: The module.
            shape: Heads and block size.
            workspace: See `workspace`; attentions that do not run at the same time may share it.
            graph: Buffers of the CUDA graph that captures decodes; None: no capture.
        """
        self._torch = torch
        self._shape = shape
        self._num_prefill_tokens = 0
        self._num_decodes = 0
        self.kernel_library = f"flashinfer {flashinfer.__version__}, paged"
        self._new_prefill = partial(flashinfer.BatchPrefillWithPagedKVCacheWrapper, workspace, "NHD")
        # Tensor cores are faster when several query heads share keys and values.
        keywords: dict[str, Any] = {"use_tensor_cores": shape.q_heads > shape.kv_heads}
        if graph is not None:
            keywords |= {
                "use_cuda_graph": True,
                "paged_kv_indptr_buffer": graph.first,
                "paged_kv_indices_buffer": graph.blocks,
                "paged_kv_last_page_len_buffer": graph.in_last,
            }
        self._new_decode = partial(flashinfer.BatchDecodeWithPagedKVCacheWrapper, workspace, "NHD", **keywords)

    @cached_property
    def _prefill(self) -> Any:
        """Wrapper for prefill, made on first use.

        It reserves GPU and host memory.
        """
        return self._new_prefill()

    @cached_property
    def _decode(self) -> Any:
        return self._new_decode()

    @staticmethod
    def workspace(torch: Any) -> Any:
        """Reserve memory for partial results on the GPU.

        Some of FlashInfer's kernels expect zeros at first.
        """
        return torch.zeros(WORKSPACE_BYTES, dtype=torch.uint8, device="cuda")

    def plan(self, chunks: Sequence[Span], decodes: Sequence[Span]) -> None:
        """See `PagedAttention`."""
        shape, dtype = self._shape, self._torch.bfloat16
        heads = shape.q_heads, shape.kv_heads, shape.head_dim, shape.block_size
        self._num_prefill_tokens = sum(span.num_tokens for span in chunks)
        self._num_decodes = len(decodes)
        if chunks:
            queries = self._int32([0, *accumulate(span.num_tokens for span in chunks)])
            pages = self._pages(chunks)
            self._prefill.plan(queries, *pages, *heads, causal=True, q_data_type=dtype, kv_data_type=dtype)
        if decodes:
            self._decode.plan(*self._pages(decodes), *heads, q_data_type=dtype, kv_data_type=dtype)

    def run(self, q: Any, cache: tuple[Any, Any]) -> Any:
        """See `PagedAttention`."""
        num_prefill = self._num_prefill_tokens
        out = self._torch.empty(q.shape, dtype=q.dtype, device=q.device)
        if num_prefill:
            self._prefill.run(q[:num_prefill], cache, out=out[:num_prefill])
        if self._num_decodes:
            self._decode.run(q[num_prefill:], cache, out=out[num_prefill:])
        return out

    def _pages(self, spans: Sequence[Span]) -> tuple[Any, Any, Any]:
        """Return the KV blocks of sequences as host tensors.

        Returns:
            Index of the first block of each sequence, the blocks, and the tokens in each last block.
        """
        size = self._shape.block_size
        counts = [len(span.blocks) for span in spans]
        blocks = self._torch.from_numpy(np.concatenate([span.blocks for span in spans]))
        in_last = [span.total - (count - 1) * size for span, count in zip(spans, counts, strict=True)]
        return self._int32([0, *accumulate(counts)]), blocks, self._int32(in_last)

    def _int32(self, values: Sequence[int]) -> Any:
        return self._torch.tensor(values, dtype=self._torch.int32)


def attention_maker(torch: Any, flashinfer: Any, device: str) -> Callable[[AttentionShape], PagedAttention]:
    """Return a function that makes the attention of a shape.

    The attention is FlashInfer's, or torch's if `flashinfer` is None.
    """
    if flashinfer is None:
        return lambda shape: TorchAttention(torch, shape, device)
    workspace = FlashInferAttention.workspace(torch)
    return lambda shape: FlashInferAttention(torch, flashinfer, shape, workspace)


@dataclass(frozen=True)
class GraphBuffers:
    """KV blocks of a captured decode batch: int32 on the GPU.

    Attributes:
        first: [batch + 1], index of the first block of each sequence.
        blocks: [maximum number of blocks of all sequences].
        in_last: [batch], tokens in the last block of each sequence.
    """

    first: Any
    blocks: Any
    in_last: Any

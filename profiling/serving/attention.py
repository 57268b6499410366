"""Attention over a paged KV cache: planned once an iteration, run once a layer."""

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
    """Heads of one GPU, and the tokens of a KV block."""

    q_heads: int
    kv_heads: int
    head_dim: int
    block_size: int


@dataclass(frozen=True)
class Span:
    """Tokens of one sequence in an iteration.

    Attributes:
        blocks: KV blocks of the sequence up to its last new token, int32[num_blocks].
        num_tokens: New tokens; their keys and values are in the cache already.
        context: Tokens before them.
    """

    blocks: Blocks
    num_tokens: int
    context: int

    @property
    def total(self) -> int:
        """Tokens that the last new one attends to."""
        return self.context + self.num_tokens


class PagedAttention(Protocol):
    """Attention of one iteration. New tokens of prefill chunks come first, then one of each decode.

    Attributes:
        kernel_library: Name and version of what computes.
    """

    kernel_library: str

    def plan(self, chunks: Sequence[Span], decodes: Sequence[Span]) -> None:
        """Prepare an iteration: what the host does once for all layers."""
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
    """Blocks are gathered, and torch computes each sequence for itself. Runs wherever torch does, CPUs included."""

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
        """What each new token sees of a cache, bool[num_tokens, total]; None: all of it, or what is causal."""
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
            found = attention(queries, keys, values, attn_mask=mask, is_causal=causal, enable_gqa=grouped)
            out[start:end] = found[0].transpose(0, 1)
            start = end
        return out

    @property
    def _is_grouped(self) -> bool:
        return self._shape.q_heads != self._shape.kv_heads


class FlashInferAttention:
    """FlashInfer's kernels: one launch for all prefill chunks of an iteration, one for all decodes."""

    def __init__(
        self, torch: Any, flashinfer: Any, shape: AttentionShape, workspace: Any, graph: "GraphBuffers | None" = None
    ) -> None:
        """Prepare both phases.

        Args:
            torch: The module.
            flashinfer: The module.
            shape: Heads.
            workspace: See `workspace`; those that do not run at the same time may share it.
            graph: Buffers of a CUDA graph that decodes are captured in; None: not captured.
        """
        self._torch = torch
        self._shape = shape
        self._num_prefill_tokens = 0
        self._num_decodes = 0
        self.kernel_library = f"flashinfer {flashinfer.__version__}, paged"
        self._new_prefill = partial(flashinfer.BatchPrefillWithPagedKVCacheWrapper, workspace, "NHD")
        # Tensor cores pay as soon as several query heads share keys and values.
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
        """Reserves memory of its own, on the GPU and on the host, so only where there are chunks."""
        return self._new_prefill()

    @cached_property
    def _decode(self) -> Any:
        return self._new_decode()

    @staticmethod
    def workspace(torch: Any) -> Any:
        """Reserve memory for partial results on the GPU."""
        return torch.empty(WORKSPACE_BYTES, dtype=torch.uint8, device="cuda")

    def plan(self, chunks: Sequence[Span], decodes: Sequence[Span]) -> None:
        """See `PagedAttention`."""
        shape, half = self._shape, self._torch.bfloat16
        heads = shape.q_heads, shape.kv_heads, shape.head_dim, shape.block_size
        self._num_prefill_tokens = sum(span.num_tokens for span in chunks)
        self._num_decodes = len(decodes)
        if chunks:
            queries = self._int32([0, *accumulate(span.num_tokens for span in chunks)])
            pages = self._pages(chunks)
            self._prefill.plan(queries, *pages, *heads, causal=True, q_data_type=half, kv_data_type=half)
        if decodes:
            self._decode.plan(*self._pages(decodes), *heads, q_data_type=half, kv_data_type=half)

    def run(self, q: Any, cache: tuple[Any, Any]) -> Any:
        """See `PagedAttention`."""
        border = self._num_prefill_tokens
        out = self._torch.empty(q.shape, dtype=q.dtype, device=q.device)
        if border:
            self._prefill.run(q[:border], cache, out=out[:border])
        if self._num_decodes:
            self._decode.run(q[border:], cache, out=out[border:])
        return out

    def _pages(self, spans: Sequence[Span]) -> tuple[Any, Any, Any]:
        """Where the blocks of each sequence begin, the blocks, and tokens in the last one; on the host."""
        size = self._shape.block_size
        counts = [len(span.blocks) for span in spans]
        blocks = self._torch.from_numpy(np.concatenate([span.blocks for span in spans]))
        in_last = [span.total - (count - 1) * size for span, count in zip(spans, counts, strict=True)]
        return self._int32([0, *accumulate(counts)]), blocks, self._int32(in_last)

    def _int32(self, values: Sequence[int]) -> Any:
        return self._torch.tensor(values, dtype=self._torch.int32)


def attention_maker(torch: Any, flashinfer: Any, device: str) -> Callable[[AttentionShape], PagedAttention]:
    """Return what makes attention of a shape: by FlashInfer where it is given, else by torch."""
    if flashinfer is None:
        return lambda shape: TorchAttention(torch, shape, device)
    workspace = FlashInferAttention.workspace(torch)
    return lambda shape: FlashInferAttention(torch, flashinfer, shape, workspace)


@dataclass(frozen=True)
class GraphBuffers:
    """Where a captured batch of decodes finds its KV blocks: int32 tensors on the GPU.

    Attributes:
        first: [batch + 1], where the blocks of each sequence begin.
        blocks: [most blocks of all sequences together].
        in_last: [batch], tokens in the last block.
    """

    first: Any
    blocks: Any
    in_last: Any

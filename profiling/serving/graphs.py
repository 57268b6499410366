"""Decodes captured as CUDA graphs, one graph per batch size."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from profiling.serving.attention import AttentionShape, FlashInferAttention, GraphBuffers, Span
from profiling.serving.block_tables import Blocks
from profiling.serving.decoder import Decoder, ForwardInputs

WARM_UPS = 3


@dataclass(frozen=True)
class _Captured:
    graph: Any
    inputs: ForwardInputs
    tokens: Any
    attention: FlashInferAttention


class DecodeGraphs:
    """CUDA graphs of decode batches.

    A batch is padded to the next captured size.
    """

    def __init__(
        self,
        decoder: Decoder,
        flashinfer: Any,
        shape: AttentionShape,
        sizes: Sequence[int],
        padding_block: Blocks,
        num_blocks: int,
    ) -> None:
        """Capture every size, the largest first.

        The others reuse its memory pool.

        Args:
            decoder: The decoder to capture.
            flashinfer: The module; torch's attention on gathered blocks changes shapes and cannot be captured.
            shape: Heads and block size.
            sizes: Batch sizes, increasing.
            padding_block: Block that padding reads and writes, int32[1].
            num_blocks: KV blocks that the sequences of a batch can have together.
        """
        self._sizes = sizes
        self._decoder = decoder
        self._torch = decoder.operators.torch
        self._flashinfer = flashinfer
        self._shape = shape
        self._padding = Span(padding_block, 1, 0)
        self._pool: Any = None
        self._stream = self._torch.cuda.Stream()
        self._workspace = FlashInferAttention.workspace(self._torch)
        self._blocks = self._torch.zeros(num_blocks + sizes[-1], dtype=self._torch.int32, device="cuda")
        self._captured = {size: self._capture(size) for size in reversed(sizes)}

    def size_for(self, num_decodes: int) -> int | None:
        """Return the smallest captured size for a number of decodes.

        None if all captured sizes are smaller.
        """
        index = bisect_left(self._sizes, num_decodes)
        return self._sizes[index] if index < len(self._sizes) else None

    def plan(self, size: int, decodes: Sequence[Span], inputs: ForwardInputs) -> None:
        """Prepare a launch of at most `size` decodes.

        `inputs` are already padded to `size`.
        """
        captured = self._captured[size]
        for name, value in vars(inputs).items():
            getattr(captured.inputs, name).copy_(value, non_blocking=True)
        captured.attention.plan([], [*decodes, *[self._padding] * (size - len(decodes))])

    def launch(self, size: int) -> Any:
        """Launch the planned graph; return the next tokens, int64[size]."""
        captured = self._captured[size]
        captured.graph.replay()
        return captured.tokens

    def _capture(self, size: int) -> _Captured:
        torch = self._torch
        tokens, positions, slots = (torch.zeros(size, dtype=torch.int64, device="cuda") for _ in range(3))
        inputs = ForwardInputs(tokens, positions, slots, torch.arange(size, dtype=torch.int64, device="cuda"))
        first = torch.zeros(size + 1, dtype=torch.int32, device="cuda")
        in_last = torch.zeros(size, dtype=torch.int32, device="cuda")
        buffers = GraphBuffers(first, self._blocks, in_last)
        attention = FlashInferAttention(torch, self._flashinfer, self._shape, self._workspace, buffers)
        attention.plan([], [self._padding] * size)
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            for _ in range(WARM_UPS):
                self._decoder.forward(inputs, attention)
        torch.cuda.current_stream().wait_stream(self._stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            sampled = self._decoder.forward(inputs, attention)
        self._pool = graph.pool()
        return _Captured(graph, inputs, sampled, attention)

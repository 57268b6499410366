"""Work of an iteration, as spans of tokens and as tensors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from profiling.serving.attention import Span
from profiling.serving.block_tables import BlockTables
from profiling.serving.decoder import ForwardInputs
from simulator.replica import Batch, Replica

Tokens = NDArray[np.int64]


@dataclass(frozen=True)
class Work:
    """Work of one iteration: prefill chunks, then decodes.

    Attributes:
        requests: Request of each chunk, then of each decode.
        chunks: Span of each chunk.
        decodes: Span of each decode, one token.
    """

    requests: Sequence[int]
    chunks: Sequence[Span]
    decodes: Sequence[Span]

    @property
    def spans(self) -> Sequence[Span]:
        """Chunks, then decodes."""
        return [*self.chunks, *self.decodes]


def work_of(batch: Batch, replica: Replica, tables: BlockTables) -> Work:
    """Allocate the KV blocks of a started batch; return its work.

    The batch must be the last one started on the replica.
    """
    requests = [chunk.request for chunk in batch.chunks]
    chunks = []
    for chunk in batch.chunks:
        blocks = tables.extend(chunk.request, chunk.context_tokens + chunk.num_tokens)
        chunks.append(Span(blocks, chunk.num_tokens, chunk.context_tokens))
    decodes = []
    for request in replica.in_flight.batches[-1].live_decodes():
        context = replica.known_tokens(request) - 1  # its newest token is computed now
        requests.append(request)
        decodes.append(Span(tables.extend(request, context + 1), 1, context))
    return Work(requests, chunks, decodes)


class InputMaker:
    """Builder of forward-pass tensors, copied from host to device."""

    def __init__(self, torch: Any, device: str, block_size: int, padding_block: int) -> None:
        """Set the device and the padding block.

        Args:
            torch: The module.
            device: "cuda" or "cpu".
            block_size: Tokens per KV block.
            padding_block: Block that padding writes to.
        """
        self._torch = torch
        self._device = device
        self._block_size = block_size
        self._padding_slot = padding_block * block_size

    def make(self, work: Work, token_ids: Sequence[Tokens], padding: int = 0) -> ForwardInputs:
        """Return the inputs of an iteration.

        Args:
            work: Chunks and decodes to compute.
            token_ids: Prompt and generated tokens of each request; later entries are not read.
            padding: Decodes to add; their results are discarded.
        """
        size = self._block_size
        tokens, positions, slots = [], [], []
        for request, span in zip(work.requests, work.chunks, strict=False):
            computed = np.arange(span.context, span.total)
            tokens.append(token_ids[request][span.context : span.total])
            positions.append(computed)
            slots.append(span.blocks[computed // size] * size + computed % size)
        decoding = work.requests[len(work.chunks) :]
        padded = [0] * padding
        # A decode is one token: Python ints are faster than arrays of length one.
        newest = [int(token_ids[request][span.context]) for request, span in zip(decoding, work.decodes, strict=True)]
        tokens.append(np.array(newest + padded, dtype=np.int64))
        positions.append(np.array([span.context for span in work.decodes] + padded, dtype=np.int64))
        in_blocks = [int(span.blocks[-1]) * size + span.context % size for span in work.decodes]
        slots.append(np.array(in_blocks + [self._padding_slot] * padding, dtype=np.int64))
        last = np.cumsum([span.num_tokens for span in work.chunks] + [1] * (len(decoding) + padding)) - 1
        return ForwardInputs(*(self._tensor(part) for part in (*map(np.concatenate, (tokens, positions, slots)), last)))

    def _tensor(self, values: NDArray[Any]) -> Any:
        return self._torch.from_numpy(values.astype(np.int64, copy=False)).to(self._device, non_blocking=True)

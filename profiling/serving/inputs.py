"""What an iteration computes, as a list of spans of tokens, and as tensors."""

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
    """One iteration: prefill chunks, then decodes.

    Attributes:
        requests: Request of each chunk and each decode.
        chunks: Tokens of each chunk.
        decodes: Token of each decode.
    """

    requests: Sequence[int]
    chunks: Sequence[Span]
    decodes: Sequence[Span]

    @property
    def spans(self) -> Sequence[Span]:
        """Chunks, then decodes."""
        return [*self.chunks, *self.decodes]


def work_of(batch: Batch, replica: Replica, tables: BlockTables) -> Work:
    """Return what a batch that was just put in flight computes, with KV blocks for all of it."""
    requests = [chunk.request for chunk in batch.chunks]
    chunks = []
    for chunk in batch.chunks:
        blocks = tables.extend(chunk.request, chunk.context_tokens + chunk.num_tokens)
        chunks.append(Span(blocks, chunk.num_tokens, chunk.context_tokens))
    decodes = []
    members = replica.in_flight[-1][1]
    for request in members or ():
        assert members is not None
        context = members.context_of(request)
        requests.append(request)
        decodes.append(Span(tables.extend(request, context + 1), 1, context))
    return Work(requests, chunks, decodes)


class InputMaker:
    """Makes the tensors of a forward pass on the host, and copies them to the device."""

    def __init__(self, torch: Any, device: str, block_size: int, dump_block: int) -> None:
        """Set the device.

        Args:
            torch: The module.
            device: "cuda" or "cpu".
            block_size: Tokens per KV block.
            dump_block: Block that padding writes to.
        """
        self._torch = torch
        self._device = device
        self._block_size = block_size
        self._dump_slot = dump_block * block_size

    def make(self, work: Work, known: Sequence[Tokens], padding: int = 0) -> ForwardInputs:
        """Return the inputs of an iteration.

        Args:
            work: What it computes.
            known: Tokens of each request, as far as they are known.
            padding: Decodes to add whose results nobody reads.
        """
        size = self._block_size
        tokens, positions, slots = [], [], []
        for request, span in zip(work.requests, work.chunks, strict=False):
            places = np.arange(span.context, span.total)
            tokens.append(known[request][span.context : span.total])
            positions.append(places)
            slots.append(span.blocks[places // size] * size + places % size)
        decoding = work.requests[len(work.chunks) :]
        padded = [0] * padding
        # A decode is one token: plain numbers are faster than arrays of one.
        newest = [int(known[one][span.context]) for one, span in zip(decoding, work.decodes, strict=True)]
        tokens.append(np.array(newest + padded, dtype=np.int64))
        positions.append(np.array([span.context for span in work.decodes] + padded, dtype=np.int64))
        in_blocks = [int(span.blocks[-1]) * size + span.context % size for span in work.decodes]
        slots.append(np.array(in_blocks + [self._dump_slot] * padding, dtype=np.int64))
        last = np.cumsum([span.num_tokens for span in work.chunks] + [1] * (len(decoding) + padding)) - 1
        return ForwardInputs(*(self._tensor(part) for part in (*map(np.concatenate, (tokens, positions, slots)), last)))

    def _tensor(self, values: NDArray[Any]) -> Any:
        return self._torch.from_numpy(values.astype(np.int64, copy=False)).to(self._device, non_blocking=True)

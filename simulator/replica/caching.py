"""A replica with automatic prefix caching."""

from collections.abc import Iterable, Iterator
from typing import Any

from simulator.kv_cache import BlockHashCache, BlockHashes
from simulator.replica.batch import Batch, PrefillChunk
from simulator.replica.decode_set import DecodeSet
from simulator.replica.overlapping import OverlappingReplica
from simulator.replica.requests import RequestTable


class CachingReplica(OverlappingReplica):
    """An overlapping replica with or without a prefix cache.

    Full KV blocks are cached when the tokens that fill them are scheduled or, if these are not known yet, when they
    become known. Blocks that a decode fills are cached when its request finishes or is preempted; those that other
    requests have too are cached as they fill.

    Attributes:
        prefix: Prefix cache of the replica; None: no prefix caching.
    """

    __slots__ = ("_shared_outputs", "prefix")

    def __init__(self, requests: RequestTable, *, block_hashes: BlockHashes | None = None, **options: Any) -> None:
        """Start empty.

        Args:
            requests: Table of all requests of the simulation.
            block_hashes: Block hashes of the requests; None: no prefix caching.
            **options: Options of `OverlappingReplica`.
        """
        super().__init__(requests, **options)
        self.prefix = None if block_hashes is None else BlockHashCache(block_hashes)
        # Decoding requests that fill blocks which other requests have too: cached as they fill.
        self._shared_outputs: dict[int, None] = {}

    @property
    def shares_outputs(self) -> bool:
        """Whether decodes may fill blocks that other requests have too."""
        return bool(self._shared_outputs)

    # -- changes --------------------------------------------------------------------------------

    def start(self, batch: Batch) -> Batch | None:
        """Carry out a step of a decision.

        After the last step, put a batch with tokens in flight.
        """
        if self.prefix is not None:
            for request in batch.preempted:
                self._cache_before_preemption(request, batch, self.prefix)
        return super().start(batch)

    def finish(self) -> list[int]:
        """End the oldest batch in flight: advance its requests, free finished ones."""
        finished = super().finish()
        if self._shared_outputs and self.lookahead:
            self._cache_known()
        return finished

    def repeat(self, batch: Batch) -> Iterator[int]:
        """Repeat the batch in flight, as `Replica.repeat`; it has only decodes."""
        return self._repeat_caching(batch) if self._shared_outputs else super().repeat(batch)

    def fail(self) -> tuple[list[int], list[int]]:
        """Drop everything, as `Replica.fail`; batches in flight give no tokens."""
        if self.prefix is not None:
            self.prefix.clear()
        self._shared_outputs.clear()
        return super().fail()

    def _cache_before_preemption(self, request: int, batch: Batch, prefix: BlockHashCache) -> None:
        """Update the prefix cache before a request is preempted.

        The update covers what the policy decided earlier in the same call.
        """
        self._evict_to(prefix, self.free_blocks - batch.blocks_before)
        if batch.undone:
            scheduled = self._scheduled_tokens(request) + batch.undone
            prefix.cache_blocks(request, min(scheduled, self.known_tokens(request)) // self.block_size)

    def _admit(self, chunk: PrefillChunk, num_shared: int = 0) -> None:
        if self.prefix is not None:
            num_cached = chunk.context_tokens // self.block_size
            num_evictable = self.prefix.acquire(chunk.request, num_cached)
            self.free_blocks -= num_evictable
            self._allocated_blocks[chunk.request] = num_cached
            num_shared = num_cached - num_evictable
        super()._admit(chunk, num_shared)

    def _start_decoding(self, request: int, decodes: DecodeSet, finished: list[int]) -> None:
        super()._start_decoding(request, decodes, finished)
        computed = self.requests.known_tokens[request]
        if (
            self.prefix is not None
            and request in decodes
            and self.prefix.is_shared(request, computed // self.block_size)
        ):
            self._shared_outputs[request] = None

    def _remove_running(self, request: int) -> None:
        super()._remove_running(request)
        self._shared_outputs.pop(request, None)

    def _end_request(self, request: int) -> None:
        super()._end_request(request)
        self._shared_outputs.pop(request, None)
        if self.prefix is not None:
            self.prefix.free_block_hashes(request)

    def _release_blocks(self, request: int, num_blocks: int, computed_tokens: int) -> None:
        prefix = self.prefix
        if prefix is not None:
            self._evict_to(prefix, self.free_blocks)
            prefix.cache_blocks(request, computed_tokens // self.block_size)
            num_blocks -= prefix.num_cached(request)
            num_blocks += prefix.release(request)
        super()._release_blocks(request, num_blocks, computed_tokens)

    def _evict_to(self, prefix: BlockHashCache, num_blocks: int) -> None:
        """Evict until at most `num_blocks` cached blocks are evictable.

        Log how many were evicted.
        """
        num_evicted = prefix.evict_to(num_blocks)
        if not num_evicted:
            return
        evictions, next_batch = self.request_events.evictions, self.num_started
        if evictions and evictions[-1][1] == next_batch:
            num_evicted += evictions.pop()[0]
        evictions.append((num_evicted, next_batch))

    def _in_batch_order(self, requests: list[int]) -> list[int]:
        if self.prefix is None or len(requests) < 2:
            return requests
        members = set(requests)
        return [request for request in self.running if request in members]

    # -- caching of full blocks -----------------------------------------------------------------

    def _cache_filled(self, batch: Batch) -> None:
        prefix, block_size = self.prefix, self.block_size
        if prefix is None:
            return
        self._evict_to(prefix, self.free_blocks)
        computed = {chunk.request: chunk.context_tokens + chunk.num_tokens for chunk in batch.chunks}
        if self._shared_outputs and batch.num_decodes:
            computed |= self._filled_by_decodes()
            computed = {request: computed[request] for request in self._in_batch_order([*computed])}
        for request, num_tokens in computed.items():
            prefix.cache_blocks(request, num_tokens // block_size)

    def _filled_by_decodes(self) -> dict[int, int]:
        """Return tokens to cache for decodes that fill a shared KV block.

        Returns:
            Number of tokens by request.
        """
        decodes = self._step_decodes
        assert decodes is not None
        filled = {
            request: decodes.context_of(request) + 1 for request in self._with_shared_output(decodes.full_after(1))
        }
        if not self.lookahead:
            return filled
        full = {request: decodes.context_of(request) for request in self._with_shared_output(decodes.full_after(0))}
        # A block with a token that is not known yet has no hash.
        return full | {request: min(num_tokens, self.known_tokens(request)) for request, num_tokens in filled.items()}

    def _repeat_caching(self, batch: Batch) -> Iterator[int]:
        prefix, decodes = self.prefix, self.in_flight[0][1]
        assert prefix is not None
        assert decodes is not None
        for free_blocks in super().repeat(batch):
            for request in self._in_batch_order(self._with_shared_output(decodes.full_after(1))):
                prefix.cache_blocks(request, (decodes.context_of(request) + 1) // self.block_size)
            yield free_blocks

    def _cache_known(self) -> None:
        """Cache blocks full of known tokens, once a batch's results are known."""
        assert self.prefix is not None
        for decodes in self.decode_sets():
            for num_unknown in range(self.lookahead + 1):
                for request in self._with_shared_output(decodes.full_after(-num_unknown)):
                    self.prefix.cache_blocks(request, (self.known_tokens(request) - 1) // self.block_size)

    def _with_shared_output(self, requests: Iterable[int]) -> list[int]:
        shared_outputs = self._shared_outputs
        return [request for request in requests if request in shared_outputs]

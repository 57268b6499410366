"""A replica that finds KV blocks again by what they hold."""

from collections.abc import Iterable, Iterator
from typing import Any

from simulator.kv_cache import BlockHashCache, BlockHashes
from simulator.replica.batch import Batch, PrefillChunk
from simulator.replica.decode_set import DecodeSet
from simulator.replica.overlapping import OverlappingReplica
from simulator.replica.requests import RequestTable


class CachingReplica(OverlappingReplica):
    """An overlapping replica with a prefix cache, or without one.

    Full KV blocks are labelled when the tokens that fill them are scheduled; those of tokens that nobody knows yet,
    when they are known. What a decode fills is labelled when it leaves, unless others could find it before.

    Attributes:
        prefix: KV blocks that are found again by what they hold; None: none are.
    """

    __slots__ = ("_sharing", "prefix")

    def __init__(self, requests: RequestTable, *, block_hashes: BlockHashes | None = None, **options: Any) -> None:
        """Start empty.

        Args:
            requests: Table of all requests of the run.
            block_hashes: What the KV blocks of the requests hold; None: no prefixes are cached.
            **options: As of `OverlappingReplica`.
        """
        super().__init__(requests, **options)
        self.prefix = None if block_hashes is None else BlockHashCache(block_hashes)
        # Decoding requests of whose answers others know the beginning: their blocks are labelled as they fill.
        self._sharing: dict[int, None] = {}

    @property
    def shares_outputs(self) -> bool:
        """Whether blocks that decodes fill may be found by others as they fill."""
        return bool(self._sharing)

    # -- changes --------------------------------------------------------------------------------

    def start(self, batch: Batch) -> Batch | None:
        """Carry out a step of a decision, and put the batch in flight if it was the last one and there are tokens."""
        if self.prefix is not None:
            for request in batch.preempted:
                self._undo(request, batch, self.prefix)
        return super().start(batch)

    def finish(self) -> list[int]:
        """End the oldest batch in flight: advance its requests, and free those that are done."""
        finished = super().finish()
        if self._sharing and self.lookahead:
            self._cache_known()
        return finished

    def repeat(self, batch: Batch) -> Iterator[int]:
        """End the batch in flight and start the same decision again, as `Replica.repeat`; it only decodes."""
        return self._repeat_caching(batch) if self._sharing else super().repeat(batch)

    def fail(self) -> tuple[list[int], list[int]]:
        """Lose everything, as `Replica.fail`; what is in flight gives no token to anybody."""
        if self.prefix is not None:
            self.prefix.clear()
        self._sharing.clear()
        return super().fail()

    def _undo(self, request: int, batch: Batch, prefix: BlockHashCache) -> None:
        """Do to the prefix cache what was done in a call before a request is preempted."""
        self._evict_to(prefix, self.free_blocks - batch.blocks_before)
        if batch.undone:
            scheduled = self._scheduled_tokens(request) + batch.undone
            prefix.cache_blocks(request, min(scheduled, self.known_tokens(request)) // self.block_size)

    def _admit(self, chunk: PrefillChunk, num_shared: int = 0) -> None:
        if self.prefix is not None:
            num_found = chunk.context_tokens // self.block_size
            num_evictable = self.prefix.acquire(chunk.request, num_found)
            self.free_blocks -= num_evictable
            self._held_blocks[chunk.request] = num_found
            num_shared = num_found - num_evictable
        super()._admit(chunk, num_shared)

    def _join(self, request: int, decodes: DecodeSet, finished: list[int]) -> None:
        super()._join(request, decodes, finished)
        computed = self.requests.known_tokens[request]
        if self.prefix is not None and request in decodes and self.prefix.shares(request, computed // self.block_size):
            self._sharing[request] = None

    def _evict(self, request: int) -> None:
        super()._evict(request)
        self._sharing.pop(request, None)

    def _end(self, request: int) -> None:
        super()._end(request)
        self._sharing.pop(request, None)
        if self.prefix is not None:
            self.prefix.drop(request)

    def _give_back(self, request: int, num_blocks: int, computed_tokens: int) -> None:
        prefix = self.prefix
        if prefix is not None:
            self._evict_to(prefix, self.free_blocks)
            prefix.cache_blocks(request, computed_tokens // self.block_size)
            num_blocks -= prefix.num_cached(request)
            num_blocks += prefix.release(request)
        super()._give_back(request, num_blocks, computed_tokens)

    def _evict_to(self, prefix: BlockHashCache, num_blocks: int) -> None:
        """Let no more than so many KV blocks that nobody holds have labels."""
        num_evicted = prefix.evict_to(num_blocks)
        if not num_evicted:
            return
        evictions, number = self.request_events.evictions, self.num_started
        if evictions and evictions[-1][1] == number:
            num_evicted += evictions.pop()[0]
        evictions.append((num_evicted, number))

    def _in_batch_order(self, requests: list[int]) -> list[int]:
        if self.prefix is None or len(requests) < 2:
            return requests
        members = set(requests)
        return [request for request in self.running if request in members]

    # -- labels ---------------------------------------------------------------------------------

    def _cache_filled(self, batch: Batch) -> None:
        prefix, block_size = self.prefix, self.block_size
        if prefix is None:
            return
        self._evict_to(prefix, self.free_blocks)
        computed = {chunk.request: chunk.context_tokens + chunk.num_tokens for chunk in batch.chunks}
        if self._sharing and batch.num_decodes:
            computed |= self._filled_by_decodes()
            computed = {request: computed[request] for request in self._in_batch_order([*computed])}
        for request, num_tokens in computed.items():
            prefix.cache_blocks(request, num_tokens // block_size)

    def _filled_by_decodes(self) -> dict[int, int]:
        """Tokens of decodes that fill a KV block with the batch that is being formed, and may share it with others."""
        decodes = self._step_decodes
        assert decodes is not None
        filled = {one: decodes.context_of(one) + 1 for one in self._sharing_of(decodes.before_full(1))}
        if not self.lookahead:
            return filled
        full = {one: decodes.context_of(one) for one in self._sharing_of(decodes.before_full(0))}
        # The block of a token that nobody knows yet has no label.
        return full | {one: min(num_tokens, self.known_tokens(one)) for one, num_tokens in filled.items()}

    def _repeat_caching(self, batch: Batch) -> Iterator[int]:
        prefix, decodes = self.prefix, self.in_flight[0][1]
        assert prefix is not None
        assert decodes is not None
        for free_blocks in super().repeat(batch):
            for request in self._in_batch_order(self._sharing_of(decodes.before_full(1))):
                prefix.cache_blocks(request, (decodes.context_of(request) + 1) // self.block_size)
            yield free_blocks

    def _cache_known(self) -> None:
        """Label what is full now that the tokens of a batch are known."""
        assert self.prefix is not None
        for decodes in self.decode_sets():
            for num_unknown in range(self.lookahead + 1):
                for request in self._sharing_of(decodes.before_full(-num_unknown)):
                    self.prefix.cache_blocks(request, (self.known_tokens(request) - 1) // self.block_size)

    def _sharing_of(self, requests: Iterable[int]) -> list[int]:
        sharing = self._sharing
        return [request for request in requests if request in sharing]

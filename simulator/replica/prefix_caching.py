"""When the KV blocks of a replica's requests are cached."""

from collections.abc import Collection, Iterable, Mapping

from simulator.kv_cache import KVPool
from simulator.replica.batch import Batch
from simulator.replica.decode_set import DecodeSet
from simulator.replica.in_flight import InFlight


class PrefixCaching:
    """Caches the full KV blocks of requests, as in vLLM V1.

    Full blocks are cached when the tokens that fill them are scheduled or, if these are not known yet, when they
    become known. Blocks that a decode fills are cached when its request finishes or is preempted; those that other
    requests have too are cached as they fill. Without a prefix cache, nothing is done.

    Attributes:
        shared_outputs: Decoding requests that fill blocks which other requests have too.
    """

    __slots__ = ("_in_flight", "_kv", "_prefilling", "_running", "shared_outputs")

    def __init__(
        self, kv: KVPool, in_flight: InFlight, running: Mapping[int, None], prefilling: Mapping[int, int]
    ) -> None:
        """Start without requests.

        Args:
            kv: KV blocks.
            in_flight: Decoding requests.
            running: Running requests in the engine's order.
            prefilling: Unfinished prefills, and their scheduled tokens.
        """
        self._kv = kv
        self._in_flight = in_flight
        self._running = running
        self._prefilling = prefilling
        self.shared_outputs: dict[int, None] = {}

    def add(self, request: int, computed_tokens: int) -> None:
        """Note a request that starts to decode after `computed_tokens` tokens."""
        prefix = self._kv.prefix
        if prefix is not None and prefix.is_shared(request, computed_tokens // self._kv.block_size):
            self.shared_outputs[request] = None

    def discard(self, request: int) -> None:
        """Forget a request that no longer decodes."""
        self.shared_outputs.pop(request, None)

    def clear(self) -> None:
        """Forget all requests."""
        self.shared_outputs.clear()

    def in_batch_order(self, requests: list[int]) -> list[int]:
        """Return requests of one batch in batch order, if their order matters."""
        if self._kv.prefix is None or len(requests) < 2:
            return requests
        members = set(requests)
        return [request for request in self._running if request in members]

    def cache_scheduled(self, requests: Collection[int], all_decodes: bool = False) -> None:
        """Cache the blocks that scheduled tokens fill.

        First evict the blocks that were taken for them.

        Args:
            requests: Requests that have just been given tokens.
            all_decodes: Whether all decodes of the step have been given their tokens, too.
        """
        self._kv.evict()
        filled = {request: self._prefilling[request] for request in requests if request in self._prefilling}
        forming = self._in_flight.forming
        if self.shared_outputs and forming is not None:
            if all_decodes:
                filled |= self._filled_by_all(forming)
            else:
                filled |= {request: self._fills(request, forming) for request in self._shared(requests)}
        for request in self.in_batch_order([*filled]):
            self._kv.cache(request, filled[request])

    def cache_repeated(self, batch: Batch) -> None:
        """Cache the blocks that the tokens of a repeated batch fill."""
        if batch.decodes is None:
            return
        for request in self.in_batch_order(self._shared(batch.decodes.full_after(0))):
            self._kv.cache(request, batch.decodes.context_of(request))

    def cache_known(self) -> None:
        """Cache blocks full of known tokens, once a batch's results are known."""
        if not self.shared_outputs:
            return
        for decodes in self._in_flight.sets():
            for num_unknown in range(self._in_flight.lookahead + 1):
                for request in self._shared(decodes.full_after(-num_unknown)):
                    self._kv.cache(request, self._in_flight.known_tokens(request) - 1)

    def _filled_by_all(self, forming: DecodeSet) -> dict[int, int]:
        """Return tokens to cache of the decodes that fill a block."""
        full = {request: forming.context_of(request) for request in self._shared(forming.full_after(0))}
        return full | {request: self._fills(request, forming) for request in self._shared(forming.full_after(1))}

    def _fills(self, request: int, forming: DecodeSet) -> int:
        """Return the tokens of a decode that can be cached.

        A block with an unknown token has no hash.
        """
        return min(forming.context_of(request) + 1, self._in_flight.known_tokens(request))

    def _shared(self, requests: Iterable[int]) -> list[int]:
        shared_outputs = self.shared_outputs
        return [request for request in requests if request in shared_outputs]

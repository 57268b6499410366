"""Front end of a replica: before the scheduler."""

from simulator.cluster.replica_spec import ReplicaSpec


class FrontEnd:
    """HTTP server and tokenizer of one replica, one request at a time."""

    def __init__(self, spec: ReplicaSpec) -> None:
        self._per_request_s = spec.front_end_s
        self._per_token_s = spec.front_end_per_token_s
        self._free_s = 0.0

    def ready_s(self, now_s: float, prompt_tokens: int) -> float:
        """Return when the scheduler sees a request that arrives now."""
        start_s = self._free_s if self._free_s > now_s else now_s
        self._free_s = start_s + self._per_request_s + self._per_token_s * prompt_tokens
        return self._free_s

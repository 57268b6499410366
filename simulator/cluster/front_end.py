"""The front end of a replica: what passes between the arrival of a request and the scheduler."""

from simulator.cluster.replica_spec import ReplicaSpec


class FrontEnd:
    """HTTP server, tokenizer and messages of one replica, which one process handles request by request."""

    def __init__(self, spec: ReplicaSpec) -> None:
        self._per_request_s = spec.front_end_s
        self._per_token_s = spec.front_end_per_token_s
        self._free_s = 0.0

    def ready_s(self, now_s: float, prompt_tokens: int) -> float:
        """Return when the scheduler sees a request that arrives now, and book the process until then."""
        start_s = self._free_s if self._free_s > now_s else now_s
        self._free_s = start_s + self._per_request_s + self._per_token_s * prompt_tokens
        return self._free_s

"""Throughput: requests finished and tokens emitted per second."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from simulator.results.tokens import Bools, Floats, Ints, TokenLog, last_token_s, num_tokens


@dataclass(frozen=True)
class Throughput:
    """Requests finished and tokens emitted per second of the makespan.

    It lasts from the first arrival to the last token. Tokens of requests that did not finish count: they were produced,
    and paid for.

    Attributes:
        logs: Tokens, by replica.
        arrival_s: float64[num_requests].
        counted: bool[num_requests], the requests that are measured.
        finished: bool[num_requests].
    """

    logs: Sequence[TokenLog]
    arrival_s: Floats
    counted: Bools
    finished: Bools

    @cached_property
    def makespan_s(self) -> float | None:
        """Seconds from the first arrival to the last token; None: no token."""
        last_s = max((last_token_s(log, self.counted) for log in self.logs), default=-np.inf)
        return float(last_s - self.arrival_s[self.counted].min()) if last_s > -np.inf else None

    def of(self, wanted: Bools) -> dict[str, float | None]:
        """Return requests and output tokens per second of some requests.

        Args:
            wanted: bool[num_requests].
        """
        counted = self.counted & wanted
        num_finished = int(np.count_nonzero(counted & self.finished))
        return self._per_s(num_finished, sum(num_tokens(log, counted) for log in self.logs))

    def by_replica(self, replica: Ints) -> list[dict[str, float | None]]:
        """Return requests and output tokens per second of each replica.

        Args:
            replica: int64[num_requests], the replica that served each request last; negative: none.
        """
        served = self.counted & self.finished & (replica >= 0)
        num_finished = np.bincount(replica[served], minlength=len(self.logs)).tolist()
        return [
            self._per_s(finished, num_tokens(log, self.counted))
            for finished, log in zip(num_finished, self.logs, strict=True)
        ]

    def _per_s(self, num_finished: int, num_emitted: int) -> dict[str, float | None]:
        if not self.makespan_s:
            return {"requests_per_s": None, "output_tokens_per_s": None}
        return {
            "requests_per_s": num_finished / self.makespan_s,
            "output_tokens_per_s": num_emitted / self.makespan_s,
        }

"""Throughput: requests finished and tokens emitted per second."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from simulator.results.tokens import Bools, Floats, Ints, TokenLog, emitted_tokens, last_token_s


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
    def tokens_by_replica(self) -> Sequence[Ints]:
        """Output tokens of each request at each replica: int64[num_requests] by replica."""
        return [emitted_tokens(log, len(self.counted)) for log in self.logs]

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
        num_tokens = sum(int(tokens[counted].sum()) for tokens in self.tokens_by_replica)
        return self._per_s(int(np.count_nonzero(counted & self.finished)), num_tokens)

    def of_replica(self, number: int, sent: Bools) -> dict[str, float | None]:
        """Return requests and output tokens per second of one replica.

        Args:
            number: Number of the replica.
            sent: bool[num_requests], the requests that it served last.
        """
        num_finished = int(np.count_nonzero(self.counted & self.finished & sent))
        return self._per_s(num_finished, int(self.tokens_by_replica[number][self.counted].sum()))

    def _per_s(self, num_finished: int, num_tokens: int) -> dict[str, float | None]:
        if not self.makespan_s:
            return {"requests_per_s": None, "output_tokens_per_s": None}
        return {
            "requests_per_s": num_finished / self.makespan_s,
            "output_tokens_per_s": num_tokens / self.makespan_s,
        }

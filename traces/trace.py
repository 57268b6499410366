"""A workload as arrays."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Trace:
    """Requests in order of arrival.

    Attributes:
        prompt_tokens: int64[num_requests], at least 1 each.
        output_tokens: int64[num_requests], at least 1 each.
        arrival_s: float64[num_requests], not decreasing, from 0 on; None if there are lengths only.
        request_id: str[num_requests], unique; None: the row numbers.
        session: int64[num_requests], equal for requests of one session, negative: in none; None: there are none.
    """

    prompt_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    arrival_s: NDArray[np.float64] | None = None
    request_id: NDArray[np.str_] | None = None
    session: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        """Check lengths and ranges."""
        num_requests = len(self.prompt_tokens)
        for name in ("prompt_tokens", "output_tokens", "arrival_s", "request_id", "session"):
            values = getattr(self, name)
            if values is not None and len(values) != num_requests:
                raise ValueError(f"{name} has {len(values)} entries, prompt_tokens {num_requests}")
        if num_requests == 0:
            raise ValueError("a trace needs at least one request")
        for name in ("prompt_tokens", "output_tokens"):
            values = getattr(self, name)
            if not np.issubdtype(values.dtype, np.integer) or values.min() < 1:
                raise ValueError(f"{name} must be integers of at least 1")
        if self.arrival_s is not None and not (
            np.all(np.isfinite(self.arrival_s)) and self.arrival_s[0] >= 0 and np.all(np.diff(self.arrival_s) >= 0)
        ):
            raise ValueError("arrival_s must be finite, at least 0 and not decreasing")

    def __len__(self) -> int:
        """Return the number of requests."""
        return len(self.prompt_tokens)


class TraceSource(Protocol):
    """Where the requests come from: a generator or a file."""

    def load(self, rng: np.random.Generator) -> Trace:
        """Generate or read the requests.

        Args:
            rng: Randomness of generators; readers do not use it.
        """
        ...


class ArrivalProcess(Protocol):
    """When the requests arrive."""

    def assign(self, trace: Trace, rng: np.random.Generator) -> Trace:
        """Return the trace with arrival times."""
        ...

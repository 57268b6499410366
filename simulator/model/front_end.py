"""Time of a serving engine's front end: HTTP server, tokenizer and detokenizer."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from traces.shared.value_checks import each, number

LONGEST_S = 1e6

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class FrontEndTime:
    """Times of a front end: event loop, and tokenizer beside it.

    Attributes:
        request_s: Seconds of the event loop per request.
        latency_s: Seconds in addition before the scheduler sees a request, off the event loop.
        latency_per_token_s: Seconds per prompt token in addition, off the event loop.
        step_s: Seconds of the event loop per iteration of the engine.
        token_s: Seconds of the event loop per streamed token.
    """

    request_s: float = 0.0
    latency_s: float = 0.0
    latency_per_token_s: float = 0.0
    step_s: float = 0.0
    token_s: float = 0.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        each(number, self, vars(self), 0, LONGEST_S)

    def step_time(self, num_tokens: float) -> float:
        """Return the event loop's seconds to send an iteration's tokens."""
        return self.step_s + self.token_s * num_tokens

    def busy_s(self, num_requests: int, num_iterations: int, num_tokens: int) -> float:
        """Return the seconds for which the event loop works."""
        return self.request_s * num_requests + self.step_s * num_iterations + self.token_s * num_tokens

    def delivered_s(self, end_s: Floats, num_tokens: Floats) -> Floats:
        """Return when the tokens of each iteration reach the clients.

        All of an iteration are sent together, after those of earlier ones.

        Args:
            end_s: float64[num_iterations], ends of the iterations in order.
            num_tokens: float64[num_iterations], tokens that they emit.

        Returns:
            float64[num_iterations].
        """
        if not (self.step_s or self.token_s):
            return end_s
        busy_s = np.cumsum(self.step_s + self.token_s * num_tokens)
        # Work starts at the end of an iteration or when the work before it is done.
        idle_until_s = np.maximum.accumulate(end_s - np.concatenate([[0.0], busy_s[:-1]]))
        return np.asarray(idle_until_s + busy_s)

"""Faults that happened, each at one replica."""

import math
from dataclasses import dataclass

KINDS = FAILURE, SLOWDOWN, NETWORK = ("failure", "slowdown", "network")


@dataclass(frozen=True)
class FaultSpan:
    """A fault of one replica.

    Attributes:
        kind: FAILURE, SLOWDOWN or NETWORK.
        at_s: When it begins, simulated seconds.
        for_s: How long it lasts, seconds; None: forever.
        replica: Number of the replica.
        slowdown: Factor on the time of iterations (SLOWDOWN) or messages (NETWORK); 1 for failures.
    """

    kind: str
    at_s: float
    for_s: float | None
    replica: int
    slowdown: float = 1.0

    @property
    def end_s(self) -> float:
        """When it ends; infinity: never."""
        return math.inf if self.for_s is None else self.at_s + self.for_s

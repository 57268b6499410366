"""Faults of a run."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from simulator.log import FAILURE, KINDS, FaultSpan


@dataclass(frozen=True)
class FaultResult:
    """Faults of a run.

    Attributes:
        spans: Sorted by start, each of one replica.
        tokens_lost: Tokens in the KV cache lost to failures.
    """

    spans: Sequence[FaultSpan] = ()
    tokens_lost: int = 0

    @cached_property
    def _by_replica(self) -> dict[tuple[int | None, str], list[FaultSpan]]:
        spans: dict[tuple[int | None, str], list[FaultSpan]] = {}
        for fault in self.spans:
            spans.setdefault((fault.replica, fault.kind), []).append(fault)
        return spans

    def within(self, replica: int, begin_s: float, end_s: float) -> list[tuple[str, float, float]]:
        """Return the faults of a replica within a time span.

        Returns:
            Kind, start and end of each fault, seconds. Faults of one kind do not overlap.
        """
        spans = []
        for kind in KINDS:
            reach_s = begin_s
            for fault in self._by_replica.get((replica, kind), ()):
                first_s, last_s = max(fault.at_s, reach_s), min(fault.end_s, end_s)
                if last_s > first_s:
                    spans.append((kind, first_s, last_s))
                    reach_s = last_s
        return spans

    def down_s(self, replica: int, begin_s: float, end_s: float) -> float:
        """Return the seconds within a time span that a replica was down."""
        return sum(last - first for kind, first, last in self.within(replica, begin_s, end_s) if kind == FAILURE)

    def summary(self, num_replicas: int, num_retries: int, begin_s: float, end_s: float) -> dict[str, Any]:
        """Return the `faults` of the summary: counts, tokens lost and availability."""
        count = {kind: sum(fault.kind == kind for fault in self.spans) for kind in KINDS}
        down_s = sum(self.down_s(replica, begin_s, end_s) for replica in range(num_replicas))
        span_s = (end_s - begin_s) * num_replicas
        return {
            "num_failures": count[FAILURE],
            "num_slowdowns": count["slowdown"],
            "num_network": count["network"],
            "num_retries": num_retries,
            "kv_tokens_lost": self.tokens_lost,
            "availability": 1 - down_s / span_s if span_s > 0 else None,
        }

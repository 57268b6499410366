"""A waiting queue sorted by a key, such as priority."""

from bisect import insort
from collections import deque
from collections.abc import Callable
from typing import Any

Rank = Callable[[int], Any]


class SortedQueue(deque[int]):
    """Waiting requests sorted by a key, the smallest at the head."""

    def __init__(self, rank: Rank) -> None:
        """Start empty.

        Args:
            rank: Sort key of a request.
        """
        super().__init__()
        self._rank = rank

    def append(self, request: int) -> None:
        """Insert a request in sorted order."""
        insort(self, request, key=self._rank)

    appendleft = append

"""A queue that is sorted by something else than arrival."""

from bisect import insort
from collections import deque
from collections.abc import Callable
from typing import Any

Rank = Callable[[int], Any]


class SortedQueue(deque[int]):
    """Waiting requests, the smallest by a key in front, wherever they are put."""

    def __init__(self, rank: Rank) -> None:
        """Start empty.

        Args:
            rank: What requests are sorted by.
        """
        super().__init__()
        self._rank = rank

    def append(self, request: int) -> None:
        """Put a request in its place."""
        insort(self, request, key=self._rank)

    appendleft = append

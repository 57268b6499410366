"""Limit of the clients on their requests in flight."""

from collections import deque


class ConcurrencyLimit:
    """Places for requests in flight.

    Other requests wait to be sent, in order of arrival.
    """

    def __init__(self, max_concurrency: int) -> None:
        """Start with all places free.

        Args:
            max_concurrency: Number of places.
        """
        self._num_free = max_concurrency
        self._waiting: deque[int] = deque()

    def take(self, request: int) -> bool:
        """Give a request a place; queue it if there is none."""
        if self._num_free == 0:
            self._waiting.append(request)
            return False
        self._num_free -= 1
        return True

    def release(self) -> int | None:
        """Free a place; return the request that gets it, or None."""
        if self._waiting:
            return self._waiting.popleft()
        self._num_free += 1
        return None

"""Limit of the clients on their requests in flight."""

from collections import deque


class ConcurrencyLimit:
    """Places for requests in flight; others wait to be sent, in order of arrival."""

    def __init__(self, max_concurrency: int) -> None:
        """Start with all places free.

        Args:
            max_concurrency: Number of places.
        """
        self._num_free = max_concurrency
        self._waiting: deque[int] = deque()

    def take(self, request: int) -> bool:
        """Give a request a place, or let it wait; return whether it has one."""
        if self._num_free == 0:
            self._waiting.append(request)
            return False
        self._num_free -= 1
        return True

    def release(self) -> int | None:
        """Return the request that gets the place of an ended one; None: no request waits."""
        if self._waiting:
            return self._waiting.popleft()
        self._num_free += 1
        return None

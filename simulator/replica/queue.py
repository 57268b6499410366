"""Waiting requests, in the order in which they are to be admitted."""

from bisect import bisect
from collections import deque
from collections.abc import Callable
from typing import Any, NoReturn

from simulator.replica.errors import PolicyError

Rank = Callable[[int], Any]
_append, _appendleft, _insert, _popleft, _remove = (
    deque.append,
    deque.appendleft,
    deque.insert,
    deque.popleft,
    deque.remove,
)


def _refuse(*_: object, **__: object) -> NoReturn:
    raise PolicyError("the policy changes the queue itself; only admit, preempt and ignore may")


class WaitingQueue(deque[int]):
    """Waiting requests, head of the queue first; policies only read it."""

    append = appendleft = clear = extend = extendleft = insert = pop = popleft = remove = reverse = rotate = _refuse
    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse

    def __init__(self, rank: Rank | None = None) -> None:
        """Start empty.

        Args:
            rank: Sort key of a request, the smallest at the head; None: first come, first served.
        """
        super().__init__()
        self._rank = rank

    def push(self, request: int) -> None:
        """Queue an arriving request."""
        if self._rank is None:
            _append(self, request)
        else:
            _insert(self, bisect(self, self._rank(request), key=self._rank), request)

    def put_back(self, request: int) -> None:
        """Queue a preempted request: at the head, or in sorted order."""
        if self._rank is None:
            _appendleft(self, request)
        else:
            self.push(request)

    def take(self, request: int) -> None:
        """Remove a request.

        Raises:
            PolicyError: It does not wait.
        """
        if self and self[0] == request:
            _popleft(self)
            return
        try:
            _remove(self, request)
        except ValueError:
            raise PolicyError(f"request {request} does not wait") from None

    def drop_all(self) -> list[int]:
        """Remove and return all requests, head first."""
        requests = list(self)
        super().clear()
        return requests
